# Options every target of ours shares. What is in BUILD_INTERFACE does not go with installed libraries to those who use
# them (cmake/MoextractInstall.cmake).
add_library(moextract_options INTERFACE)
target_include_directories(moextract_options INTERFACE
  "$<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/pipeline>" "$<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}>")
# No contraction and no reassociation: results are promised to be the same bits on every rank and thread count. That
# holds for inline functions of our headers in other programs too.
target_compile_options(moextract_options INTERFACE
  $<BUILD_INTERFACE:-Wall> $<BUILD_INTERFACE:-Wextra> $<BUILD_INTERFACE:-Wno-unused-parameter> -ffp-contract=off)
if(MOEXTRACT_WERROR)
  target_compile_options(moextract_options INTERFACE $<BUILD_INTERFACE:-Werror>)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND MOEXTRACT_CPU)
  target_compile_options(moextract_options INTERFACE $<BUILD_INTERFACE:-march=${MOEXTRACT_CPU}>)
endif()
if(MOEXTRACT_SANITIZE)
  target_compile_options(moextract_options INTERFACE -fsanitize=${MOEXTRACT_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(moextract_options INTERFACE -fsanitize=${MOEXTRACT_SANITIZE})
endif()

# moextract_library(NAME SOURCES a.cpp ... DEPENDS targets... [PRIVATE_DEPENDS targets...])
# One library a folder. PRIVATE_DEPENDS keeps an outside package's headers inside the folder.
function(moextract_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(moextract_${name} STATIC ${arg_SOURCES})
  target_link_libraries(moextract_${name} PUBLIC moextract_options ${arg_DEPENDS} PRIVATE ${arg_PRIVATE_DEPENDS})
endfunction()

# moextract_test(NAME SOURCES a.cpp ... DEPENDS targets... [RANKS 1 2 ...] [LABELS ...] [TIMEOUT s])
# Without RANKS the test is one process. With RANKS it is registered once per rank count and started by mpirun.
function(moextract_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;DEPENDS;RANKS;LABELS" ${ARGN})
  add_executable(test_${name} ${arg_SOURCES})
  if(arg_RANKS)
    target_link_libraries(test_${name} PRIVATE ${arg_DEPENDS} GTest::gtest)
  else()
    target_link_libraries(test_${name} PRIVATE ${arg_DEPENDS} GTest::gtest GTest::gtest_main)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(arg_RANKS)
    foreach(ranks IN LISTS arg_RANKS)
      add_test(NAME ${name}.ranks${ranks}
               COMMAND "${CMAKE_SOURCE_DIR}/tests/mpirun.sh" ${ranks} $<TARGET_FILE:test_${name}>)
      set_tests_properties(${name}.ranks${ranks} PROPERTIES
        LABELS "multi-rank;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT} PROCESSORS 2)
    endforeach()
  else()
    add_test(NAME ${name} COMMAND test_${name})
    set_tests_properties(${name} PROPERTIES LABELS "unit;${arg_LABELS}" TIMEOUT ${arg_TIMEOUT})
  endif()
endfunction()
