#!/bin/bash
# Images a second of collect against the script a Python user would write (peer.py, float32), vit_tiny_patch16_224 on 1,000 real JPEGs,
# two threads each, taking turns: once in float32, once in our default precision. The peer runs with 0 and 2 loader workers; its best
# counts. Ends with one JSON line each.
#
# Environment: MOEXTRACT_TEST_DATA, BENCH_THREADS (2), BENCH_ROUNDS (3), MOEXTRACT_BUILD (build/release)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=bench/collect_vs_python/photographs.sh
source "$root/bench/collect_vs_python/photographs.sh"
# shellcheck source=bench/collect_vs_python/peers.sh
source "$root/bench/collect_vs_python/peers.sh"
ours=() default=() peer0=() peer2=()
for ((round = 0; round < ${BENCH_ROUNDS:-3}; ++round)); do
  ours+=("$(collect_rate float32)")
  default+=("$(collect_rate auto)")
  for workers in 0 2; do
    rate=$("$peers" "$root/bench/collect_vs_python/peer.py" \
      "$MOEXTRACT_TEST_DATA/vit-tiny-in1k/vit_tiny_patch16_224.safetensors" "$photographs" "$data/peer.h5" \
      --threads "${BENCH_THREADS:-2}" --workers "$workers")
    if ((workers == 0)); then peer0+=("$rate"); else peer2+=("$rate"); fi
  done
done
python3 - "${ours[*]}" "${default[*]}" "${peer0[*]}" "${peer2[*]}" << 'END'
import json, statistics, sys
ours, default, without, with_two = (statistics.median(map(float, text.split())) for text in sys.argv[1:])
peer = max(without, with_two)
for precision, rate in (("float32", ours), ("int16", default)):
    print(json.dumps({"name": "collect_vs_python", "unit": "images/s", "dtype": precision, "ours": round(rate, 2),
                      "peer": round(peer, 2), "peer_workers_0": round(without, 2), "peer_workers_2": round(with_two, 2),
                      "ratio": round(rate / peer, 3)}))
END
