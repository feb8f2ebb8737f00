# CUDA and NCCL, as asked by MOEXTRACT_WITH_CUDA and MOEXTRACT_WITH_NCCL (AUTO, ON or OFF). Sets
#   MOEXTRACT_HAS_CUDA           the toolkit is there: code for CUDA is compiled (link CUDA::cudart)
#   MOEXTRACT_HAS_NCCL           so is NCCL: its communicator is compiled (link NCCL::nccl)
#   MOEXTRACT_HAS_LIBTORCH_CUDA  LibTorch has a CUDA half made for this toolkit: whoever links LibTorch::cpu gets it too
# AUTO takes what is there and goes without the rest; ON stops where something is missing. Code that is compiled here
# need not be able to run here: no GPU and no driver is looked for.
foreach(_option MOEXTRACT_WITH_CUDA MOEXTRACT_WITH_NCCL)
  if(NOT ${_option} MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "${_option} is '${${_option}}', but must be AUTO, ON or OFF")
  endif()
endforeach()
if(MOEXTRACT_WITH_NCCL STREQUAL "ON" AND MOEXTRACT_WITH_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "MOEXTRACT_WITH_NCCL=ON needs CUDA: set MOEXTRACT_WITH_CUDA to ON or AUTO")
endif()

set(MOEXTRACT_HAS_CUDA OFF)
set(MOEXTRACT_HAS_NCCL OFF)
set(MOEXTRACT_HAS_LIBTORCH_CUDA OFF)
set(MOEXTRACT_CUDA_NOTE "")

# Compiles and links a few lines for which the found files must fit together: headers alone, a toolkit without its
# libraries, or libraries of another architecture are no toolkit. The answer is kept until one of the paths changes.
function(_moextract_try_link result name source)
  set(_key "${ARGN}|${CMAKE_CXX_COMPILER}")
  foreach(_target IN LISTS ARGN)
    foreach(_property LOCATION IMPORTED_LOCATION INTERFACE_INCLUDE_DIRECTORIES)
      get_target_property(_value ${_target} ${_property})
      string(APPEND _key "|${_value}")
    endforeach()
  endforeach()
  if(NOT _key STREQUAL "${_MOEXTRACT_${name}_LINKS_FOR}")
    set(_file "${CMAKE_BINARY_DIR}/CMakeFiles/moextract_try_${name}.cpp")
    file(WRITE "${_file}" "${source}")
    # The answer goes into the cache.
    try_compile(_MOEXTRACT_${name}_LINKS "${CMAKE_BINARY_DIR}/CMakeFiles/moextract_try_${name}" "${_file}"
      LINK_LIBRARIES ${ARGN} OUTPUT_VARIABLE _output)
    if(NOT _MOEXTRACT_${name}_LINKS)
      file(WRITE "${CMAKE_BINARY_DIR}/CMakeFiles/moextract_try_${name}.log" "${_output}")
    endif()
    set(_MOEXTRACT_${name}_LINKS_FOR "${_key}" CACHE INTERNAL "What ${name} was tried with")
  endif()
  set(${result} "${_MOEXTRACT_${name}_LINKS}" PARENT_SCOPE)
endfunction()

if(NOT MOEXTRACT_WITH_CUDA STREQUAL "OFF")
  find_package(CUDAToolkit QUIET)
  if(NOT CUDAToolkit_FOUND OR NOT TARGET CUDA::cudart)
    set(_reason "no CUDA toolkit was found: set CUDAToolkit_ROOT")
  else()
    _moextract_try_link(_links CUDA "#include <cuda_runtime_api.h>
int main() { int devices = 0; return static_cast<int>(cudaGetDeviceCount(&devices)); }
" CUDA::cudart)
    if(_links)
      set(MOEXTRACT_HAS_CUDA ON)
    else()
      set(_reason "the toolkit ${CUDAToolkit_VERSION} in ${CUDAToolkit_BIN_DIR} does not compile and link; see \
${CMAKE_BINARY_DIR}/CMakeFiles/moextract_try_CUDA.log")
    endif()
  endif()
  if(NOT MOEXTRACT_HAS_CUDA)
    if(MOEXTRACT_WITH_CUDA STREQUAL "ON")
      message(FATAL_ERROR "MOEXTRACT_WITH_CUDA=ON, but ${_reason}")
    endif()
    set(MOEXTRACT_CUDA_NOTE "${_reason}")
  endif()
endif()

# LibTorch's CUDA half, so that tensors can live on the device.
if(MOEXTRACT_HAS_CUDA)
  if(NOT TARGET LibTorch::cuda)
    set(_reason "LibTorch has no CUDA half to link to (${LibTorch_CUDA_MISSING}): run scripts/install-libtorch.sh --gpu")
  elseif(NOT LibTorch_CUDA_VERSION_MAJOR STREQUAL CUDAToolkit_VERSION_MAJOR)
    set(_reason "LibTorch was built with CUDA ${LibTorch_CUDA_VERSION_MAJOR} and the toolkit is \
${CUDAToolkit_VERSION}: set CUDAToolkit_ROOT to one of version ${LibTorch_CUDA_VERSION_MAJOR}")
  else()
    set(MOEXTRACT_HAS_LIBTORCH_CUDA ON)
    set_property(TARGET LibTorch::cuda APPEND PROPERTY INTERFACE_LINK_LIBRARIES CUDA::toolkit)
    # Through LibTorch::cpu, so that a folder links the same target on either kind of machine.
    set_property(TARGET LibTorch::cpu APPEND PROPERTY INTERFACE_LINK_LIBRARIES LibTorch::cuda)
  endif()
  if(NOT MOEXTRACT_HAS_LIBTORCH_CUDA)
    if(MOEXTRACT_WITH_CUDA STREQUAL "ON")
      message(FATAL_ERROR "MOEXTRACT_WITH_CUDA=ON, but ${_reason}")
    endif()
    set(MOEXTRACT_CUDA_NOTE "code for CUDA is compiled, but cannot run: ${_reason}")
  endif()
endif()

# NCCL. LibTorch's wheel brings its own without the name the linker looks for (libnccl.so); where LibTorch's CUDA half is
# linked that one comes first, because a process must not hold two.
if(NOT MOEXTRACT_WITH_NCCL STREQUAL "OFF" AND MOEXTRACT_HAS_CUDA)
  set(_nccl_hints ENV NCCL_ROOT ${CUDAToolkit_INCLUDE_DIRS} ${CUDAToolkit_LIBRARY_DIR})
  if(MOEXTRACT_HAS_LIBTORCH_CUDA)
    get_filename_component(_site "${LibTorch_CUDA_LIBRARY}/../../.." ABSOLUTE)
    set(_nccl_hints "${NCCL_ROOT}" "${_site}/nvidia/nccl" ${_nccl_hints})
  else()
    set(_nccl_hints "${NCCL_ROOT}" ${_nccl_hints})
  endif()
  foreach(_variable NCCL_INCLUDE_DIR NCCL_LIBRARY)
    if(${_variable} AND NOT EXISTS "${${_variable}}")
      unset(${_variable} CACHE)
    endif()
  endforeach()
  find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${_nccl_hints} PATH_SUFFIXES include)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 NAMES_PER_DIR HINTS ${_nccl_hints} PATH_SUFFIXES lib lib64)
  mark_as_advanced(NCCL_INCLUDE_DIR NCCL_LIBRARY)
  set(_reason "nccl.h and libnccl were not both found: set NCCL_ROOT")
  if(NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
    add_library(NCCL::nccl UNKNOWN IMPORTED)
    set_target_properties(NCCL::nccl PROPERTIES
      IMPORTED_LOCATION "${NCCL_LIBRARY}"
      INTERFACE_INCLUDE_DIRECTORIES "${NCCL_INCLUDE_DIR}"
      INTERFACE_LINK_LIBRARIES CUDA::cudart)
    _moextract_try_link(_links NCCL "#include <nccl.h>
int main() { int version = 0; return static_cast<int>(ncclGetVersion(&version)); }
" NCCL::nccl)
    if(_links)
      set(MOEXTRACT_HAS_NCCL ON)
    else()
      set(_reason "${NCCL_INCLUDE_DIR}/nccl.h and ${NCCL_LIBRARY} do not compile and link; see \
${CMAKE_BINARY_DIR}/CMakeFiles/moextract_try_NCCL.log")
    endif()
  endif()
  if(NOT MOEXTRACT_HAS_NCCL AND MOEXTRACT_WITH_NCCL STREQUAL "AUTO")
    message(STATUS "NCCL: its communicator is left out: ${_reason}")
  endif()
endif()
if(MOEXTRACT_WITH_NCCL STREQUAL "ON" AND NOT MOEXTRACT_HAS_NCCL)
  if(NOT MOEXTRACT_HAS_CUDA)
    set(_reason "NCCL needs CUDA, and ${MOEXTRACT_CUDA_NOTE}")
  endif()
  message(FATAL_ERROR "MOEXTRACT_WITH_NCCL=ON, but ${_reason}")
endif()
if(MOEXTRACT_CUDA_NOTE)
  message(STATUS "CUDA: ${MOEXTRACT_CUDA_NOTE}")
endif()
