#!/bin/bash
# Installs what tools/packages.txt lists and this machine lacks. Does nothing,
# and needs no rights, when nothing is missing.
set -euo pipefail

list="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/packages.txt"

if ! command -v dpkg-query >/dev/null; then
  echo "install_packages: this is no Debian; install by hand what $list names" >&2
  exit 1
fi

missing=()
while read -r package; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done < <(grep -v -e '^#' -e '^$' "$list")

[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_packages: missing: ${missing[*]}" >&2
    echo "install_packages: run this as root, there is no sudo here" >&2
    exit 1
  fi
  as_root=(sudo)
fi

echo "install_packages: installing ${missing[*]}"
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q
if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -qy --no-install-recommends "${missing[@]}"; then
  echo "install_packages: apt-get could not install ${missing[*]}" >&2
  exit 1
fi
