#!/usr/bin/env bash
# reference_case.sh PROGRAM: the dense vit_tiny of the test data classifies the 1,500 listed images of Tiny-ImageNet-200 as PyTorch does:
# 1,044 right, give or take 3.
set -euo pipefail
program=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [[ ! -e ${MOEXTRACT_TEST_DATA:-}/tiny-imagenet-200/val_1500.txt ]]; then
  echo "SKIPPED: no test data (MOEXTRACT_TEST_DATA)"
  exit 77
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" evaluate "$root/configs/vit-tiny-tin200.yaml" --set data.calibration.source= --set data.calibration.list= \
  --set finetune.enabled=false --set baseline.enabled=false --set run.store="$work/store" --set run.folder="$work/run"
python3 - "$work"/store/evaluate-dense-*/evaluation.json << 'END'
import json, sys
found = json.load(open(sys.argv[1]))
right, images = found["top1_correct"], found["images"]
print(f"{right} of {images} right")
sys.exit(0 if images == 1500 and abs(right - 1044) <= 3 else 1)
END
