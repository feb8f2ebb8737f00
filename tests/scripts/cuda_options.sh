#!/usr/bin/env bash
# cuda_options.sh CMAKE: what AUTO, ON and OFF do in cmake/MoextractCuda.cmake, without a toolkit and, where there is
# one, with it. LibTorch is absent here, as far as CMake can tell.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
cmake=${1:-cmake}

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cat > "$work/CMakeLists.txt" << EOF_PROJECT
cmake_minimum_required(VERSION 3.25)
project(options LANGUAGES CXX)
find_package(Threads REQUIRED)
set(LibTorch_CUDA_MISSING "there is none")
include("$root/cmake/MoextractOptions.cmake")
include("$root/cmake/MoextractCuda.cmake")
message(STATUS "cuda=\${MOEXTRACT_HAS_CUDA} nccl=\${MOEXTRACT_HAS_NCCL} libtorch=\${MOEXTRACT_HAS_LIBTORCH_CUDA}")
EOF_PROJECT
configure() {
  run "$1" "$cmake" -S "$work" -B "$work/build" -G Ninja "${@:2}"
  output=$(tr -s ' \n' ' ' <<< "$output")
}

without=-DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
configure 0 $without
expect_output "cuda=OFF nccl=OFF libtorch=OFF"
configure 1 $without -DMOEXTRACT_WITH_CUDA=ON
expect_output "set CUDAToolkit_ROOT"
configure 1 $without -DMOEXTRACT_WITH_CUDA=AUTO -DMOEXTRACT_WITH_NCCL=ON
expect_output "NCCL needs CUDA"
configure 1 -DMOEXTRACT_WITH_CUDA=OFF -DMOEXTRACT_WITH_NCCL=ON
expect_output "set MOEXTRACT_WITH_CUDA"
configure 0 -DMOEXTRACT_WITH_CUDA=OFF -DMOEXTRACT_WITH_NCCL=AUTO
expect_output "cuda=OFF nccl=OFF libtorch=OFF"
configure 1 -DMOEXTRACT_WITH_CUDA=yes
expect_output "must be AUTO, ON or OFF"

rm -rf "$work/build"
configure 0
if [[ $output == *"cuda=ON"* ]]; then
  expect_output "install-libtorch.sh --gpu"
  configure 1 -DMOEXTRACT_WITH_CUDA=ON
  expect_output "install-libtorch.sh --gpu"
  # A library that is none: the trial fails whatever the trial of CUDA said, and passes again with the right one.
  configure 0 -DMOEXTRACT_WITH_CUDA=AUTO -DNCCL_INCLUDE_DIR="$work" -DNCCL_LIBRARY="$work/CMakeLists.txt"
  expect_output "cuda=ON nccl=OFF"
  configure 0 -DMOEXTRACT_WITH_NCCL=OFF
  expect_output "cuda=ON nccl=OFF"
else
  echo "no CUDA toolkit here: only the options without one were tried"
fi
finish
