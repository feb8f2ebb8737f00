#!/bin/bash
# Seconds of fitting the experts of all layers of vit_tiny and vit_base from stored (synthetic) second moments: reading,
# backward elimination, least squares. And of the elimination alone, of 768 and 3,072 neurons on one core: "peer" is the
# 10 s that it may take. Of vit_base one layer is timed and counted twelve times. About two minutes on two cores.
#
# Environment: BENCH_THREADS (default 2), BENCH_K (8), BENCH_SHARE (0.5, of the neurons kept), BENCH_LAYERS (of each model)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${MOEXTRACT_BUILD:-$root/build/bench}
# Needs what scripts/build.sh installs.
if [[ ! -f $build/CMakeCache.txt ]]; then
  cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOEXTRACT_BUILD_BENCH=ON >&2
fi
cmake --build "$build" --target bench_assemble >&2
driver=$(find "$build" -name bench_assemble -type f -perm -u+x | head -n 1)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$driver" "${BENCH_THREADS:-2}" "${BENCH_K:-8}" "${BENCH_SHARE:-0.5}" "$folder" ${BENCH_LAYERS:+"$BENCH_LAYERS"}
