#!/bin/bash
# broken_runs.sh PROGRAM MPIEXEC FOLDER: what only one of two MPI ranks meets is
# said by both, and in time: other options than rank 0's, a disk that is full in
# mid-run, a rank that stops. And the size of a SLURM allocation stops nobody.
set -euo pipefail
program=$1 mpiexec=$2 out=$3
rm -rf "$out"
mkdir -p "$out"
seq -f "the quick brown fox jumps over %g lazy dogs" 2000 >"$out/text.txt"
flags="pretrain --data $out/text.txt --hidden 32 --layers 1 --heads 4
  --kv-heads 2 --ffn 32 --context 16 --batch 4 --eval-every 0 --eval-batches 1"

fail() {
  echo "broken_runs: $1" >&2
  cat "$out"/*.log >&2
  exit 1
}

# What mpirun's job left: exit code, and a line of rank $2 about $3.
expect() {
  local name=$1 code=$2 said=$3
  [ "$status" -eq "$code" ] || fail "$name: exit code $status, not $code"
  grep -q "$said" "$out/$name.log" || fail "$name: nobody says '$said'"
}

# Starts a run without end on 2 ranks, and returns when it is training.
start() {
  local name=$1
  shift
  "$mpiexec" -n 2 bash -c 'trap "" XFSZ
    echo $$ >"$0.$OMPI_COMM_WORLD_RANK"; exec "$@"' "$out/$name.pid" \
    "$program" $flags --steps 1000000 --out "$out/$name" "$@" \
    >"$out/$name.log" 2>&1 &
  job=$!
  until [ "$(wc -l 2>/dev/null <"$out/$name/metrics.jsonl" || echo 0)" -gt 3 ]
  do
    kill -0 $job 2>/dev/null || fail "$name: it does not train"
    sleep 0.1
  done
}

status=0
"$mpiexec" -n 1 "$program" $flags --steps 1 --seed 1 --out "$out/differ" : \
  -n 1 "$program" $flags --steps 1 --seed 2 --out "$out/differ" \
  >"$out/differ.log" 2>&1 || status=$?
expect differ 2 "seed is 2 on rank 1 but 1 on rank 0"
[ ! -e "$out/differ" ] || fail "differ: a run that was refused left a folder"

status=0
SLURM_NTASKS=8 "$mpiexec" -n 2 "$program" $flags --steps 1 --out "$out/slurm" \
  >"$out/slurm.log" 2>&1 || status=$?
expect slurm 0 "step 1/1"

start full
status=0
prlimit --pid "$(cat "$out/full.pid.0")" --fsize=1
wait $job || status=$?
for rank in 0 1; do
  expect full 1 "rank $rank: step [0-9]*: .*/full/metrics.jsonl: .*written"
done

start stopped --timeout 2
status=0
kill -STOP "$(cat "$out/stopped.pid.1")"
wait $job || status=$?
expect stopped 1 "rank 0: .*waited [12][.0-9]*s in .*rank 1 did not come"
