#!/bin/bash
# Do fewer bits train as well? The same model and seeds with each choice of
# weights, masters and state, two single-thread processes at a time. Runs that
# have finished are not repeated.
#
#   tools/train/precision.sh [FOLDER]    by default out/precision
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tools/env.sh"
out=${1:-out/precision}
steps=${ZEROMINI_PRECISION_STEPS:-600}
jobs=${ZEROMINI_PRECISION_JOBS:-2}
mkdir -p "$out"

# OPTIMIZER DTYPE MASTER MOMENTUM SEED
train() {
  local name=$1-$2-$3-$4-$5
  local master=(--master "$3")
  [ "$2" = fp32 ] && master=()
  [ -f "$out/$name/run.json" ] && return 0
  zeromini-train pretrain --comm self --model llama-1m --batch 8 --length 64 \
    --optimizer "$1" --dtype "$2" "${master[@]}" --momentum "$4" \
    --steps "$steps" --seed "$5" --eval-every 0 --eval-batches 128 \
    --overwrite --out "$out/$name" >"$out/$name.log" 2>&1 ||
    { echo "precision: $name failed, see $out/$name.log" >&2; return 1; }
  echo "done: $name"
}
export -f train
export out steps

for seed in 1 2 3; do
  for optimizer in adam-mini adamw; do
    while read -r formats; do
      echo "$optimizer $formats $seed"
    done <<'FORMATS'
fp32 none fp32
fp32 none bf16
fp32 none int8
bf16 fp32 fp32
bf16 remainder16 bf16
bf16 remainder8 fp32
bf16 remainder8 int8
bf16 none fp32
FORMATS
  done
done | xargs -P "$jobs" -L 1 bash -c 'train "$@"' train

zeromini summarize --markdown --json "$out/precision.json" \
  "$out"/*-[123]/ | tee "$out/precision-table.md"
