#!/bin/bash
# Under mpirun's default, which ends the job with its first rank: each survivor
# says last which exchange it was in.
#
#   last_words_test.sh MPIEXEC ZEROMINI
set -u
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$1" -n 4 "$2" bench step --no-baseline --params 4Mi --repetitions 1000 \
  --optimizer adam-mini >"$out/stdout" 2>"$out/stderr" &
launcher=$!
for _ in {1..100}; do
  read -ra ranks < <(cat /proc/$launcher/task/*/children)
  [ ${#ranks[@]} -eq 4 ] && break
  sleep 0.1
done
[ ${#ranks[@]} -eq 4 ] || { echo "${#ranks[@]} of 4 ranks started"; exit 1; }
sleep 2  # So that they step.
kill -KILL "${ranks[2]}"
wait $launcher
status=$?
said=$(grep -cE ': ended by SIGTERM, rank [0-3]: in ' "$out/stderr")
where=$(grep -cE 'rank [0-3]: in (reduce-scatter of gradients|all-reduce of scalars|all-gather of weights|barrier)' "$out/stderr")
[ $status -ne 0 ] && [ "$said" -eq 3 ] && [ "$where" -ge 1 ] && exit 0
echo "mpirun returned $status; $said of 3 survivors said something, $where where they were"
cat "$out/stderr"
exit 1
