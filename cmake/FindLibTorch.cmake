# LibTorch without its own CMake package: that package insists on a CUDA toolkit when the wheel was built with CUDA,
# and the CPU libraries alone are enough here. Looked for, in this order: Torch_DIR and CMAKE_PREFIX_PATH (a user's own
# LibTorch), LIBTORCH_ROOT, each as a CMake variable before the environment variable, and build/deps/libtorch, where
# scripts/install-libtorch.sh puts the PyPI wheel.
#
# Gives LibTorch::c10 and LibTorch::cpu, and LibTorch::cuda where this LibTorch has a CUDA half that can be loaded:
# a wheel installed without its dependencies has libtorch_cuda.so, but a program linked to it would not start.
# LibTorch_CUDA_VERSION_MAJOR is then the CUDA it was built with; otherwise LibTorch_CUDA_MISSING says what is amiss.
set(_libtorch_hints "")
foreach(_dir "${Torch_DIR}" "$ENV{Torch_DIR}")
  if(_dir)
    get_filename_component(_root "${_dir}/../../.." ABSOLUTE)
    list(APPEND _libtorch_hints "${_root}")
  endif()
endforeach()
file(TO_CMAKE_PATH "$ENV{CMAKE_PREFIX_PATH}" _env_prefixes)
foreach(_prefix IN LISTS CMAKE_PREFIX_PATH _env_prefixes)
  list(APPEND _libtorch_hints "${_prefix}" "${_prefix}/torch")
endforeach()
foreach(_prefix "${LIBTORCH_ROOT}" "$ENV{LIBTORCH_ROOT}")
  if(_prefix)
    list(APPEND _libtorch_hints "${_prefix}" "${_prefix}/torch")
  endif()
endforeach()
list(APPEND _libtorch_hints "${CMAKE_SOURCE_DIR}/build/deps/libtorch/torch")

# A library that has gone since the last configuration, because another LibTorch was installed, is looked for again.
foreach(_library CPU C10 CUDA C10_CUDA)
  if(LibTorch_${_library}_LIBRARY AND NOT EXISTS "${LibTorch_${_library}_LIBRARY}")
    unset(LibTorch_${_library}_LIBRARY CACHE)
  endif()
endforeach()
find_path(LibTorch_INCLUDE_DIR ATen/ATen.h HINTS ${_libtorch_hints} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LibTorch_CPU_LIBRARY torch_cpu HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_LIBRARY c10 HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_CUDA_LIBRARY torch_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_C10_CUDA_LIBRARY c10_cuda HINTS ${_libtorch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)

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
  # LibTorch ships headers of other packages beside its own (fmt, google, pybind11, ...), of other versions than the
  # ones that we link. Only its own folders are shown to the compiler.
  # The folder's place does not depend on the build folder, so that ccache serves one build from another.
  string(SHA256 _libtorch_mark "${LibTorch_INCLUDE_DIR}")
  string(SUBSTRING "${_libtorch_mark}" 0 12 _libtorch_mark)
  set(_libtorch_own "${CMAKE_SOURCE_DIR}/build/deps/libtorch-include-${_libtorch_mark}")
  file(MAKE_DIRECTORY "${_libtorch_own}")
  foreach(_folder ATen c10 caffe2 torch)
    if(EXISTS "${LibTorch_INCLUDE_DIR}/${_folder}" AND NOT EXISTS "${_libtorch_own}/${_folder}")
      file(CREATE_LINK "${LibTorch_INCLUDE_DIR}/${_folder}" "${_libtorch_own}/${_folder}" SYMBOLIC)
    endif()
  endforeach()
  add_library(LibTorch::c10 UNKNOWN IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES
    IMPORTED_LOCATION "${LibTorch_C10_LIBRARY}"
    INTERFACE_SYSTEM_INCLUDE_DIRECTORIES "${_libtorch_own}"
    INTERFACE_INCLUDE_DIRECTORIES "${_libtorch_own}")
  add_library(LibTorch::cpu UNKNOWN IMPORTED)
  set_target_properties(LibTorch::cpu PROPERTIES
    IMPORTED_LOCATION "${LibTorch_CPU_LIBRARY}"
    INTERFACE_LINK_LIBRARIES "LibTorch::c10"
    INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${_site}/nvidia/cu13/lib")
endif()

set(LibTorch_CUDA_MISSING "")
if(LibTorch_FOUND AND NOT TARGET LibTorch::cuda)
  if(NOT LibTorch_CUDA_LIBRARY OR NOT LibTorch_C10_CUDA_LIBRARY)
    set(LibTorch_CUDA_MISSING "it is a build for the CPU alone")
  else()
    get_filename_component(_cuda_libdir "${LibTorch_CUDA_LIBRARY}" DIRECTORY)
    if(NOT _cuda_libdir STREQUAL _libdir)
      set(LibTorch_CUDA_MISSING "its libtorch_cuda.so is of another LibTorch, in ${_cuda_libdir}")
    else()
      # libcuda.so.1 comes with the driver and may be absent where one only builds.
      execute_process(COMMAND ldd "${LibTorch_CUDA_LIBRARY}"
        OUTPUT_VARIABLE _ldd ERROR_VARIABLE _ldd_error RESULT_VARIABLE _ldd_result)
      string(REGEX MATCHALL "lib[^ \n]+ => not found" _absent "${_ldd}")
      list(FILTER _absent EXCLUDE REGEX "^libcuda\\.so")
      list(TRANSFORM _absent REPLACE " => not found" "")
      if(_absent)
        list(JOIN _absent ", " _absent)
        set(LibTorch_CUDA_MISSING "its libtorch_cuda.so lacks ${_absent}")
      elseif(NOT _ldd_result EQUAL 0)
        set(LibTorch_CUDA_MISSING "its libtorch_cuda.so cannot be loaded: ${_ldd_error}")
      endif()
    endif()
  endif()
  if(NOT LibTorch_CUDA_MISSING)
    string(REGEX MATCH "libcudart\\.so\\.([0-9]+)" _ "${_ldd}")
    set(LibTorch_CUDA_VERSION_MAJOR "${CMAKE_MATCH_1}")
    # libtorch_cuda registers its operators when it is loaded; no symbol of it is asked for, so a linker that drops
    # unneeded libraries (Ubuntu's does) would drop it.
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    set_target_properties(LibTorch::cuda PROPERTIES INTERFACE_LINK_LIBRARIES
      "-Wl,--push-state,--no-as-needed,${LibTorch_CUDA_LIBRARY},${LibTorch_C10_CUDA_LIBRARY},--pop-state")
    file(GLOB _cuda_dirs LIST_DIRECTORIES true "${_site}/nvidia/*/lib")
    foreach(_dir IN LISTS _cuda_dirs)
      set_property(TARGET LibTorch::cuda APPEND PROPERTY INTERFACE_LINK_OPTIONS "-Wl,-rpath-link,${_dir}")
    endforeach()
  endif()
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_CPU_LIBRARY LibTorch_C10_LIBRARY LibTorch_CUDA_LIBRARY
                 LibTorch_C10_CUDA_LIBRARY)
