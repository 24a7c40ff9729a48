#!/bin/bash
# Checks everything on a bare Debian 12: lint, sanitizers, clang, the build
# without MPI and LibTorch, and last the full release build and its tests.
# Ends 0 if all is well. Takes no argument.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. tools/env.sh
tools/install_packages.sh

jobs=$(env -u OMP_NUM_THREADS nproc)  # nproc obeys it, and env.sh sets it.
section() { printf '\n==== %s (%d s)\n' "$1" "$SECONDS"; }

configure() {  # configure <preset>
  cmake --preset "$1" >"build/$1.configure.log" 2>&1 || {
    cat "build/$1.configure.log"
    return 1
  }
}

build() {  # build <preset> [targets...]
  configure "$1"
  if [ $# -gt 1 ]; then
    cmake --build --preset "$1" -j "$jobs" --target "${@:2}"
  else
    cmake --build --preset "$1" -j "$jobs"
  fi
}

mkdir -p build

section "lint"
tools/lint.sh

# Without MPI and LibTorch, which are not instrumented.
section "address and undefined behaviour sanitizers"
build asan
ctest --preset asan -j "$jobs"

section "thread sanitizer: communicators and runtime"
configure tsan
mapfile -t threaded < <(ninja -C build/tsan -t targets all |
  sed -nE 's/^(bin\/(comm|runtime|ranks|faults)\.[^:]*):.*/\1/p' | grep -v golden)
cmake --build --preset tsan -j "$jobs" --target "${threaded[@]}"
ctest --preset tsan -j "$jobs"

section "clang: the same bits"
build clang kernels.kernel_bits_test kernels.cpu_kernels_test
ctest --preset clang -R '^kernels\.(kernel_bits|cpu_kernels)_test$'

section "release"
build release
ctest --preset release -j "$jobs"
