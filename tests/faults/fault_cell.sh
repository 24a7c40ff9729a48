#!/bin/bash
# Rounds of one cell of the fault matrix: four ranks train, one is killed or
# stopped in a phase, and each survivor must say so, naming it, in time.
#
#   fault_cell.sh MPIEXEC FAULT_RANK PHASE SIGNAL ROUNDS OUT
set -u
mpiexec=$1 program=$2 phase=$3 signal=$4 rounds=$5 out=$6
wait_seconds=60
rm -rf "$out"
failed=0

for ((round = 0; round < rounds; ++round)); do
  folder=$out/$round
  mkdir -p "$folder"
  # Open MPI's default ends the whole job with its first rank.
  "$mpiexec" --enable-recovery -n 4 "$program" "$phase" "$signal" "$round" \
    "$folder" >"$folder/log" 2>&1 &
  launcher=$!
  victim=$((round % 4))
  deadline=$((SECONDS + wait_seconds))
  until [ "$(find "$folder" -name 'rank-?' | wc -l)" -ge 3 ] ||
    [ $SECONDS -ge $deadline ] || ! kill -0 $launcher 2>/dev/null; do
    sleep 0.1
  done
  # A stopped rank would keep mpirun from ending.
  [ -f "$folder/pid-$victim" ] && kill -9 "$(cat "$folder/pid-$victim")" 2>/dev/null
  # Not on our stdout: CTest waits until nobody has it open, the sleep included.
  ( sleep 20; kill -9 $launcher ) >/dev/null 2>&1 &
  guard=$!
  wait $launcher 2>/dev/null
  kill $guard 2>/dev/null
  good=$(cat "$folder"/rank-? 2>/dev/null | grep -c '^good: ')
  if [ "$good" -ne 3 ]; then
    failed=$((failed + 1))
    echo "round $round: $good of 3 survivors are content; rank $victim was the victim"
    cat "$folder"/rank-? 2>/dev/null
    tail -n 20 "$folder/log"
  fi
done
# A signal that comes up to 2 ms after its phase has begun may come late.
caught() {  # caught PURPOSE: rounds in which survivors waited in it.
  grep -ls "^good: .* of $1" "$out"/*/rank-? | xargs -rn 1 dirname | sort -u |
    wc -l
}
echo "$phase, $signal: $((rounds - failed)) of $rounds rounds good;" \
  "survivors waited in gradients $(caught gradients)," \
  "scalars $(caught scalars), weights $(caught weights)"
[ $failed -eq 0 ]
