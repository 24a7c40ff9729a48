#!/bin/bash
# Do fewer bits train as well? The same model and seeds with each choice of
# weights, masters and state, two single-thread processes at a time. Runs that
# have finished are not repeated.
#
#   tools/train/precision.sh [FOLDER]    by default out/precision
#   ZEROMINI_PRECISION_SEEDS="4 5 6"     by default 1 2 3
#   ZEROMINI_PRECISION_OPTIMIZERS=adamw  by default adam-mini factored adamw
#   ZEROMINI_PRECISION_FORMATS="fp32 none int8;bf16 none fp32"
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tools/env.sh"
out=${1:-out/precision}
steps=${ZEROMINI_PRECISION_STEPS:-600}
jobs=${ZEROMINI_PRECISION_JOBS:-2}
seeds=${ZEROMINI_PRECISION_SEEDS:-1 2 3}
optimizers=${ZEROMINI_PRECISION_OPTIMIZERS:-adam-mini factored adamw}
# DTYPE MASTER MOMENTUM
formats=${ZEROMINI_PRECISION_FORMATS:-"fp32 none fp32;fp32 none bf16;fp32 none int8;\
bf16 fp32 fp32;bf16 remainder16 bf16;bf16 remainder8 fp32;\
bf16 remainder8 int8;bf16 none fp32"}
mkdir -p "$out"

# OPTIMIZER DTYPE MASTER MOMENTUM SEED
train() {
  local name=$1-$2-$3-$4-$5
  local master=(--master "$3")
  [ "$2" = fp32 ] && master=()
  local optimizer=(--optimizer "$1")
  [ "$1" = factored ] &&
    optimizer=(--optimizer adam-mini --second-moment factored)
  [ -f "$out/$name/run.json" ] && return 0
  zeromini-train pretrain --comm self --model llama-1m --batch 8 --length 64 \
    "${optimizer[@]}" --dtype "$2" "${master[@]}" --momentum "$4" \
    --steps "$steps" --seed "$5" --eval-every 0 --eval-batches 128 \
    --overwrite --out "$out/$name" >"$out/$name.log" 2>&1 ||
    { echo "precision: $name failed, see $out/$name.log" >&2; return 1; }
  echo "done: $name"
}
export -f train
export out steps

for seed in $seeds; do
  for optimizer in $optimizers; do
    tr ';' '\n' <<<"$formats" | while read -r format; do
      echo "$optimizer $format $seed"
    done
  done
done | xargs -P "$jobs" -L 1 bash -c 'train "$@"' train

zeromini summarize --markdown --json "$out/precision.json" \
  "$out"/*/ | tee "$out/precision-table.md"
