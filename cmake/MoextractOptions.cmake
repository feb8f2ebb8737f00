# What a user may ask for. MOEXTRACT_WITH_* says what was asked, MOEXTRACT_HAS_* (set later) what was found.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()

option(MOEXTRACT_BUILD_TESTS "Build the tests" ON)
option(MOEXTRACT_BUILD_BENCH "Build the benchmarks" OFF)
option(MOEXTRACT_BUILD_FUZZ "Define the fuzz targets (clang with libFuzzer; preset fuzz)" OFF)
option(MOEXTRACT_WERROR "Treat warnings as errors" OFF)
set(MOEXTRACT_SANITIZE "" CACHE STRING "Sanitizers, as for -fsanitize= (address,undefined or thread)")
set(MOEXTRACT_WITH_CUDA AUTO CACHE STRING "CUDA code: AUTO, ON or OFF")
set(MOEXTRACT_WITH_NCCL AUTO CACHE STRING "NCCL communicator: AUTO, ON or OFF")
set_property(CACHE MOEXTRACT_WITH_CUDA PROPERTY STRINGS AUTO ON OFF)
set_property(CACHE MOEXTRACT_WITH_NCCL PROPERTY STRINGS AUTO ON OFF)
set(MOEXTRACT_CPU "x86-64-v3" CACHE STRING
    "Value of -march on x86-64: x86-64-v3 runs on all machines since 2013-2015; 'native' ties the build to this one")

find_program(MOEXTRACT_CCACHE ccache)
if(MOEXTRACT_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The sloppiness is what ccache wants for precompiled headers.
  set(CMAKE_CXX_COMPILER_LAUNCHER "${CMAKE_COMMAND}" -E env CCACHE_SLOPPINESS=pch_defines,time_macros "${MOEXTRACT_CCACHE}")
endif()
