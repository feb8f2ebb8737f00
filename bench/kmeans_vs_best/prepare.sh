# Sourced: makes the rows, the centroids and the Python environment that the k-means benchmarks need, under build/.
rows=${BENCH_ROWS:-200000} layer=${BENCH_LAYER:-6} threads=${BENCH_THREADS:-2}
ks=${BENCH_K:-"8 64 256"}
build=${MOEXTRACT_BUILD:-$root/build/release}
case $build in /*) ;; *) build=$root/$build ;; esac
driver=$build/bench/bench_kmeans
if [ ! -x "$driver" ]; then
  echo "$driver is not there: configure with -DMOEXTRACT_BUILD_BENCH=ON and build, or set MOEXTRACT_BUILD" >&2
  exit 2
fi
venv=$root/build/peers
python=$venv/bin/python
[ -x "$python" ] || { python3 -m venv "$venv" && "$venv/bin/pip" install -q -r "$root/bench/kmeans_vs_best/requirements.txt"; } >&2
data=$root/build/bench-data
mkdir -p "$data"
rows_file=$data/rows-$rows-layer$layer.f16
if [ ! -f "$rows_file" ]; then
  shards=${BENCH_SHARDS:-}
  if [ -z "$shards" ]; then
    : "${MOEXTRACT_TEST_DATA:?names the folder of the test data, from which the rows are collected}"
    program=$(find "$build" -name moextract -type f -perm -u+x | head -n 1)
    (cd "$data" && "$program" collect "$root/configs/vit-tiny-tin200.yaml" --set collect.tokens_per_image=100) >&2
    shards=$(ls -td "$data"/runs/artefacts/collect-* | head -n 1)
  fi
  "$python" "$root/bench/kmeans_vs_best/rows.py" "$shards" "$layer" "$rows" "$rows_file.new" $ks
  for k in $ks; do mv "$rows_file.new.$k.f32" "$rows_file.$k.f32"; done
  mv "$rows_file.new" "$rows_file"
fi
