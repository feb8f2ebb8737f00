# LibTorch's headers, compiled once: a file that includes ATen/ATen.h spends half of its time in reading them (measured:
# 31.5 s without, 14.7 s with; the headers themselves take 31 s, once a build folder).
add_library(moextract_torch_headers OBJECT "${CMAKE_SOURCE_DIR}/cmake/torch_headers.cpp")
target_link_libraries(moextract_torch_headers PUBLIC moextract_options LibTorch::cpu nlohmann_json::nlohmann_json)
target_precompile_headers(moextract_torch_headers PRIVATE
  <ATen/ATen.h> <nlohmann/json.hpp> <algorithm> <filesystem> <functional> <map> <memory> <mutex> <string> <vector>)
# ccache takes a file that uses them as its own content and theirs.
if(MOEXTRACT_CCACHE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(moextract_torch_headers PRIVATE -fpch-preprocess)
endif()

# moextract_use_torch_headers(TARGET [EXCEPT source...]): `EXCEPT` names sources that must not see them.
function(moextract_use_torch_headers target)
  cmake_parse_arguments(arg "" "" "EXCEPT" ${ARGN})
  if(MOEXTRACT_CCACHE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE -fpch-preprocess)
  endif()
  # Programs are compiled like libraries: headers compiled one way do not serve the other.
  target_compile_options(${target} PRIVATE -fPIC)
  target_precompile_headers(${target} REUSE_FROM moextract_torch_headers)
  if(arg_EXCEPT)
    set_source_files_properties(${arg_EXCEPT} PROPERTIES SKIP_PRECOMPILE_HEADERS ON)
  endif()
endfunction()
