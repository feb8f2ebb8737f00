#!/usr/bin/env bash
# tests/fuzz/make_corpus.sh FOLDER: a few small good inputs for each fuzz target, as FOLDER/TARGET/*.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$1
mkdir -p "$out"/{safetensors,shard,tar,idx,csv,listing,image,config,sweep,records,description,experts,moments}

# A header of two tensors and of metadata, padded to 8; then their bytes.
header='{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"b":{"dtype":"I64","shape":[],"data_offsets":[8,16]}}'
{
  # shellcheck disable=SC2059  # the length is written as an octal escape
  printf "\\$(printf %o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
  printf '0123456789abcdef'
} > "$out/safetensors/two_tensors"

printf '\0' > "$out/shard/raw"
printf '\1' > "$out/shard/unchanged"
for first in 1 2 3 4; do head -c 200 "$root/scripts/build.sh" | sed "s/^/$first/" > "$out/shard/changes$first"; done

mkdir "$out/pack"
for class in cat dog; do
  mkdir "$out/pack/$class"
  printf 'picture of a %s' "$class" > "$out/pack/$class/1.png"
done
long=$out/pack/$(printf 'x%.0s' {1..120})
printf 'long name' > "$long"
ln -s cat/1.png "$out/pack/link"
for format in ustar gnu posix; do
  [[ $format != ustar ]] || rm -f "$long"
  [[ $format == ustar ]] || printf 'long name' > "$long"
  tar --format="$format" --blocking-factor=1 --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$out/pack" \
    -cf "$out/tar/$format" cat dog link ${long:+$([[ ! -e $long ]] || basename "$long")}
done
rm -rf "$out/pack"

printf '\0\0\10\3\0\0\0\2\0\0\0\2\0\0\0\3abcdefghijkl' > "$out/idx/images"
printf '\0\0\10\1\0\0\0\5\0\1\2\3\4' > "$out/idx/labels"
gzip -n < "$out/idx/images" > "$out/idx/images.gz"
gzip -n < "$out/idx/labels" > "$out/idx/labels.gz"

printf 'file,label\na.png,0\n"b ""c"", d.png",1\r\n"two\nlines",2\n' > "$out/csv/table"
printf 'cat\tn01\ndog\n\n' > "$out/csv/classes"
printf 'dog/1.png\ncat/1.png\n' > "$out/csv/list"

# No places; one, of which nobody knows when it was changed.
head -c 16 /dev/zero > "$out/listing/empty"
printf '\377\377\377\377\377\377\377\177\1\0\0\0\0\0\0\0%32s' '' | tr ' ' '\0' > "$out/listing/one_place"

cp "$root"/tests/golden/images/* "$out/image/"

cp "$root"/configs/quickstart.yaml "$out/config/whole.yaml"
cp "$root"/slurm/site.yaml "$out/config/site.yaml"
printf ',== ' > "$out/config/no-document.yaml"
cat > "$out/config/sample.yaml" << 'YAML'
name: "a b"
cluster: {k: 12, seed: 3, tolerance: 1e-3, target: null, limit: ~}
cluster.start.tries: 2
data:
  images: ${HOME:-/tmp}/x
  mean: [0.1, 0.2, 0.3]
  lists: [a, 'b c', "d\n"]
  layers: [0, 1]
  weights: []
  storage: separate
YAML
printf 'cluster.k=16' > "$out/config/set"
printf 'data.lists=[a, "b"]' > "$out/config/set_list"

cat > "$out/sweep/all.yaml" << 'YAML'
name: clusters
base: base.yaml
set: {cluster.block: 32}
grid:
  cluster.k: [4, 8, 16]
list:
  - {cluster.tap: x, cluster.spherical: true}
  - {cluster.tap: h}
random:
  count: 3
  seed: 1
  keys:
    tune.rate: {from: 1e-5, to: 1e-3, scale: log}
    tune.target: [0.5, null]
    cluster.seed: {from: 1, to: 9}
constraints:
  - cluster.k <= 8 or not (cluster.tap == "x")
  - (cluster.k + 2) * -1 / 3 < 0 and tune.target != null
seeds: [cluster.seed]
jobs: 2
threads: 1
YAML

# What once overflowed the stack, or would have: nesting without end.
deep=$(printf '%6000s' '')
printf 'data:\n  lists: %s' "${deep// /[}" > "$out/config/nested"
printf 'base: b\ngrid: {cluster.k: [1]}\nconstraints: ["%s1 > 0"]\n' "${deep// /(}" > "$out/sweep/nested"
printf 'base: b\ngrid: {cluster.k: [1]}\nconstraints: ["%s1 > 0"]\n' "${deep// /1+}" > "$out/sweep/long"
printf '{"key":"0","files":{},"stages":{},"settings":%s%s}' "${deep// /[}" "${deep// /]}" > "$out/records/nested"
printf '{"architecture":"vit","name":"v","vit":%s%s}' "${deep// /[}" "${deep// /]}" > "$out/description/nested"

cat > "$out/records/manifest" << 'JSON'
{"format":"moextract-manifest","format_version":1,"stage":"collect","key":"0123456789abcdef0123456789abcdef","algorithm_version":1,
"settings":{"k":2},"inputs":{"model":"00"},"files":{"shard-000000.h5":{"bytes":4,"xxh3_128":"00"}},"counts":{"rows":1},"seconds":1.5}
JSON
printf '{"format":"moextract-run","format_version":1,"settings":{"cluster":{"k":4}},"stages":{"collect":"collect-0123456789abcdef"}}' > "$out/records/run"
printf '{"host":"localhost","pid":1,"started":5,"pid_space":7,"job":"","token":"t"}' > "$out/records/lock"
cp "$root/tests/pipeline/report/example_results.json" "$out/records/results"

# Their bytes choose among good files and changes to them.
for target in experts moments; do
  printf '' > "$out/$target/unchanged"
  for first in 1 2 3 4; do head -c 120 "$root/scripts/build.sh" | sed "s/^/$first/" > "$out/$target/changes$first"; done
done

cat > "$out/description/vit" << 'JSON'
{"name":"vit","architecture":"vit","vit":{"image_size":28,"patch_size":4,"channels":1,"width":64,"depth":2,"heads":2,"hidden":128,
"classes":10,"qkv_bias":true,"class_token":true,"distilled":false,"norm_eps":1e-6,"short_last_block":false},
"preprocess":{"resize":28,"resize_mode":"shorter","interpolation":"bicubic","crop":28,"channels":1,"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]}}
JSON
