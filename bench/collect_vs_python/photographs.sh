# Sourced: 1,000 real photographs (BENCH_COPIES, five, of the test data's 200) in a folder a class, and a configuration that collects
# them with vit_tiny_patch16_224. Sets `photographs` and `config`.
: "${MOEXTRACT_TEST_DATA:?names the folder of the test data}"
data=$root/build/bench-data
photographs=$data/photographs
copies=${BENCH_COPIES:-5}
if [[ $(find "$photographs" -name '*.jpg' 2> /dev/null | wc -l) -ne $((200 * copies)) ]]; then
  rm -rf "$photographs"
  for ((copy = 0; copy < copies; ++copy)); do
    mkdir -p "$photographs/$copy"
    cp "$MOEXTRACT_TEST_DATA"/nips17-mini200/images/*.jpg "$photographs/$copy/"
  done
fi
config=$data/photographs.yaml
cat > "$config" << END
run:
  name: photographs
  threads: ${BENCH_THREADS:-2}
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
    source: $photographs
collect:
  tokens_per_image: 16
END
program=$(find "${MOEXTRACT_BUILD:-$root/build/release}" -name moextract -type f -perm -u+x | head -n 1)
[[ -n $program ]] || { echo "moextract is not built: run scripts/build.sh, or set MOEXTRACT_BUILD" >&2; exit 2; }
program=$(readlink -f "$program")
# collect_rate PRECISION: images a second of the collect stage, by the manifest's seconds. These contain loading the model and the check of a
# reduced precision, which the peers' times do not. Our pass of hashing over the shards at the end is not counted; the peers do not hash.
collect_rate() {
  rm -rf "$data/collect-store"
  (cd "$data" && "$program" collect "$config" --set run.store="$data/collect-store" --set run.folder="$data/collect-run" \
    --set model.precision="$1") >&2 || return 1
  rm -rf "$data/collect-run"
  python3 -c 'import json, sys, glob
m = json.load(open(glob.glob(sys.argv[1] + "/collect-*/manifest.json")[0]))
print(m["counts"]["images"] / m["seconds"])' "$data/collect-store"
}
