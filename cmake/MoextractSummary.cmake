message(STATUS "moextract ${PROJECT_VERSION}: LibTorch ${LibTorch_VERSION} (${LibTorch_CPU_LIBRARY}), "
               "MPI ${MPI_C_VERSION}, HDF5 ${HDF5_VERSION}")
message(STATUS "  CUDA asked: ${MOEXTRACT_WITH_CUDA}, found: ${MOEXTRACT_HAS_CUDA}; "
               "NCCL asked: ${MOEXTRACT_WITH_NCCL}, found: ${MOEXTRACT_HAS_NCCL}; tests: ${MOEXTRACT_BUILD_TESTS}")
