#!/bin/bash
# with_pkg_config.sh PREFIX SOURCE OUT: builds a C99 program as a Makefile would,
# linked by the C compiler.
set -euo pipefail
prefix=$1 source=$2 out=$3
PKG_CONFIG_PATH=$(dirname "$(find "$prefix" -name zeromini.pc)")
export PKG_CONFIG_PATH
cc -std=c99 -Wall -Wextra -Wpedantic -Werror -o "$out" "$source" \
  $(pkg-config --cflags ompi-c) $(pkg-config --cflags --libs zeromini) \
  $(pkg-config --libs ompi-c) -lm
