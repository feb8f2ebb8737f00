# The NCCL back end. Its control flow is tested against a double of NCCL and CUDA, which needs their headers alone; the
# same suite is built for real GPUs too and is skipped where there is none.
if(NOT MOEXTRACT_HAS_NCCL)
  message(STATUS "Tests of the NCCL back end are left out: NCCL or the CUDA toolkit was not found or is switched off")
  return()
endif()

set(nccl_headers $<TARGET_PROPERTY:NCCL::nccl,INTERFACE_INCLUDE_DIRECTORIES> ${CUDAToolkit_INCLUDE_DIRS})

moextract_test(comm_nccl
  SOURCES ${suite} nccl_staged.cpp nccl_behaviour_test.cpp device_ranks_test.cpp nccl_fault_test.cpp device_ranks_fault_test.cpp
          nccl_place_test.cpp nccl_double.cpp
  DEPENDS moextract_comm_nccl_unbound
  TIMEOUT 120)
target_include_directories(test_comm_nccl SYSTEM PRIVATE ${nccl_headers})

add_executable(test_comm_nccl_device nccl_device_test.cpp ${suite} nccl_staged.cpp nccl_behaviour_test.cpp device_ranks_test.cpp)
target_include_directories(test_comm_nccl_device SYSTEM PRIVATE ${nccl_headers})
target_link_libraries(test_comm_nccl_device PRIVATE moextract_comm_nccl GTest::gtest)
add_test(NAME comm_nccl_device COMMAND test_comm_nccl_device)
set_tests_properties(comm_nccl_device PROPERTIES LABELS "gpu" TIMEOUT 300 SKIP_RETURN_CODE 77)
