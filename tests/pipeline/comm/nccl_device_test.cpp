// The tests of the NCCL back end on real GPUs, with the real NCCL: ranks are threads, one for each GPU that is seen.
// Where there is none, it says so and is skipped.
#include <gtest/gtest.h>

#include <cstdio>

#include "tests/pipeline/comm/nccl_staged.h"

namespace {
constexpr int kSkipped = 77;  // told to CTest as SKIP_RETURN_CODE
}

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  const int gpus = moextract::comm::visible_gpus();
  if (gpus == 0) {
    std::puts("skipped: this process sees no GPU (or no driver), and these tests run on real ones");
    return kSkipped;
  }
  std::printf("NCCL %s, %d GPUs\n", moextract::comm::DeviceCommunicator::version().c_str(), gpus);
  return RUN_ALL_TESTS();
}
