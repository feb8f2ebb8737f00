#!/bin/bash
# Peak memory of a rank that collects ten times as many images as another: vit_tiny_patch16_224 on 10,000 (BENCH_IMAGES) and 1,000 images of
# Tiny-ImageNet read out of their tar file, and the quick start's model on 10,000 and 1,000 images of Fashion-MNIST, all tokens. Float32.
# Ends with a JSON line for each; "ours" is the peak for the many, "peer" that for a tenth of them, in MB.
#
# Environment: MOEXTRACT_TEST_DATA, MOEXTRACT_FASHION_MNIST (/usr/share/datasets/fashion-mnist), BENCH_IMAGES (10000), BENCH_THREADS (2),
#              MOEXTRACT_BUILD (build/release)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
: "${MOEXTRACT_TEST_DATA:?names the folder of the test data}"
program=$(find "${MOEXTRACT_BUILD:-$root/build/release}" -name moextract -type f -perm -u+x | head -n 1)
[[ -n $program ]] || { echo "moextract is not built: run scripts/build.sh, or set MOEXTRACT_BUILD" >&2; exit 2; }
data=$root/build/bench-data
mkdir -p "$data"
cat > "$data/vit_tiny.yaml" << END
model:
  name: vit_tiny_patch16_224
  weights: $MOEXTRACT_TEST_DATA/vit-tiny-in1k/vit_tiny_patch16_224.safetensors
  resize: 248
  interpolation: bicubic
  mean: [0.5]
  std: [0.5]
data:
  calibration:
    source: $MOEXTRACT_TEST_DATA/tiny-imagenet-200/train_100_per_class.tar
    shuffle_seed: 1
END
cat > "$data/fashion.yaml" << END
model:
  weights: $root/models/fashion_vit.safetensors
data:
  calibration:
    source: ${MOEXTRACT_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}/t10k-images-idx3-ubyte.gz
collect:
  tokens_per_image: 0
END
peak() { # CONFIG IMAGES
  rm -rf "$data/memory-store" "$data/memory-run"
  python3 - "$program" collect "$data/$1.yaml" --set run.threads="${BENCH_THREADS:-2}" --set run.store="$data/memory-store" \
    --set run.folder="$data/memory-run" --set "data.calibration.count=$2" << 'END'
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3)
END
}
compare() { # NAME CONFIG IMAGES
  local few many
  few=$(peak "$2" $(($3 / 10)))
  many=$(peak "$2" "$3")
  rm -rf "$data/memory-store" "$data/memory-run"
  python3 -c 'import json, sys
few, many = map(float, sys.argv[3:])
print(json.dumps({"name": sys.argv[1], "unit": "MB", "images": int(sys.argv[2]), "ours": round(many, 1), "peer": round(few, 1),
                  "ratio": round(many / few, 3)}))' "$1" "$3" "$few" "$many"
}
compare collect_memory_fashion fashion 10000
compare collect_memory vit_tiny "${BENCH_IMAGES:-10000}"
