#!/bin/bash
# hosts_test.sh CASE PROGRAM GROUP_RANK: what becomes of a job that has lost
# ranks. PROGRAM is zeromini's. Where a case needs several hosts, they are
# tools/multihost.sh's.
set -u
case=$1 zeromini=$2 group_rank=$3
export ZEROMINI_HOSTS=zmfault
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
harness=$here/../../tools/multihost.sh
out=$(mktemp -d)
launcher=""
hosts=0

finish() {
  # So that it ends what it has started, if it can.
  [ -z "$launcher" ] || { kill -TERM "$launcher"; sleep 1; } 2>/dev/null
  [ -z "$launcher" ] || kill -KILL "$launcher" 2>/dev/null
  for process in $(ranks); do kill -KILL "$process"; done
  [ $hosts -eq 0 ] || "$harness" down
  rm -rf "$out"
}
trap finish EXIT

fail() {
  echo "$*"
  tail -n 30 "$out/log" "$out"/rank-* 2>/dev/null
  exit 1
}

up() {  # up N: hosts, or the end of the test.
  "$harness" up "$1" || exit $?
  hosts=$1
}

# The processes of `zeromini`, descendants of $launcher or on the hosts.
ranks() {
  local process
  for process in $(pgrep -x zeromini); do
    [[ "$(tr '\0' ' ' <"/proc/$process/cmdline")" == *"--json $out/json"* ]] &&
      echo "$process"
  done
}

# Trains until one of four ranks is killed; the job must end with an error.
lose_a_rank() {  # lose_a_rank LAUNCH...
  "$@" "$zeromini" bench step --no-baseline --params 4Mi --repetitions 1000 \
    --optimizer adam-mini --timeout 8 --json "$out/json" >"$out/log" 2>&1 &
  launcher=$!
  for _ in {1..200}; do
    [ "$(ranks | wc -l)" -eq 4 ] && break
    sleep 0.1
  done
  [ "$(ranks | wc -l)" -eq 4 ] || fail "$(ranks | wc -l) of 4 ranks started"
  sleep 3  # So that they step.
  [ "$(ranks | wc -l)" -eq 4 ] || fail "the job ended before a rank was lost"
  kill -KILL "$(ranks | tail -n 1)"
  for _ in {1..300}; do
    kill -0 "$launcher" 2>/dev/null || break
    sleep 0.1
  done
  kill -0 "$launcher" 2>/dev/null && fail "the job does not end"
  wait "$launcher"
  local status=$?
  launcher=""
  [ $status -ne 0 ] || fail "the job has lost a rank and returns 0"
  [ -z "$(ranks)" ] || fail "ranks are left: $(ranks)"
}

survivors_say() {  # survivors_say: each names the lost rank.
  [ "$(grep -cE 'rank [0-9].*did not come \(host' "$out/log")" -ge 3 ] ||
    fail "not all survivors name the lost rank"
}

WithoutRecoveryAJobThatLosesARankFails() {
  lose_a_rank mpirun -n 4
}

WithRecoveryAJobThatLosesARankFails() {
  lose_a_rank mpirun --enable-recovery -n 4
  survivors_say
}

WhereAFailedRankEndsNothingAJobThatLosesARankFails() {
  lose_a_rank mpirun --mca orte_abort_on_non_zero_status 0 -n 4
}

WithRecoveryAJobOnTwoHostsThatLosesARankFails() {
  up 2
  lose_a_rank "$harness" run 2 2 --mpirun --enable-recovery --
  survivors_say
}

# MPI_Init waits for the other rank, with which there is never a group.
ARankThatIsEndedBeforeItHasAGroupSaysSo() {
  mpirun -n 1 "$zeromini" bench step --json "$out/json" : -n 1 sleep 30 \
    >"$out/log" 2>&1 &
  launcher=$!
  for _ in {1..100}; do
    [ -n "$(ranks)" ] && break
    sleep 0.1
  done
  sleep 1  # So that it is in there.
  kill -TERM "$(ranks)"
  for _ in {1..50}; do
    grep -q 'zeromini bench step: ended by SIGTERM, in no group' "$out/log" &&
      break
    sleep 0.1
  done
  grep -q 'zeromini bench step: ended by SIGTERM, in no group' "$out/log" ||
    fail "the rank says nothing"
}

# Ranks that talk for the first time when the link is gone must not be ended by
# MPI: each side names the ranks of the other.
ACutLinkIsNamedOnBothSides() {
  up 2
  "$harness" run 2 2 --mpirun --enable-recovery -- "$group_rank" sum "$out" \
    >"$out/log" 2>&1 &
  launcher=$!
  for _ in {1..200}; do
    [ "$(find "$out" -name 'pid-?' | wc -l)" -eq 4 ] && break
    sleep 0.1
  done
  ip -n "${ZEROMINI_HOSTS}h1" link set eth0 down
  for _ in {1..150}; do
    [ "$(find "$out" -name 'rank-?' | wc -l)" -eq 4 ] && break
    sleep 0.1
  done
  grep -q 'ranks 2 and 3 did not come' "$out/rank-0" &&
    grep -q 'ranks 2 and 3 did not come' "$out/rank-1" &&
    grep -q 'ranks 0 and 1 did not come' "$out/rank-2" &&
    grep -q 'ranks 0 and 1 did not come' "$out/rank-3" ||
    fail "not every rank names those that it has lost"
}

"$case"
