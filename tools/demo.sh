#!/bin/bash
# Trains a small Llama (1 M parameters, byte-level) on two ranks, with AdamW,
# with Adam-mini as published and with second moments that are factored in place
# of its blocks, and compares the three. Installs and builds what is missing
# first. Two to three and a half minutes of training on two cores.
#
#   tools/demo.sh [FOLDER]      results go to FOLDER, by default out/demo
#   ZEROMINI_DEMO_STEPS=2400    a longer run
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:-$root/out/demo}
steps=${ZEROMINI_DEMO_STEPS:-600}
mkdir -p "$out"
out=$(cd "$out" && pwd)

cd "$root"
. tools/env.sh
tools/install_packages.sh

echo "building ..."
cmake --preset release -DZEROMINI_WITH_TORCH=ON -DZEROMINI_WITH_MPI=ON \
  >"$out/build.log" 2>&1 &&
  cmake --build --preset release --target zeromini_train zeromini_program \
    >>"$out/build.log" 2>&1 || {
  tail -n 30 "$out/build.log" >&2
  echo "demo: the build failed; all of it is in $out/build.log" >&2
  exit 1
}

began=$SECONDS
# NAME FLAGS...
train() {
  echo
  echo "training with $1 on 2 ranks, $steps steps"
  mpirun -n 2 zeromini-train pretrain --model llama-1m "${@:2}" \
    --stage 2 --steps "$steps" --seed 1 --overwrite --out "$out/$1"
}
train adamw --optimizer adamw
train adam-mini --optimizer adam-mini
train factored --optimizer adam-mini --second-moment factored

echo
zeromini report "$out/adamw" "$out/adam-mini" "$out/factored" \
  --out "$out/report.html"
echo "One seed and one rate: see docs/measurements for more of them."
echo "trained in $((SECONDS - began)) s; open $out/report.html"
