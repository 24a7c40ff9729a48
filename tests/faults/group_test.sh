#!/bin/bash
# group_test.sh CASE MPIEXEC GROUP_RANK: what happens to a group as a whole.
set -u
case=$1 mpiexec=$2 program=$3
out=$(mktemp -d)
launcher=""
finish() {
  [ -z "$launcher" ] || kill -KILL "$launcher" 2>/dev/null
  for file in "$out"/pid-?; do
    [ ! -f "$file" ] || kill -KILL "$(cat "$file")" 2>/dev/null
  done
  rm -rf "$out"
}
trap finish EXIT

fail() {
  echo "$*"
  tail -n 30 "$out/log" "$out"/rank-* 2>/dev/null
  exit 1
}

good() {  # good RANKS: all of them say so.
  [ "$(cat "$out"/rank-? 2>/dev/null | grep -c '^good$')" -eq "$1" ]
}

await_files() {  # await_files RANKS NAME
  for _ in {1..300}; do
    [ "$(find "$out" -name "$2-?" | wc -l)" -ge "$1" ] && return 0
    sleep 0.1
  done
  return 1
}

start_sums() {  # Four ranks, which exchange until they are told to end.
  "$mpiexec" -n 4 "$program" sum "$out" >"$out/log" 2>&1 &
  launcher=$!
  await_files 4 pid || fail "the ranks did not start"
}

end_sums() {  # They end, and their sums are right.
  touch "$out/end"
  wait $launcher
  local status=$?
  launcher=""
  [ $status -eq 0 ] && good 4 || fail "mpirun returned $status"
}

# A scheduler stops the job for longer than its timeout of 2 s, and goes on.
ASuspendedJobGoesOn() {
  start_sums
  read -ra ranks < <(cat "$out"/pid-? | tr '\n' ' ')
  # Twice, and the last to wait is the first to go on.
  for _ in 1 2; do
    for rank in 0 1 2 3; do kill -STOP "${ranks[rank]}"; sleep 0.05; done
    sleep 5
    for rank in 3 2 1 0; do kill -CONT "${ranks[rank]}"; sleep 0.2; done
    sleep 1
  done
  end_sums
}

# One rank is stopped, for less than the timeout but past the roll call.
ARankThatAnswersTheRollCallIsWaitedFor() {
  start_sums
  for _ in 1 2; do
    kill -STOP "$(cat "$out/pid-2")"
    sleep 1.7
    kill -CONT "$(cat "$out/pid-2")"
    sleep 1
  done
  end_sums
}

AGroupThatCannotBeMadeEndsWithoutFinalize() {
  timeout -s KILL 60 "$mpiexec" --enable-recovery -n 2 "$program" absent "$out" \
    >"$out/log" 2>&1
  [ -f "$out/rank-0-left" ] || fail "rank 0 did not leave"
  grep -q "DEADLINE_EXCEEDED: mpi: not all ranks wrapped" "$out/rank-0-left" ||
    fail "rank 0 says: $(cat "$out/rank-0-left")"
}

# Runs the case again in a mount namespace where /dev/shm has 2 MiB, as in a
# container.
with_small_shm() {
  [ -n "${ZEROMINI_SMALL_SHM:-}" ] ||
    exec env ZEROMINI_SMALL_SHM=1 unshare --mount bash -c \
      'mount -t tmpfs -o size=2m tmpfs /dev/shm && exec bash "$@"' - \
      "${BASH_SOURCE[0]}" "$case" "$mpiexec" "$program"
}

ASmallSharedMemoryIsDoneWithout() {
  with_small_shm
  timeout -s KILL 60 "$mpiexec" -n 4 "$program" once "$out" >"$out/log" 2>&1
  local status=$?
  [ $status -eq 0 ] && good 4 || fail "mpirun returned $status"
  [ "$(grep -c 'zeromini: warning: mpi: ranks 0, 1, 2 and 3 share no memory' \
    "$out/log")" -eq 1 ] || fail "there is not one warning"
}

ASmallSharedMemoryIsToldToTheSinkOfTheGroup() {
  with_small_shm
  timeout -s KILL 60 "$mpiexec" -n 4 "$program" logs "$out" >"$out/log" 2>&1 ||
    fail "mpirun returned $?"
  ! grep -q "share no memory" "$out/log" || fail "stderr has the warning"
  # What is split off knows already who is alone.
  [ "$(grep -c '^mpi: ranks 0, 1, 2 and 3 share no memory' \
    "$out/warnings-0")" -eq 1 ] || fail "the sink has not one warning"
  [ ! -e "$out/warnings-1" ] || fail "rank 1 warns, too"
}

if [[ $case = ASmallSharedMemory* ]] &&
  ! unshare --mount mount -t tmpfs tmpfs /dev/shm 2>/dev/null; then
  echo "skipped: no tmpfs can be mounted here"
  exit 77
fi
"$case"
