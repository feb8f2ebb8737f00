#!/bin/bash
# Peak memory of a rank that collects 10,000 images against one that collects 1,000: vit_tiny_patch16_224, Tiny-ImageNet read out of its
# tar file, float32. Ends with one JSON line; "ours" is the peak for 10,000, "peer" that for 1,000, in MB.
#
# Environment: MOEXTRACT_TEST_DATA, BENCH_THREADS (2), BENCH_BATCH (10), MOEXTRACT_BUILD (build/release)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${MOEXTRACT_TEST_DATA:?names the folder of the test data}"
program=$(find "${MOEXTRACT_BUILD:-$root/build/release}" -name moextract -type f -perm -u+x | head -n 1)
[[ -n $program ]] || { echo "moextract is not built: run scripts/build.sh, or set MOEXTRACT_BUILD" >&2; exit 2; }
data=$root/build/bench-data
mkdir -p "$data"
config=$data/memory.yaml
cat > "$config" << END
run:
  name: memory
  threads: ${BENCH_THREADS:-2}
  store: $data/memory-store
  folder: $data/memory-run
model:
  name: vit_tiny_patch16_224
  weights: $MOEXTRACT_TEST_DATA/vit-tiny-in1k/vit_tiny_patch16_224.safetensors
  resize: 248
  interpolation: bicubic
  mean: [0.5]
  std: [0.5]
  micro_batch: ${BENCH_BATCH:-10}
data:
  calibration:
    source: $MOEXTRACT_TEST_DATA/tiny-imagenet-200/train_100_per_class.tar
    shuffle_seed: 1
END
peak() { # IMAGES
  rm -rf "$data/memory-store" "$data/memory-run"
  python3 - "$program" collect "$config" --set "data.calibration.count=$1" << 'END'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
END
}
small=$(peak 1000)
large=$(peak 10000)
rm -rf "$data/memory-store" "$data/memory-run"
python3 - "$small" "$large" << 'END'
import json, sys
small, large = map(float, sys.argv[1:])
print(json.dumps({"name": "collect_memory", "unit": "MB", "ours": round(large, 1), "peer": round(small, 1), "ratio": round(large / small, 3)}))
END
