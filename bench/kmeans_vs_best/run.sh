#!/bin/bash
# k-means against faiss, scikit-learn, scikit-learn-intelex and superkmeans: same rows, initial centroids and iterations,
# two threads, programs taking turns; the best of the rounds of each. Prints one JSON line for each k. Processor seconds
# stand beside the wall's: where the two programs' shares differ much, the machine was not idle.
#
#   bench/run kmeans_vs_best
#
# Rows are post-GELU activations that the program itself records; MOEXTRACT_TEST_DATA names the test data. Needs a build
# with -DMOEXTRACT_BUILD_BENCH=ON in MOEXTRACT_BUILD (build/release) and Python with venv. Settings by environment:
# BENCH_ROWS, BENCH_LAYER, BENCH_ITERATIONS, BENCH_THREADS, BENCH_ROUNDS, BENCH_K, BENCH_PEERS; BENCH_SHARDS: a folder of
# shards collected before.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/bench/kmeans_vs_best
# shellcheck source=bench/kmeans_vs_best/prepare.sh
source "$here/prepare.sh"
iterations=${BENCH_ITERATIONS:-20} rounds=${BENCH_ROUNDS:-2}
peers=${BENCH_PEERS:-"faiss scikit-learn scikit-learn-intelex superkmeans"}
for k in $ks; do
  results=$data/results.$k.jsonl
  : > "$results"
  for _ in $(seq "$rounds"); do
    for name in moextract $peers; do
      if [ "$name" = moextract ]; then
        line=$("$driver" "$rows_file" 768 "$rows_file.$k.f32" "$k" "$iterations" "$threads")
      else
        line=$("$python" "$here/peer.py" "$name" "$rows_file" 768 "$rows_file.$k.f32" "$k" "$iterations" "$threads" |
               tail -n 1)
      fi
      echo "{\"name\": \"$name\", \"result\": $line}" >> "$results"
    done
  done
  "$python" - "$results" "$rows" "$k" "$iterations" "$threads" <<'PY'
import json, sys
path, rows, k, iterations, threads = sys.argv[1], *map(int, sys.argv[2:])
best = {}
for line in map(json.loads, open(path)):
    name, result = line["name"], line["result"]
    if name not in best or result["seconds"] < best[name]["seconds"]:
        best[name] = result
own = best.pop("moextract")
fastest = min(best, key=lambda name: best[name]["seconds"])
same_start = [r["inertia"] for name, r in best.items() if name != "superkmeans"]
print(json.dumps({
    "name": "kmeans_vs_best", "ours": own["seconds"], "peer": best[fastest]["seconds"],
    "ratio": round(best[fastest]["seconds"] / own["seconds"], 2), "fastest_peer": fastest, "rows": rows, "d": 768, "k": k, "iterations": iterations, "threads": threads,
    "instructions": own["instructions"], "cpu_seconds": own["cpu_seconds"], "inertia": own["inertia"],
    "peers": {name: {"seconds": r["seconds"], "cpu_seconds": r["cpu_seconds"], "inertia": round(r["inertia"], 4)} for name, r in best.items()},
    "times_less_cpu": round(min(r["cpu_seconds"] for r in best.values()) / own["cpu_seconds"], 2),
    "inertia_not_higher_in_6_digits": bool(not same_start or float(f"{own['inertia']:.6g}") <= float(f"{min(same_start):.6g}"))}))
PY
done
