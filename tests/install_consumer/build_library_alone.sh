#!/bin/bash
# build_library_alone.sh SOURCE FOLDER READELF: builds, in a folder of its own,
# only the library, once without tools and tests and once beside tools that are
# never built, and installs each.
set -euo pipefail
source=$1 folder=$2 readelf=$3
here=$(dirname "${BASH_SOURCE[0]}")
for tools in OFF ON; do
  build=$folder/tools_$tools
  rm -rf "$build"
  cmake -G Ninja -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DZEROMINI_BUILD_TOOLS=$tools -DZEROMINI_BUILD_TESTS=OFF \
    -DZEROMINI_WITH_TORCH=OFF
  cmake --build "$build" --target zeromini
  cmake --install "$build" --component library --prefix "$build/prefix"
  "$here/library_alone.sh" "$build/prefix" "$readelf"
done
# Without tools there is nothing else, so all of it may be installed.
cmake --install "$folder/tools_OFF" --prefix "$folder/tools_OFF/whole"
"$here/library_alone.sh" "$folder/tools_OFF/whole" "$readelf"
