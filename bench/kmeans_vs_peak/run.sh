#!/bin/bash
# Share of the machine's own product speed that the assignment of all rows reaches (reading, rounding and deciding
# included), at k = 256. Prints one JSON line. Settings as for kmeans_vs_best.
#
# peak_int16 is the kernel's instruction on operands in the nearest cache, peak_float32 the machine's fused multiply-add
# in registers: what a perfect matrix product of either kind would reach.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
source "$root/bench/kmeans_vs_best/prepare.sh"
"$driver" --peak "$rows_file" 768 "${BENCH_PEAK_K:-256}" "$threads"
