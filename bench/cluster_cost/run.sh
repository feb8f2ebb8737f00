#!/bin/bash
# What clustering costs against rows, dimension, clusters and ranks. Prints one JSON line a measurement; with --plots also
# draws the pictures of docs/performance.md from them.
#
#   bench/run cluster_cost [--plots]
#
# Rows are those of kmeans_vs_best (real activations). One setting varies at a time. Ranks have one thread each, so that
# two ranks are two cores. BENCH_ROUNDS (2): of each measurement the fastest counts.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
# shellcheck source=bench/kmeans_vs_best/prepare.sh
source "$root/bench/kmeans_vs_best/prepare.sh"
cost=$build/bench/bench_cluster_cost
rounds=${BENCH_ROUNDS:-2}
out=$data/cluster_cost.jsonl
: > "$out"
oversubscribe=()
[ "$(id -u)" = 0 ] && oversubscribe=(--allow-run-as-root)

measure() {  # RANKS METHOD ROWS COLUMNS A B
  local best='' line
  for _ in $(seq "$rounds"); do
    line=$(OMP_NUM_THREADS=1 mpirun "${oversubscribe[@]}" --bind-to none -n "$1" \
      "$cost" "$2" "$rows_file" 768 "$3" "$4" "$5" "$6" 1 2> /dev/null | grep '^{')
    best=$(printf '%s\n%s\n' "$best" "$line" |
      "$python" -c 'import json,sys; print(min((l for l in sys.stdin if l.strip()), key=lambda l: json.loads(l)["seconds"]).strip())')
  done
  echo "$best" | tee -a "$out"
}
for n in 25000 50000 100000; do measure 1 kmeans "$n" 768 64 10; done
measure 1 kmeans 200000 768 64 10
for d in 96 192 384; do measure 1 kmeans 100000 "$d" 64 10; done
for k in 8 16 32 128 256; do measure 1 kmeans 100000 768 "$k" 10; done
for k in 8 64 256; do measure 2 kmeans 100000 768 "$k" 10; done
for n in 2500 5000 10000; do measure 1 hdbscan "$n" 768 50 5; done
for d in 48 96 192 384; do measure 1 hdbscan 10000 "$d" 50 5; done
measure 2 hdbscan 10000 768 50 5
measure 2 hdbscan 10000 48 50 5
if [ "${1:-}" = --plots ]; then "$python" "$root/bench/cluster_cost/plot.py" "$out" "$root/docs/plots"; fi
