# LibTorch without its own CMake package: that package insists on a CUDA toolkit when the wheel was built with CUDA,
# and the CPU libraries alone are enough here. Looked for, in this order: Torch_DIR and CMAKE_PREFIX_PATH (a user's own
# LibTorch), LIBTORCH_ROOT, and build/deps/libtorch, where scripts/install-libtorch.sh puts the PyPI wheel.
set(_libtorch_hints "")
if(Torch_DIR)
  get_filename_component(_root "${Torch_DIR}/../../.." ABSOLUTE)
  list(APPEND _libtorch_hints "${_root}")
endif()
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND _libtorch_hints "${_prefix}" "${_prefix}/torch")
endforeach()
if(LIBTORCH_ROOT)
  list(APPEND _libtorch_hints "${LIBTORCH_ROOT}" "${LIBTORCH_ROOT}/torch")
endif()
list(APPEND _libtorch_hints "${CMAKE_SOURCE_DIR}/build/deps/libtorch/torch")

find_path(LibTorch_INCLUDE_DIR ATen/ATen.h HINTS ${_libtorch_hints} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR)
  foreach(_header torch/headeronly/version.h torch/csrc/api/include/torch/version.h)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/${_header}")
      file(STRINGS "${LibTorch_INCLUDE_DIR}/${_header}" _lines REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
      foreach(_part MAJOR MINOR PATCH)
        string(REGEX MATCH "TORCH_VERSION_${_part} ([0-9]+)" _ "${_lines}")
        set(_v_${_part} "${CMAKE_MATCH_1}")
      endforeach()
      if(NOT _v_MAJOR STREQUAL "")
        set(LibTorch_VERSION "${_v_MAJOR}.${_v_MINOR}.${_v_PATCH}")
        break()
      endif()
    endif()
  endforeach()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/install-libtorch.sh, or give your own by -DCMAKE_PREFIX_PATH=/path/to/libtorch")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  get_filename_component(_libdir "${LibTorch_CPU_LIBRARY}" DIRECTORY)
  # The wheel's CUDA runtime stands beside it (site-packages/nvidia/cu13/lib) and its own run path finds it.
  get_filename_component(_site "${_libdir}/../.." ABSOLUTE)
  add_library(LibTorch::c10 UNKNOWN IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES
    IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR}"
    INTERFACE_INCLUDE_DIRECTORIES "${LibTorch_INCLUDE_DIR}")
  add_library(LibTorch::cpu UNKNOWN IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "LibTorch::c10"
    INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${_site}/nvidia/cu13/lib")
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_CUDA_LIBRARY)
