#!/bin/bash
# Checks format, layering and, with --tidy, clang-tidy's opinion of the sources
# (minutes; needs a configured build/release). --fix formats instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mapfile -t files < <(git ls-files --cached --others --exclude-standard \
  '*.h' '*.cc' '*.c' '*.cu' '*.inc')
if [ "${1:-}" = --fix ]; then
  clang-format -i "${files[@]}"
else
  clang-format --dry-run --Werror "${files[@]}"
fi

python3 tools/check_layering.py

if [ "${1:-}" = --tidy ]; then
  mapfile -t sources < <(git ls-files 'shard/*.cc' 'kernels/*.cc' 'comm/*.cc' \
    'runtime/*.cc' 'tools/*.cc')
  printf '%s\n' "${sources[@]}" |
    xargs -P "$(nproc)" -n 1 clang-tidy -p build/release --quiet
fi
echo "lint: good"
