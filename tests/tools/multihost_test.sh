#!/bin/bash
# multihost_test.sh CASE PROGRAM: one case of tools/multihost.sh; PROGRAM is
# zeromini, or empty if it was built without MPI. 0 good, 77 skipped.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
harness=$here/../../tools/multihost.sh
program=$2
export ZEROMINI_HOSTS=zmtest

fail() {
  echo "$*" >&2
  exit 1
}

# hosts VERB...: as multihost.sh; ends the test where there can be no hosts.
# Nothing that it starts holds the lock.
hosts() {
  local status=0
  "$harness" "$@" 9>&- || status=$?
  [[ $status -ne 77 ]] || exit 77
  return "$status"
}

# Two fresh hosts, and none once the test has ended. Another checkout's tests
# take turns with ours.
two_hosts() {
  exec 9>/tmp/zmtest.lock
  flock 9
  work=$(mktemp -d)
  trap 'hosts down; rm -rf "$work"' EXIT
  hosts down
  hosts up 2
  cd "$work"
}

running() {
  local name
  for name in zmtesth0 zmtesth1 zmtestsw; do ip netns pids "$name"; done
}

# A process that has ended but was not waited for is not.
is_alive() { grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null; }

RanksOfAHostShareItsNameAndNoOther() {
  two_hosts
  hosts run 2 2 -- hostname >names
  [[ $(sort names | uniq -c | xargs) == "2 zmtesth0 2 zmtesth1" ]] ||
    fail "names: $(cat names)"
}

ACommandSeesTheCallersDirectoryAndEnvironment() {
  two_hosts
  mkdir 'a folder'
  cd 'a folder'
  OMP_NUM_THREADS=3 WORDS="two words" hosts run 2 1 -- \
    bash -c 'echo "$PWD|$WORDS|$OMP_NUM_THREADS|$1" >"$(hostname)"' _ "it's"
  local name
  for name in zmtesth0 zmtesth1; do
    [[ $(cat $name) == "$work/a folder|two words|3|it's" ]] ||
      fail "$name saw $(cat $name)"
  done
}

RunReturnsTheExitStatusOfItsCommand() {
  two_hosts
  local status=0
  hosts run 2 1 --json counted -- sh -c 'exit 7' || status=$?
  [[ $status -eq 7 ]] || fail "status $status"
  grep -q '"exit_code": 7' counted || fail "counted: $(cat counted)"
}

RunPassesFlagsToMpirun() {
  two_hosts
  hosts run 2 1 --mpirun "--tag-output -x WORD=word" -- sh -c 'echo $WORD' >said
  [[ $(grep -c '^\[1,[01]\]<stdout>:word$' said) -eq 2 ]] ||
    fail "said: $(cat said)"
}

# What an all-gather must send, and less than twice that with the launch.
TheBytesThatLeftEachHostAreThoseOfTheCollectives() {
  [[ -n $program ]] || { echo "skipped: there is no MPI here"; exit 77; }
  two_hosts
  hosts run 2 1 --json counted -- "$program" bench comm --sizes 1MiB \
    --collectives all-gather --repetitions 3 --json measured 2>said
  python3 - <<'END'
import json
counted, measured = json.load(open("counted")), json.load(open("measured"))
assert [row["implementation"] for row in measured] == ["zeromini", "mpi"]
for row in measured:
    assert row["hosts"] == 2 and row["ranks"] == 2, row
    for key in ("collective", "bytes", "seconds", "bus_bandwidth",
                "inter_host_bytes"):
        assert key in row, key
# Once to warm up, and 3 times 4 in a row; half of the payload leaves a host.
sent = len(measured) * (1 + 3 * 4) * (1 << 20) // 2
assert len(counted["bytes_sent"]) == 2, counted
for count in counted["bytes_sent"]:
    assert sent < count < 2 * sent, (count, sent)
END
  [[ $(grep -c '^zmtesth[01] sent [0-9]* bytes$' said) -eq 2 ]] ||
    fail "said: $(cat said)"
}

# Of 12 steps, as the difference of two runs: what both launch cancels out.
StepsSendTheirBoundAndCountWhatTheInterfaceCounts() {
  [[ -n $program ]] || { echo "skipped: there is no MPI here"; exit 77; }
  two_hosts
  local repetitions
  for repetitions in 1 4; do
    hosts run 2 2 --json "sent$repetitions" -- "$program" bench step \
      --no-baseline --params 2Mi --optimizer adam-mini \
      --repetitions $repetitions --json "counted$repetitions" 2>said ||
      fail "said: $(cat said)"
  done
  python3 - <<'END'
import json
few, many = (json.load(open(f"sent{n}"))["bytes_sent"] for n in (1, 4))
row = json.load(open("counted4"))[0]
assert row["hosts"] == 2 and row["ranks"] == 4, row
assert row["inter_host_bound"] == 4 * row["parameters"], row
interface = max((b - a) / 12 for a, b in zip(few, many))
assert interface <= 1.05 * row["inter_host_bound"], (interface, row)
counted = row["inter_host_bytes"]
assert abs(counted / interface - 1) <= 0.02, (interface, row)
END
}

ARateSlowsAHostDown() {
  two_hosts
  hosts shape 2 20mbit
  local name
  for name in zmtesth0 zmtesth1; do
    tc -n "$name" qdisc show dev eth0 | grep -q 'tbf.*rate 20Mbit' ||
      fail "$name: $(tc -n "$name" qdisc show dev eth0)"
  done
  hosts shape 1 none
  tc -n zmtesth0 qdisc show dev eth0 | grep -q tbf && fail "none left a limit"
  hosts tx 2 >sent
  [[ $(grep -cE '^[0-9]+$' sent) -eq 2 ]] || fail "tx: $(cat sent)"
}

ARunThatIsToldToEndLeavesNothingRunning() {
  two_hosts
  "$harness" run 2 1 -- sh -c 'touch "$(hostname)"; sleep 100' 9>&- &
  local pid=$! status=0
  for _ in {1..100}; do
    [[ -e zmtesth0 && -e zmtesth1 ]] && break
    sleep 0.1
  done
  hosts run 2 1 -- true 2>said || status=$?
  [[ $status -eq 2 && $(cat said) == *"a command is running"* ]] ||
    fail "a second run gave $status: $(cat said)"
  status=0
  hosts up 2 2>said || status=$?
  [[ $status -eq 2 ]] || fail "up gave $status: $(cat said)"
  kill -TERM $pid
  status=0
  wait $pid || status=$?
  [[ $status -ne 0 ]] || fail "the run was told to end and ended well"
  [[ -z $(running) ]] || fail "running: $(running)"
}

DownRemovesTheHostsAndWhatRunsOnThem() {
  two_hosts
  "$harness" run 2 1 -- sh -c 'touch "$(hostname)"; sleep 100' 9>&- &
  local pid=$!
  for _ in {1..100}; do
    [[ -e zmtesth0 && -e zmtesth1 ]] && break
    sleep 0.1
  done
  kill -KILL $pid
  local left
  left=$(running)
  [[ -n $left ]] || fail "nothing runs: the case shows nothing"
  hosts down
  for pid in $left; do
    for _ in {1..20}; do
      is_alive "$pid" || continue 2
      sleep 0.1
    done
    fail "process $pid is left"
  done
  ip netns list | grep '^zmtest' && fail "namespaces are left"
  compgen -G '/tmp/zmtest-run.*' && fail "folders are left"
  hosts down
}

UpMakesHostsAnew() {
  two_hosts
  hosts run 2 1 -- true
  [[ $(hosts tx 1) -gt 0 ]] || fail "a run sends nothing"
  hosts up 1 10mbit
  [[ $(hosts tx 1) -eq 0 ]] || fail "the first host is still the old one"
  ip netns list | grep -q '^zmtesth1' && fail "the second host is still there"
  tc -n zmtesth0 qdisc show dev eth0 | grep -q 'rate 10Mbit' || fail "no rate"
}

BadUseGetsOneSentenceAndTwo() {
  local use status said
  while read -r use; do
    status=0
    # shellcheck disable=SC2086  # Words.
    said=$("$harness" $use 2>&1) || status=$?
    [[ $status -eq 2 && $said == "multihost.sh: "* && $said != *$'\n'* ]] ||
      fail "'$use' gave $status and: $said"
  done <<'END'

fly
up
up 0
up two
up 1000
up 2 fast
up 2 0mbit
up 2 1gbit 3
shape 2
tx
down now
run
run 2
run 2 x -- true
run 2 1 true
run 2 1 --json
run 2 1 --
END
}

WhoIsNotRootIsSkipped() {
  [[ $EUID -eq 0 ]] || { echo "skipped: needs root to be another"; exit 77; }
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  cp "$harness" "$work"
  chmod 755 "$work"
  local status=0 said
  said=$(setpriv --reuid 65534 --clear-groups bash "$work/multihost.sh" up 2 \
    2>&1) || status=$?
  [[ $status -eq 77 && $said == "skipped: "* ]] || fail "$status: $said"
}

"$1"
