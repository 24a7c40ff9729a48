#!/bin/bash
# library_alone.sh PREFIX READELF: what was installed there is the library with
# its headers, no program, and its archive has symbols but no debug information.
set -euo pipefail
prefix=$1 readelf=$2
archive=$(find "$prefix" -name 'libzeromini.*' -not -path '*/debug/*')
test -f "$prefix/include/zeromini/c.h"
test -f "$archive"
if [ -e "$prefix/bin" ]; then
  echo "programs were installed with the library: $(ls "$prefix/bin")"
  exit 1
fi
if "$readelf" --sections --wide "$archive" | grep '\.debug_info' >/dev/null; then
  echo "$archive, $(du -h "$archive" | cut -f1), has debug information"
  exit 1
fi
"$readelf" --symbols --wide "$archive" | grep ' zeromini_step$' >/dev/null
echo "$archive: $(du -h "$archive" | cut -f1)"
