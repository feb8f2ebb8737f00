#!/bin/bash
# Speed of expert layers against the MACs they save: the MLP and the whole of vit_tiny and vit_base, batch 1, 8 and 64,
# float32, bfloat16 and int16. One JSON line each; "ratio" is the share of the saved MACs that becomes saved time. Dense,
# experts, VBP of equal MACs and LibTorch's dense model take turns in one process. About four minutes on two cores: the
# whole vit_base at batch 64 is left out (BENCH_LARGEST=2000 asks for it, at a minute and more a line).
#
# Environment: BENCH_THREADS (default 2), BENCH_SHARE (0.5, of the hidden neurons), BENCH_K (16), BENCH_SECONDS (2, a line),
#              BENCH_MODELS ("vit_tiny vit_base"), BENCH_BATCHES (1,8,64), BENCH_PRECISIONS (float32,bfloat16,int16),
#              BENCH_LARGEST (200, GMACs of a batch)
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
build=${MOEXTRACT_BUILD:-$root/build/bench}
# Needs what scripts/build.sh installs.
if [[ ! -f $build/CMakeCache.txt ]]; then
  cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOEXTRACT_BUILD_BENCH=ON >&2
fi
cmake --build "$build" --target bench_expert_speedup >&2
driver=$(find "$build" -name bench_expert_speedup -type f -perm -u+x | head -n 1)
for model in ${BENCH_MODELS:-vit_tiny vit_base}; do
  "$driver" "$model" "${BENCH_THREADS:-2}" "${BENCH_SHARE:-0.5}" "${BENCH_K:-16}" "${BENCH_SECONDS:-2}" \
    "${BENCH_BATCHES:-1,8,64}" "${BENCH_PRECISIONS:-float32,bfloat16,int16}" "${BENCH_LARGEST:-200}"
done
