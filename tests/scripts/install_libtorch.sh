#!/usr/bin/env bash
# install-libtorch.sh with a stand-in for python whose pip makes a tiny tree of the wheel's shape.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
checkout="$work/with space"
target=$checkout/build/deps/libtorch
mkdir -p "$checkout/scripts" "$work/bin"
cp -r "$root/scripts/." "$checkout/scripts/"
script=$checkout/scripts/install-libtorch.sh
unset Torch_DIR CMAKE_PREFIX_PATH LIBTORCH_ROOT
# Any library that can be loaded will do.
library=$(ldd "$(command -v bash)" | awk '/libc\.so/ { print $3 }')
export FAKE=$work FAKE_LIBRARY=$library

cat > "$work/make_torch" << 'FAKE'
#!/bin/bash
# make_torch FOLDER VERSION: FOLDER/torch as the wheel has it.
IFS=. read -r a b c <<< "$2"
mkdir -p "$1"/torch/{lib,include/ATen,include/torch/headeronly,nn,share/cmake/Torch} "$1"/{functorch,nvidia/cu13/lib,torch-$2.dist-info}
for name in torch_cpu c10 torch_cuda c10_cuda torch torch_python; do cp -L "$FAKE_LIBRARY" "$1/torch/lib/lib$name.so"; done
touch "$1/torch/include/ATen/ATen.h" "$1/torch/nn/x.py" "$1/torch/version.py"
printf '#define TORCH_VERSION_MAJOR %s\n#define TORCH_VERSION_MINOR %s\n#define TORCH_VERSION_PATCH %s\n' "$a" "$b" "$c" \
  > "$1/torch/include/torch/headeronly/version.h"
FAKE
cat > "$work/bin/python" << 'FAKE'
#!/bin/bash
case "$1 ${2:-} ${3:-}" in
  "-c "*) exit "${PYTHON_STATUS:-0}" ;;
  "-V "*) echo "Python 3.11.0" ;;
  "-m venv "*) [[ ${VENV_STATUS:-0} == 0 ]] || exit 1; mkdir -p "$3/bin"; cp "$0" "$3/bin/python" ;;
  "-m pip --version") ;;
  "-m pip install")
    echo "$*" >> "$FAKE/calls"
    while [[ $1 != --target ]]; do shift; done
    "$FAKE/make_torch" "$2" "${PIP_MAKES:-2.11.0}"
    exit "${PIP_STATUS:-0}" ;;
esac
FAKE
chmod +x "$work/make_torch" "$work/bin/python"
export MOEXTRACT_PYTHON=$work/bin/python

calls() { cat "$work/calls" 2> /dev/null || true; }
fresh() { rm -rf -- "$checkout/build" "$work/calls"; }
expect_clean() {
  local left
  left=$(find "$checkout/build/deps" -name 'libtorch.part*')
  [[ -z $left ]] || failed "left behind: $left"
}

# A first installation keeps headers, CPU libraries and licences, and nothing else.
run 0 "$script"
expect_file "$target/moextract-libtorch"
expect_file "$target/torch/lib/libtorch_cpu.so"
expect_file "$target/torch/include/ATen/ATen.h"
expect_file "$target/nvidia/cu13/lib"
expect_file "$target/torch-2.11.0.dist-info"
for gone in torch/lib/libtorch_cuda.so torch/lib/libtorch.so torch/lib/libtorch_python.so torch/nn functorch; do
  expect_no_file "$target/$gone"
done
output=$(calls)
expect_output "--no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85"
expect_output "--no-compile"
expect_clean

# A second call does nothing.
rm "$work/calls"
run 0 "$script"
expect_output "already"
[[ -z $(calls) ]] || failed "pip was called again"

# The GPU variant replaces it and serves the CPU build as well.
run 0 "$script" --gpu
expect_file "$target/torch/lib/libtorch_cuda.so"
output=$(calls)
expect_no_output "--no-deps"
rm "$work/calls"
run 0 "$script"
[[ -z $(calls) ]] || failed "pip was called although the GPU variant is there"

# Cut short: what was there before is not touched, no half is left, and the next call mends it.
fresh
PIP_STATUS=1 run 1 "$script"
expect_output "pip could not install"
expect_no_file "$target"
expect_clean
mkdir -p "$checkout/build/deps/libtorch.part.killed/site"
run 0 "$script"
expect_file "$target/moextract-libtorch"
expect_clean

# A folder of another version without a marker is replaced; one of the right version is kept.
fresh
"$work/make_torch" "$target" 2.10.0
run 0 "$script"
expect_file "$target/moextract-libtorch"
fresh
"$work/make_torch" "$target" 2.11.0
run 0 "$script"
expect_output "left as it is"
expect_no_file "$target/moextract-libtorch"

# A link to a complete installation stays; a link to something else is never replaced.
fresh
mkdir -p "$checkout/build/deps"
"$work/make_torch" "$work/elsewhere" 2.11.0
ln -s "$work/elsewhere" "$target"
run 0 "$script"
[[ -L $target ]] || failed "the link was replaced"
rm "$work/elsewhere/torch/lib/libtorch_cuda.so"
run 1 "$script" --gpu
expect_output "is a link to"
[[ -L $target ]] || failed "the link was replaced"
[[ -z $(calls) ]] || failed "pip was called"

# A wheel of another version, and one whose libraries cannot be loaded.
fresh
PIP_MAKES=2.12.0 run 1 "$script"
expect_no_file "$target"
FAKE_LIBRARY=/etc/passwd run 1 "$script"
expect_output "does not load"
expect_no_file "$target"

# Without the venv module pip itself is used; without a suitable Python the message says which ones are.
VENV_STATUS=1 run 0 "$script"
expect_file "$target/moextract-libtorch"
fresh
PYTHON_STATUS=1 run 1 "$script"
expect_output "CPython 3.10 to 3.14"
expect_output "is Python 3.11.0"
MOEXTRACT_PYTHON=/no/python run 1 "$script"
expect_output "/no/python is absent"
[[ -z $(calls) ]] || failed "pip was called"

# A LibTorch of the user's own.
fresh
"$work/make_torch" "$work/own" 2.12.1
Torch_DIR=$work/own/torch/share/cmake/Torch run 0 "$script"
expect_output "2.12.1 of your own"
CMAKE_PREFIX_PATH=/nonexistent:$work/own run 0 "$script"
expect_output "from CMAKE_PREFIX_PATH"
LIBTORCH_ROOT=$work/own/torch run 0 "$script"
expect_output "from LIBTORCH_ROOT"
"$work/make_torch" "$work/old" 2.9.1
LIBTORCH_ROOT=$work/old run 1 "$script"
expect_output "2.11 or later is needed"
[[ -z $(calls) ]] || failed "pip was called"
finish
