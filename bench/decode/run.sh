#!/bin/bash
# Images a second of decoding, resizing and cropping on one thread, against torchvision with Pillow, taking turns; the bytes of the crops
# are compared. Pictures: 200 photographs of 299 x 299 pixels (shorter side to 248, bicubic, crop 224), and 1,000 of Tiny-ImageNet, 64 x 64
# (to 256 x 256, bilinear, crop 224). Ends with one JSON line for each.
#
# Environment: MOEXTRACT_TEST_DATA, BENCH_ROUNDS (5), MOEXTRACT_BUILD (build/release, configured with -DMOEXTRACT_BUILD_BENCH=ON)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${MOEXTRACT_TEST_DATA:?names the folder of the test data}"
# shellcheck source=bench/collect_vs_python/peers.sh
source "$root/bench/collect_vs_python/peers.sh"
driver=${MOEXTRACT_BUILD:-$root/build/release}/bench/bench_decode
[[ -x $driver ]] || { echo "$driver is not there: configure with -DMOEXTRACT_BUILD_BENCH=ON and build" >&2; exit 2; }
data=$root/build/bench-data
tiny=$data/tiny-imagenet
if [[ ! -d $tiny ]]; then
  mkdir -p "$tiny"
  head -n 1000 "$MOEXTRACT_TEST_DATA/tiny-imagenet-200/calibration_2000.txt" |
    tar -xf "$MOEXTRACT_TEST_DATA/tiny-imagenet-200/train_100_per_class.tar" -C "$tiny" -T -
fi
compare() { # NAME FOLDER RESIZE MODE FILTER
  local ours=() peer=() round
  for ((round = 0; round < ${BENCH_ROUNDS:-5}; ++round)); do
    ours+=("$("$driver" "$2" "$3" "$4" "$5" 224 3 "$data/ours.rgb")")
    peer+=("$("$peers" "$root/bench/decode/peer.py" "$2" "$3" "$4" "$5" 224 3 "$data/peer.rgb")")
  done
  local equal=false
  ! cmp -s "$data/ours.rgb" "$data/peer.rgb" || equal=true
  rm -f "$data/ours.rgb" "$data/peer.rgb"
  python3 - "$1" "$equal" "${ours[*]}" "${peer[*]}" << 'END'
import json, statistics, sys
name, equal = sys.argv[1:3]
values = list(map(float, sys.argv[3].split()))
ours, decode, resize = (statistics.median(values[i::3]) for i in range(3))
peer = statistics.median(map(float, sys.argv[4].split()))
print(json.dumps({"name": name, "unit": "images/s", "ours": round(ours, 1), "peer": round(peer, 1), "ratio": round(ours / peer, 2),
                  "bytes_equal": equal == "true", "decode_ms": round(decode, 3), "resize_ms": round(resize, 3)}))
END
}
compare decode "$MOEXTRACT_TEST_DATA/nips17-mini200/images" 248 shorter bicubic
compare decode_tiny_imagenet "$tiny" 256 squash bilinear
