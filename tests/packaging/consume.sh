#!/bin/bash
# Installs the clustering libraries into a folder of its own, builds the program in consumer/ against them and runs it,
# alone and on two ranks.
#
#   consume.sh CMAKE BUILD CXX PREFIX_PATH
set -euo pipefail
cmake=$1 build=$2 compiler=$3 prefixes=$4
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --component cluster --prefix "$work/prefix" > "$work/install.log"
if [ -e "$work/prefix/bin" ]; then
  echo "the component cluster installs programs"
  exit 1
fi
"$cmake" -S "$here/consumer" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_COMPILER="$compiler" \
  "-DCMAKE_PREFIX_PATH=$work/prefix;$prefixes"
"$cmake" --build "$work/build"
"$work/build/consumer"
"$here/../mpirun.sh" 2 "$work/build/consumer"
