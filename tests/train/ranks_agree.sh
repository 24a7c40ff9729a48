#!/bin/bash
# ranks_agree.sh PROGRAM MPIEXEC FOLDER: the same global batch on 1, 2 and 4 MPI
# ranks ends, after 200 steps, at validation losses within 2e-3 of each other;
# and a wrong world size ends with 2 before anything is trained.
set -euo pipefail
program=$1 mpiexec=$2 out=$3
rm -rf "$out"
mkdir -p "$out"
awk 'BEGIN { srand(7); for (i = 0; i < 40000; ++i)
  printf "%s ", substr("thequickbrownfoxjumpsoverthelazydog", 1 + int(rand() * 30), 1 + int(rand() * 5)) }' \
  >"$out/text.txt"

losses=
for ranks in 1 2 4; do
  for stage in 1 2 3; do
    "$mpiexec" -n $ranks "$program" pretrain --comm mpi --data "$out/text.txt" \
      --hidden 32 --layers 2 --heads 4 --kv-heads 2 --ffn 64 --context 32 \
      --batch 8 --steps 200 --lr 2e-3 --stage $stage --eval-every 0 \
      --out "$out/$ranks-$stage" --json "$out/$ranks-$stage.json" >/dev/null
    losses+=$(sed -n 's/^ *"validation_loss": *\([0-9.]*\),*$/\1/p' \
      "$out/$ranks-$stage.json")$'\n'
  done
done
printf '%s' "$losses"
printf '%s' "$losses" | awk '
  NR == 1 { low = high = $1 } { if ($1 < low) low = $1; if ($1 > high) high = $1 }
  END { print "runs", NR, "spread", high - low; exit !(NR == 9 && low > 0 && high - low < 2e-3) }'

status=0
WORLD_SIZE=3 "$mpiexec" -n 2 "$program" pretrain --out "$out/never" \
  >"$out/never.log" 2>&1 || status=$?
grep -q "WORLD_SIZE is 3 but the group of this process has 2 ranks" "$out/never.log"
[ $status -eq 2 ] && [ ! -e "$out/never" ]
