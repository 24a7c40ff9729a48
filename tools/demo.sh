#!/bin/bash
# Trains a small Llama (1 M parameters, byte-level) on two ranks, once with
# Adam-mini and once with AdamW, and compares them. Installs and builds what is
# missing first. Two to three and a half minutes of training on two cores.
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
for optimizer in adam-mini adamw; do
  echo
  echo "training with $optimizer on 2 ranks, $steps steps"
  mpirun -n 2 zeromini-train pretrain --model llama-1m --optimizer "$optimizer" \
    --stage 2 --steps "$steps" --seed 1 --overwrite --out "$out/$optimizer"
done

echo
zeromini report "$out/adam-mini" "$out/adamw" --out "$out/report.html"
echo "Short runs flatter AdamW: see docs/measurements for longer ones."
echo "trained in $((SECONDS - began)) s; open $out/report.html"
