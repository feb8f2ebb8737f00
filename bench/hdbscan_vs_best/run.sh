#!/usr/bin/env bash
# HDBSCAN against the fastest of hdbscan, fast_hdbscan and scikit-learn, on the same rows: 30,000 x 50 and 20,000 x 768.
#
#   bench/run hdbscan_vs_best [--quick]
#
# Rows: post-GELU activations of vit-tiny-tin200 if MOEXTRACT_TEST_DATA names the test data, else a Gaussian mixture.
# The last lines are JSON, one for each dimension: seconds of ours and of each peer, the ratio to the fastest peer, ARI
# against each (fast_hdbscan uses an approximate neighbour graph above 30 dimensions). Needs a build with
# -DMOEXTRACT_BUILD_BENCH=ON in MOEXTRACT_BUILD (build/release); all else is made under build/bench-hdbscan. THREADS (2), ROUNDS
# (2) and SIZES ("30000:50 20000:768") come from the environment.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
here=bench/hdbscan_vs_best
work=build/bench-hdbscan
threads=${THREADS:-2}
rounds=${ROUNDS:-2}
read -r -a sizes <<< "${SIZES:-30000:50 20000:768}"
if [[ ${1:-} == --quick ]]; then
  sizes=(5000:50 3000:768)
  rounds=1
fi
mkdir -p "$work"

if [[ ! -x $work/venv/bin/python ]]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install --quiet hdbscan fast_hdbscan pynndescent scikit-learn numpy h5py
fi
build=${MOEXTRACT_BUILD:-build/release}
driver=$build/bench/bench_hdbscan
if [[ ! -x $driver ]]; then
  echo "$driver is not there: configure with -DMOEXTRACT_BUILD_BENCH=ON and build, or set MOEXTRACT_BUILD" >&2
  exit 2
fi

# The same collected activations serve other benchmarks too.
shards=()
if [[ -n ${MOEXTRACT_TEST_DATA:-} ]]; then
  data=build/bench-data
  if ! compgen -G "$data/runs/artefacts/collect-*/DONE" > /dev/null; then
    program=$(realpath "$(find "$build" -name moextract -type f -perm -u+x | head -n 1)")
    config=$(realpath configs/vit-tiny-tin200.yaml)
    mkdir -p "$data"
    (cd "$data" && "$program" collect "$config" --set collect.tokens_per_image=100 >&2)
  fi
  done_files=("$data"/runs/artefacts/collect-*/DONE)
  shards=("${done_files[0]%/DONE}"/shard-*.h5)
fi

export OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads NUMBA_NUM_THREADS=$threads
lines=()
for size in "${sizes[@]}"; do
  IFS=: read -r rows dimension <<< "$size"
  input=$work/rows-$rows-$dimension-${#shards[@]}.f16
  if [[ ! -f $input ]]; then
    "$work/venv/bin/python" "$here/make_rows.py" "$input.part" "$rows" "$dimension" "${shards[@]}"
    mv "$input.part" "$input"
  fi
  lines+=("$("$work/venv/bin/python" "$here/compare.py" "$driver" "$input" "$dimension" "$threads" "$rounds")")
done
printf '%s\n' "${lines[@]}"
