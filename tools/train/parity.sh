#!/bin/bash
# Does Adam-mini train as well as AdamW? Every learning rate for a short while,
# then each variant at its best rate for longer with three seeds, two
# single-thread processes at a time. Runs that have finished are not repeated.
#
#   tools/train/parity.sh [FOLDER]    by default out/parity
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
. "$root/tools/env.sh"
out=${1:-out/parity}
rates=${ZEROMINI_PARITY_RATES:-"7.5e-4 1.5e-3 3e-3 6e-3"}
short=${ZEROMINI_PARITY_SHORT:-600}
long=${ZEROMINI_PARITY_LONG:-2400}
jobs=${ZEROMINI_PARITY_JOBS:-2}
mkdir -p "$out"

# NAME OPTIMIZER VALUE_BLOCKS RATE STEPS SEED
train() {
  [ -f "$out/$1/run.json" ] && return 0
  zeromini-train pretrain --comm self --model llama-1m --batch 8 --length 64 \
    --optimizer "$2" --value-blocks "$3" --lr "$4" --steps "$5" --seed "$6" \
    --eval-every 600 --eval-batches 128 --overwrite --out "$out/$1" >"$out/$1.log" 2>&1 ||
    { echo "parity: $1 failed, see $out/$1.log" >&2; return 1; }
  echo "done: $1"
}
export -f train
export out

run_all() { xargs -P "$jobs" -L 1 bash -c 'train "$@"' train; }

for rate in $rates; do
  echo "short-adamw-$rate adamw rows $rate $short 1"
  echo "short-mini-rows-$rate adam-mini rows $rate $short 1"
  echo "short-mini-whole-$rate adam-mini whole $rate $short 1"
done | run_all

zeromini summarize --best "$out"/short-*/ >"$out/best.tsv"
for seed in 1 2 3; do
  while IFS=$'\t' read -r optimizer rate; do
    case $optimizer in
      "adam-mini (whole)") echo "long-mini-whole-$seed adam-mini whole $rate $long $seed" ;;
      "adam-mini") echo "long-mini-rows-$seed adam-mini rows $rate $long $seed" ;;
      *) echo "long-adamw-$seed adamw rows $rate $long $seed" ;;
    esac
  done <"$out/best.tsv"
done | run_all

zeromini summarize --markdown --json "$out/parity.json" \
  "$out"/short-*/ "$out"/long-*/ | tee "$out/parity-table.md"
zeromini report "$out"/long-*/ --out "$out/parity.html" >/dev/null
