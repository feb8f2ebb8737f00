#!/usr/bin/env bash
# scripts/build.sh [PRESET] [--target NAME]... [-DNAME=VALUE]...: installs what is missing and builds into build/PRESET.
#
# PRESET is one of CMakePresets.json: release (the default), debug, asan, tsan, gpu. As many compilers run at once as
# there are cores, but no more than one for each 2 GB of free memory.
#
#   --target NAME   only this target, for instance moextract (the program without its tests)
#   -DNAME=VALUE    handed on to CMake; -DCMAKE_PREFIX_PATH=... or -DTorch_DIR=... leads to a LibTorch of your own
#   --help          this text
#
# Environment: MOEXTRACT_JOBS  number of compilers at once; see also install-packages.sh and install-libtorch.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/jobs.sh"

preset=release
targets=()
options=()
while (($# > 0)); do
  case $1 in
    --target)
      (($# >= 2)) || die "--target needs the name of a target" 2
      targets+=(--target "$2")
      shift
      ;;
    -D?*)
      options+=("$1")
      # The installer of LibTorch has to know of these as well.
      case $1 in
        -DCMAKE_PREFIX_PATH*=*) export CMAKE_PREFIX_PATH=${1#*=} ;;
        -DTorch_DIR*=*) export Torch_DIR=${1#*=} ;;
        -DLIBTORCH_ROOT*=*) export LIBTORCH_ROOT=${1#*=} ;;
      esac
      ;;
    release | debug | asan | tsan | gpu) preset=$1 ;;
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) die "unknown preset or argument '$1': the presets are release, debug, asan, tsan, gpu; see --help" 2 ;;
  esac
  shift
done

libtorch_options=()
[[ $preset != gpu ]] || libtorch_options=(--gpu)
phase "Packages" "$root/scripts/install-packages.sh"
phase "LibTorch" "$root/scripts/install-libtorch.sh" ${libtorch_options[@]+"${libtorch_options[@]}"}

jobs=${MOEXTRACT_JOBS:-$(compile_jobs)}
[[ $jobs =~ ^[1-9][0-9]*$ ]] || die "MOEXTRACT_JOBS must be a positive number, not '$jobs'" 2

# Presets are read from the working folder.
cd "$root"
phase "Configure ($preset)" cmake --preset "$preset" ${options[@]+"${options[@]}"} ||
  die "CMake could not configure; what is missing stands above. After a change of compiler or LibTorch, remove \
build/$preset and run the command again."
phase "Build ($preset, $jobs at once)" cmake --build "$root/build/$preset" --parallel "$jobs" \
  ${targets[@]+"${targets[@]}"} ||
  die "the build failed; the first error stands above. Where the compiler was killed for memory: MOEXTRACT_JOBS=1"

if [[ -x $root/build/$preset/bin/moextract ]]; then
  say "The program is $root/build/$preset/bin/moextract"
fi
