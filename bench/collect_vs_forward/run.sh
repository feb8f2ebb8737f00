#!/bin/bash
# Images a second of collect (reading, decoding, resizing, forward, taking rows, writing) against the bare forward pass on the same images
# already decoded, same threads, float32, vit_tiny_patch16_224, taking turns. "peer" is LibTorch's forward; "own_forward" our own products'.
#
# Environment: MOEXTRACT_TEST_DATA, BENCH_THREADS (2), BENCH_ROUNDS (3), MOEXTRACT_BUILD (build/release, configured with
#              -DMOEXTRACT_BUILD_BENCH=ON)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=bench/collect_vs_python/photographs.sh
source "$root/bench/collect_vs_python/photographs.sh"
driver=${MOEXTRACT_BUILD:-$root/build/release}/bench/bench_forward
[[ -x $driver ]] || { echo "$driver is not there: configure with -DMOEXTRACT_BUILD_BENCH=ON and build" >&2; exit 2; }
ours=() forward=()
for ((round = 0; round < ${BENCH_ROUNDS:-3}; ++round)); do
  ours+=("$(collect_rate float32)")
  forward+=("$("$driver" "$MOEXTRACT_TEST_DATA/vit-tiny-in1k/vit_tiny_patch16_224.safetensors" "$photographs" "${BENCH_THREADS:-2}" \
    "${BENCH_BATCH:-10}")")
done
python3 - "${ours[*]}" "${forward[*]}" << 'END'
import json, statistics, sys
ours = statistics.median(map(float, sys.argv[1].split()))
pairs = list(map(float, sys.argv[2].split()))
libtorch, own = statistics.median(pairs[0::2]), statistics.median(pairs[1::2])
print(json.dumps({"name": "collect_vs_forward", "unit": "images/s", "dtype": "float32", "ours": round(ours, 2),
                  "peer": round(libtorch, 2), "ratio": round(ours / libtorch, 3), "own_forward": round(own, 2),
                  "ratio_own_forward": round(ours / own, 3)}))
END
