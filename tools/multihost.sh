#!/bin/bash
# Several hosts on one machine: network namespaces joined by a bridge, and
# mpirun across them. Needs root. Traffic never leaves the namespaces.
# `tools/multihost.sh --help` tells how; docs/design/0010-multihost-harness.md
# tells why.
set -euo pipefail

# Names are global on the machine: another prefix makes another set of hosts.
prefix=${ZEROMINI_HOSTS:-zm}
most_hosts=64
self=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")

usage() {
  cat <<'END'
multihost.sh up N [RATE]      makes N hosts, each limited to send RATE (1gbit)
multihost.sh run HOSTS RANKS [--json FILE] [--mpirun "FLAGS"] -- COMMAND...
                              mpirun COMMAND with RANKS ranks on each of HOSTS
                              hosts, here and with this environment; then says
                              on stderr how many bytes left each host, MPI's
                              launch among them
multihost.sh shape N RATE     changes the limit of the first N hosts, or takes
                              it away (RATE none)
multihost.sh tx N             bytes that have left each of the first N hosts
multihost.sh down             removes the hosts and what runs on them

ZEROMINI_HOSTS=NAME           another set of hosts; the default is zm
Exit status: that of COMMAND; 2 on bad use; 77 where there can be no hosts.
END
}

refuse() {
  echo "multihost.sh: $*" >&2
  exit 2
}

skip() {
  echo "skipped: $*" >&2
  exit 77
}

# The names of the namespaces there are, of hosts and of the switch.
namespaces() {
  ip netns list | awk -v all="^${prefix}(h[0-9]+|sw)\$" '$1 ~ all {print $1}'
}

hosts_up() { namespaces | grep -c "^${prefix}h" || true; }

# Process ids, on all hosts.
running() {
  local name
  for name in $(namespaces); do ip netns pids "$name"; done
}

check_able() {
  [[ $EUID -eq 0 ]] || skip "making network namespaces needs root"
  local program
  for program in ip tc unshare hostname; do
    command -v "$program" >/dev/null || skip "there is no program '$program'"
  done
  unshare --net --uts true 2>/dev/null ||
    skip "this kernel or container makes no network namespaces"
}

check_count() {  # check_count WHAT VALUE
  [[ $2 =~ ^[1-9][0-9]{0,3}$ ]] || refuse "$1 is '$2', not a number from 1"
}

check_rate() {
  [[ $1 =~ ^[0-9]+(\.[0-9]+)?[kmg]?bit$ && ! $1 =~ ^[0.]+[kmg]?bit$ ]] ||
    refuse "RATE is '$1', not like 100mbit or 1gbit"
}

check_up() {  # check_up HOSTS
  local there
  there=$(hosts_up)
  (($1 <= there)) ||
    refuse "$1 hosts asked for, $there there: run 'multihost.sh up $1' first"
}

# Kills until nothing runs there: a process may be starting another, and one
# that is left over when its namespace has lost its name cannot be found again.
kill_all() {
  local pids
  for _ in {1..50}; do
    pids=$(running)
    [[ -n $pids ]] || return 0
    # shellcheck disable=SC2086  # A list.
    kill -KILL $pids 2>/dev/null || true
    sleep 0.1
  done
}

remove_hosts() {
  local name
  kill_all
  for name in $(namespaces); do ip netns del "$name"; done
  # Not with find: it fails when another program's file goes while it looks.
  rm -rf /tmp/"$prefix"-run.??????
}

# Both ends of each link are born inside their namespaces: the machine's own
# network is not touched. No link-local addresses, whose chatter would count.
make_host() {
  local host=${prefix}h$1
  ip netns add "$host" &&
    ip -n "$host" link set lo up &&
    ip link add name "p$1" netns "${prefix}sw" type veth \
      peer name eth0 netns "$host" &&
    { ip -n "$host" link set eth0 addrgenmode none 2>/dev/null || true; } &&
    ip -n "${prefix}sw" link set "p$1" master br0 up &&
    ip -n "$host" addr add "10.77.0.$(($1 + 1))/24" dev eth0 &&
    ip -n "$host" link set eth0 up
}

make_hosts() {
  local i
  ip netns add "${prefix}sw" &&
    ip -n "${prefix}sw" link add br0 type bridge &&
    ip -n "${prefix}sw" link set br0 up || return 1
  for ((i = 0; i < $1; ++i)); do make_host "$i" || return 1; done
}

# A queue of 100 ms, as a deep switch has: senders are slowed down, not dropped.
set_rate() {  # set_rate HOSTS RATE
  local i
  for ((i = 0; i < $1; ++i)); do
    if [[ $2 == none ]]; then
      tc -n "${prefix}h$i" qdisc del dev eth0 root 2>/dev/null || true
    else
      tc -n "${prefix}h$i" qdisc replace dev eth0 root \
        tbf rate "$2" burst 256kb latency 100ms || return 1
    fi
  done
}

# Packets are counted before they are cut to wire size, so the headers of all
# but the first piece (4 % at an MTU of 1500) are not in it.
bytes_sent() {  # bytes_sent HOSTS
  local i
  for ((i = 0; i < $1; ++i)); do
    ip netns exec "${prefix}h$i" cat /sys/class/net/eth0/statistics/tx_bytes
  done
}

first_line() { head -n 1 <<<"$1"; }

up() {
  (($# == 1 || $# == 2)) || refuse "up wants a number of hosts, and maybe a rate"
  check_count N "$1"
  (($1 <= most_hosts)) || refuse "N is $1, more than $most_hosts"
  [[ $# -eq 1 ]] || check_rate "$2"
  check_able
  [[ -z $(running) ]] || refuse "a command is running on the hosts there are"
  remove_hosts
  local error
  if ! error=$(make_hosts "$1" 2>&1 && set_rate "$1" "${2:-none}" 2>&1); then
    remove_hosts
    skip "no such hosts can be made here: $(first_line "$error")"
  fi
}

shape() {
  (($# == 2)) || refuse "shape wants a number of hosts and a rate"
  check_count N "$1"
  [[ $2 == none ]] || check_rate "$2"
  check_able
  check_up "$1"
  local error
  error=$(set_rate "$@" 2>&1) ||
    skip "no rate can be set here: $(first_line "$error")"
}

tx() {
  (($# == 1)) || refuse "tx wants a number of hosts"
  check_count N "$1"
  check_able
  check_up "$1"
  bytes_sent "$1"
}

down() {
  (($# == 0)) || refuse "down takes no argument"
  check_able
  remove_hosts
}

# Becomes COMMAND on a host. Open MPI keeps its directories apart by hostname
# and TMPDIR; short, because the path of a socket ends at 107 bytes.
enter() {  # enter HOST DIRECTORY COMMAND...
  mkdir -p "$2/h$1"
  # shellcheck disable=SC2016  # Expanded over there.
  exec ip netns exec "${prefix}h$1" unshare --uts bash -c \
    'hostname "$0"; export TMPDIR=$1; shift; exec "$@"' \
    "${prefix}h$1" "$2/h$1" "${@:3}"
}

# What mpirun calls instead of ssh: rsh DIRECTORY [OPTIONS] ADDRESS COMMAND...
# The environment passes through, so ranks need no `mpirun -x`.
rsh() {
  local directory=$1
  shift
  while [[ $1 == -* ]]; do shift; done
  local host=$((${1##*.} - 1))
  shift
  enter "$host" "$directory" bash -c "$*"
}

# Becomes mpirun on host 0.
launch() {  # launch DIRECTORY HOSTS RANKS FLAGS... -- COMMAND...
  local directory=$1 hosts=$2 ranks=$3 list="" flags=() i
  shift 3
  while [[ $1 != -- ]]; do
    flags+=("$1")
    shift
  done
  for ((i = 1; i <= hosts; ++i)); do list+=,10.77.0.$i:$ranks; done
  enter 0 "$directory" mpirun --allow-run-as-root --oversubscribe \
    --bind-to none -np $((hosts * ranks)) -host "${list:1}" \
    --mca plm rsh --mca plm_rsh_agent "$directory/rsh" \
    --mca orte_keep_fqdn_hostnames 1 --mca oob_tcp_if_include eth0 \
    --mca pml ob1 --mca btl tcp,self,vader --mca btl_tcp_if_include eth0 \
    "${flags[@]}" "${@:2}"
}

# Waits for mpirun, passing on a wish to end, and leaves nothing running.
await() {  # await PID
  local status=0
  mpirun_pid=$1
  trap 'kill -TERM "$mpirun_pid" 2>/dev/null || true' INT TERM HUP
  wait "$1" || status=$?
  while kill -0 "$1" 2>/dev/null; do
    status=0
    wait "$1" || status=$?
  done
  for _ in {1..50}; do
    [[ -n $(running) ]] || return "$status"
    sleep 0.1
  done
  kill_all
  return "$status"
}

run() {
  (($# >= 2)) || refuse "run wants a number of hosts and of ranks on each"
  local hosts=$1 ranks=$2 json="" flags=()
  check_count HOSTS "$hosts"
  check_count RANKS "$ranks"
  shift 2
  while [[ $# -gt 0 && $1 != -- ]]; do
    [[ $1 == --json || $1 == --mpirun ]] || refuse "run knows no option '$1'"
    (($# >= 2)) || refuse "$1 wants a value"
    [[ $1 != --json ]] || json=$2
    [[ $1 != --mpirun ]] || read -ra flags <<<"$2"
    shift 2
  done
  (($# >= 2)) || refuse "run wants '--' and a command at its end"
  shift
  check_able
  command -v mpirun >/dev/null || skip "there is no program 'mpirun'"
  check_up "$hosts"
  [[ -z $(running) ]] ||
    refuse "a command is running on the hosts: its bytes would count, too"
  [[ -z $json ]] || { : >"$json"; } 2>/dev/null || refuse "cannot write '$json'"

  directory=$(mktemp -d "/tmp/$prefix-run.XXXXXX")
  trap 'rm -rf "$directory"' EXIT
  # A file, because mpirun cuts the agent's command at spaces.
  printf '#!/bin/bash\nexec %q rsh %q "$@"\n' "$self" "$directory" \
    >"$directory/rsh"
  chmod +x "$directory/rsh"

  local before after status=0
  mapfile -t before < <(bytes_sent "$hosts")
  launch "$directory" "$hosts" "$ranks" "${flags[@]}" -- "$@" <&0 &
  await $! || status=$?
  mapfile -t after < <(bytes_sent "$hosts")
  report
  return "$status"
}

# Of run(), whose variables it reads.
report() {
  local i sent=""
  for ((i = 0; i < hosts; ++i)); do
    local bytes=$((after[i] - before[i]))
    echo "${prefix}h$i sent $bytes bytes" >&2
    sent+=", $bytes"
  done
  [[ -n $json ]] || return 0
  printf '{"hosts": %d, "ranks_per_host": %d, "exit_code": %d, "bytes_sent": [%s]}\n' \
    "$hosts" "$ranks" "$status" "${sent:2}" >"$json"
}

[[ $prefix =~ ^[a-z]{1,8}$ ]] ||
  refuse "ZEROMINI_HOSTS is '$prefix', not one to eight small letters"
(($# > 0)) || refuse "no verb; see 'multihost.sh --help'"
verb=$1
shift
case $verb in
  up | run | shape | tx | down | rsh) "$verb" "$@" ;;
  -h | --help) usage ;;
  *) refuse "no verb '$verb'; see 'multihost.sh --help'" ;;
esac
