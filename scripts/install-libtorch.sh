#!/usr/bin/env bash
# scripts/install-libtorch.sh [--gpu]: puts LibTorch 2.11.0 into build/deps/libtorch, where the build looks for it.
#
# The PyPI wheel is the C++ library too. Without --gpu only its CPU half is kept (about 600 MB), together with the two
# CUDA libraries it is linked to; no GPU and no toolkit is needed. With --gpu the wheel comes with all its dependencies,
# NCCL among them (several GB). A finished installation is left alone; one that was cut short is made anew.
#
#   --gpu     the CUDA half as well
#   --help    this text
#
# A LibTorch of your own (2.11 or later) is used when one of the environment variables Torch_DIR, CMAKE_PREFIX_PATH or
# LIBTORCH_ROOT leads to it; then nothing is installed. MOEXTRACT_PYTHON names the Python whose pip is used.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/python.sh"

version=2.11.0
cpu_wheels=("torch==$version" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85)
target=$root/build/deps/libtorch
variant=cpu
while (($# > 0)); do
  case $1 in
    --gpu) variant=gpu ;;
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) die "unknown argument '$1'; see --help" 2 ;;
  esac
  shift
done

# version_of FOLDER: the version of the LibTorch in FOLDER/{include,lib}; empty where there is none.
version_of() {
  local header
  [[ -e $1/lib/libtorch_cpu.so && -e $1/include/ATen/ATen.h ]] || return 0
  for header in torch/headeronly/version.h torch/csrc/api/include/torch/version.h; do
    if [[ -e $1/include/$header ]]; then
      awk '$2 == "TORCH_VERSION_MAJOR" { a = $3 } $2 == "TORCH_VERSION_MINOR" { b = $3 }
           $2 == "TORCH_VERSION_PATCH" { c = $3 } END { if (a != "") print a "." b "." c }' "$1/include/$header"
      return 0
    fi
  done
}

# users_own: prints "FOLDER<tab>VARIABLE" of the LibTorch that the environment leads to, in the order in which
# cmake/FindLibTorch.cmake looks.
users_own() {
  local prefix prefixes
  if [[ -n ${Torch_DIR:-} && -n $(version_of "$Torch_DIR/../../..") ]]; then
    printf '%s\tTorch_DIR\n' "$(cd "$Torch_DIR/../../.." && pwd)"
    return
  fi
  IFS=':;' read -r -a prefixes <<< "${CMAKE_PREFIX_PATH:-}"
  for prefix in ${prefixes[@]+"${prefixes[@]}"}; do
    if [[ -n $prefix && -n $(version_of "$prefix") ]]; then
      printf '%s\tCMAKE_PREFIX_PATH\n' "$prefix"
      return
    elif [[ -n $prefix && -n $(version_of "$prefix/torch") ]]; then
      printf '%s\tCMAKE_PREFIX_PATH\n' "$prefix/torch"
      return
    fi
  done
  for prefix in ${LIBTORCH_ROOT:+"$LIBTORCH_ROOT" "$LIBTORCH_ROOT/torch"}; do
    if [[ -n $(version_of "$prefix") ]]; then
      printf '%s\tLIBTORCH_ROOT\n' "$prefix"
      return
    fi
  done
}

# complete LIBRARY: it is there and so is all it needs. libcuda comes with the driver, which a build machine may lack.
complete() {
  local listing
  [[ -e $1 ]] || return 1
  listing=$(ldd "$1" 2> /dev/null) || return 1
  ! grep 'not found' <<< "$listing" | grep -qv 'libcuda\.so'
}

# ready FOLDER: the wanted version and half stand in FOLDER (a site-packages folder), whoever put them there.
ready() {
  [[ $(version_of "$1/torch") == "$version" ]] || return 1
  complete "$1/torch/lib/libtorch_cpu.so" || return 1
  [[ $variant == cpu ]] || complete "$1/torch/lib/libtorch_cuda.so"
}

own=$(users_own)
if [[ -n $own ]]; then
  folder=${own%$'\t'*}
  variable=${own##*$'\t'}
  found=$(version_of "$folder")
  if [[ $(printf '%s\n' 2.11.0 "$found" | sort -V | head -n 1) != 2.11.0 ]]; then
    die "$variable leads to LibTorch $found in $folder, but 2.11 or later is needed: give a newer one, or unset \
$variable to have $version installed"
  fi
  say "LibTorch $found of your own in $folder (from $variable) is used; nothing is installed."
  exit 0
fi

# Two builds that start at the same time: the second waits here and then finds everything done.
mkdir -p "$root/build/deps"
exec 9> "$root/build/deps/.lock"
flock 9

marker=$target/moextract-libtorch
wanted="$version $variant"
if [[ -f $marker ]] && { [[ $(< "$marker") == "$wanted" ]] || [[ $(< "$marker") == "$version gpu" ]]; }; then
  say "LibTorch $(< "$marker") is already in build/deps/libtorch."
  exit 0
fi
if ready "$target"; then
  say "LibTorch $version is already in build/deps/libtorch and has all it needs ($variant); left as it is."
  exit 0
fi
if [[ -L $target ]]; then
  die "build/deps/libtorch is a link to $(readlink "$target"), which holds no complete LibTorch $version ($variant). \
Remove the link, or put the library there, and run the command again."
fi
[[ $(uname -s) == Linux ]] || die "there are wheels with these libraries for Linux only; set Torch_DIR to your LibTorch"

python=$(suitable_python) || exit 1
# What an interrupted run left is of no use; this run's own folder is renamed only when it is complete.
rm -rf -- "$root"/build/deps/libtorch.part.*
work=$(mktemp -d "$root/build/deps/libtorch.part.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 130' INT TERM

installer=$(pip_of "$python" "$work/venv") || exit 1
if [[ $variant == gpu ]]; then
  wheels=("torch==$version")
  say "Fetching LibTorch $version with CUDA and NCCL (several GB) into build/deps/libtorch ..."
else
  wheels=(--no-deps "${cpu_wheels[@]}")
  say "Fetching LibTorch $version, CPU (about 600 MB) into build/deps/libtorch ..."
fi
"$installer" -m pip install --quiet --no-input --disable-pip-version-check --no-compile \
  --only-binary=:all: --target "$work/site" "${wheels[@]}" >&2 ||
  die "pip could not install ${wheels[*]} by $python ($("$python" -V 2>&1)); its messages stand above. The wheels need \
glibc 2.28 or later and a network or a mirror of PyPI (PIP_INDEX_URL, PIP_FIND_LINKS). A LibTorch of your own is taken \
from Torch_DIR."

# Of the CPU installation only headers, libraries and licences are kept. What needs the CUDA half goes as well, so that
# nobody links to a library that cannot be loaded.
if [[ $variant == cpu ]]; then
  find "$work/site" -mindepth 1 -maxdepth 1 ! -name torch ! -name nvidia ! -name '*.dist-info' -exec rm -rf -- {} +
  find "$work/site/torch" -mindepth 1 -maxdepth 1 ! -name include ! -name lib ! -name version.py -exec rm -rf -- {} +
  for library in torch_cuda torch_cuda_linalg torch_nvshmem c10_cuda caffe2_nvrtc torch torch_python shm; do
    rm -f -- "$work/site/torch/lib/lib$library.so"
  done
fi

ready "$work/site" || die "the installed LibTorch does not load: $(ldd "$work/site/torch/lib/libtorch_cpu.so" 2>&1 |
  grep -E 'not found|No such' | head -n 3 | tr '\n' ';') is this machine one for which the wheel was made?"

printf '%s\n' "$wanted" > "$work/site/moextract-libtorch"
rm -rf -- "$target"
mv -- "$work/site" "$target"
say "LibTorch $version ($variant) is in build/deps/libtorch, $(du -sh "$target" | cut -f 1)."
