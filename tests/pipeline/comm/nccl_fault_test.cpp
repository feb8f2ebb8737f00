// What the NCCL back end does when NCCL or CUDA delay, fail or never answer: by way of the double. After each test of
// the program, the common suite's too, all communicators, streams and memory have been given back, and nothing was done
// that the real libraries forbid.
#include <gtest/gtest.h>
#include <nccl.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "comm/backends.h"
#include "comm/nccl.h"
#include "tests/pipeline/comm/nccl_double.h"
#include "tests/pipeline/comm/nccl_staged.h"

namespace moextract::comm {
namespace {

using namespace std::chrono_literals;
using nccl_double::Effect;
using Clock = std::chrono::steady_clock;

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in '" << text << "'";
}

void expect_clean_double() {
  EXPECT_EQ(nccl_double::communicators(), 0);
  EXPECT_EQ(nccl_double::streams(), 0);
  EXPECT_EQ(nccl_double::allocations(), 0);
  EXPECT_EQ(nccl_double::misuse(), std::vector<std::string>());
}

class CleanDouble final : public testing::EmptyTestEventListener {
  void OnTestEnd(const testing::TestInfo&) override {
    expect_clean_double();
    nccl_double::reset();
  }
};
[[maybe_unused]] const bool kListens = [] {
  testing::UnitTest::GetInstance()->listeners().Append(new CleanDouble);
  return true;
}();

class NcclFaults : public testing::Test {
 protected:
  /// For tests that let a deadline pass: long enough for ranks that share two busy cores.
  static constexpr std::chrono::milliseconds kShort = 1s;
  /// For tests in which all goes well.
  static constexpr std::chrono::milliseconds kLong = 60s;

  DeviceOptions options(std::chrono::milliseconds deadline = kShort) {
    return {.deadline = deadline,
            .close_deadline = deadline == kLong ? kLong : 300ms,
            .log = [this](const std::string& line) {
              const std::lock_guard lock(mutex_);
              lines_.push_back(line);
            }};
  }
  std::vector<std::string> lines() {
    const std::lock_guard lock(mutex_);
    return lines_;
  }

  /// Runs `body` on `ranks` ranks; the text of each rank's UserError, empty where none was thrown. Nobody may hang.
  template <class Body>
  std::vector<std::string> errors(int ranks, Body&& body) {
    std::vector<std::string> texts(static_cast<std::size_t>(ranks));
    const auto start = Clock::now();
    run_threads(ranks, [&](Communicator& host) {
      try {
        body(host);
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), ExitCode::distributed) << error.what();
        texts[static_cast<std::size_t>(host.rank())] = error.what();
      }
    });
    EXPECT_LT(Clock::now() - start, 20s);
    return texts;
  }

  /// The errors of making a communicator on four ranks.
  std::vector<std::string> start_errors(std::chrono::milliseconds deadline = kShort) {
    return errors(4, [&](Communicator& host) { DeviceCommunicator(host, host.rank(), options(deadline)); });
  }

  /// The errors of the third of three sums on four ranks.
  std::vector<std::string> third_sum_errors(std::chrono::milliseconds deadline = kShort) {
    return errors(4, [&](Communicator& host) {
      DeviceCommunicator ranks(host, host.rank(), options(deadline));
      const std::vector<double> ones(100, 1.0);
      const DeviceArray<double> array(ones, ranks.stream());
      for (int i = 0; i < 3; ++i) {
        ranks.all_reduce(array.data(), array.size(), Reduction::sum, ranks.stream());
        ranks.synchronize();
      }
    });
  }

 private:
  std::mutex mutex_;
  std::vector<std::string> lines_;
};

// --- the start ---

TEST_F(NcclFaults, StartWaitsForRanksThatAreLate) {
  nccl_double::arrange(
      {.function = "ncclCommInitRankConfig", .effect = Effect::in_progress, .device = 2, .time = 100ms});
  for (const std::string& text : start_errors(kLong)) EXPECT_EQ(text, "");
  EXPECT_EQ(nccl_double::calls("ncclGetUniqueId"), 1);
  EXPECT_EQ(nccl_double::calls("ncclCommFinalize"), 4);
  EXPECT_EQ(nccl_double::calls("ncclCommDestroy"), 4);
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 0);
}

TEST_F(NcclFaults, StartThatFailsOnOneRankFailsOnAllWithItsCause) {
  nccl_double::arrange(
      {.function = "ncclCommInitRankConfig", .effect = Effect::fail, .device = 2, .code = ncclSystemError});
  // Ranks 0, 1 and 3 wait in vain; the cause is what all report.
  for (const std::string& text : start_errors()) {
    expect_contains(text, "rank 2: ncclCommInitRankConfig failed: unhandled system error");
    expect_contains(text, "NCCL_DEBUG=INFO");
  }
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 3);
  EXPECT_EQ(lines().size(), 1u) << "printed once";
}

TEST_F(NcclFaults, StartThatFailsLaterFailsOnAll) {
  nccl_double::arrange(
      {.function = "ncclCommInitRankConfig", .effect = Effect::async_error, .device = 1, .code = ncclRemoteError});
  for (const std::string& text : start_errors()) {
    expect_contains(text, "rank 1: NCCL did not start: remote process exited");
  }
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 4);
}

TEST_F(NcclFaults, StartThatNeverEndsIsGivenUp) {
  nccl_double::arrange({.function = "ncclCommInitRankConfig", .effect = Effect::never, .device = 3});
  for (const std::string& text : start_errors()) expect_contains(text, "rank 0: NCCL did not start within 1 s");
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 4);
}

TEST_F(NcclFaults, ErrorsBeforeTheStartReachAllRanks) {
  struct Case {
    nccl_double::Fault fault;
    const char* text;
  };
  const std::vector<Case> cases = {
      {{"ncclGetUniqueId", Effect::fail, 0, 0, ncclSystemError}, "rank 0: ncclGetUniqueId failed: unhandled system"},
      {{"cudaSetDevice", Effect::fail, 3, 0, cudaErrorDevicesUnavailable},
       "rank 3: cudaSetDevice failed: a CUDA error"},
      {{"cudaDeviceGetPCIBusId", Effect::fail, 1, 0, cudaErrorInvalidValue}, "rank 1: cudaDeviceGetPCIBusId failed"},
      {{"cudaStreamCreateWithFlags", Effect::fail, 2, 0, cudaErrorMemoryAllocation},
       "rank 2: cudaStreamCreateWithFlags"},
      {{"cudaGetDeviceCount", Effect::fail, 0, 0, cudaErrorNoDevice}, "cudaGetDeviceCount failed"},
  };
  for (const Case& each : cases) {
    nccl_double::reset();
    nccl_double::arrange(each.fault);
    for (const std::string& text : start_errors()) expect_contains(text, each.text);
    EXPECT_EQ(nccl_double::calls("ncclCommInitRankConfig"), 0) << each.text;
    expect_clean_double();
  }
}

TEST_F(NcclFaults, TwoNumbersOfOneGpuAreRefused) {
  nccl_double::set_bus(1, "0000:aa:00.0");
  nccl_double::set_bus(3, "0000:aa:00.0");
  for (const std::string& text : start_errors()) {
    expect_contains(text, "rank 1 (device 1) and rank 3 (device 3) both use GPU 0000:aa:00.0 of ");
  }
  EXPECT_EQ(nccl_double::calls("ncclGetUniqueId"), 0);
}

// --- calls ---

TEST_F(NcclFaults, CallsInProgressAreWaitedFor) {
  // The double notes it if a call follows, or the stream is looked at, before NCCL has settled.
  for (const char* function : {"ncclAllReduce", "ncclGroupEnd"}) {
    nccl_double::arrange({.function = function, .effect = Effect::in_progress, .time = 3ms});
  }
  run_threads(4, [&](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank(), options(kLong));
    const std::vector<std::int64_t> ones(10, 1);
    const DeviceArray<std::int64_t> array(ones, ranks.stream());
    ranks.all_reduce(array.data(), 10, Reduction::sum, ranks.stream());
    ranks.all_reduce(array.data(), 10, Reduction::sum, ranks.stream());
    ranks.submit(
        DeviceGroup().all_reduce(array.data(), 5, Reduction::sum).all_reduce(array.data() + 5, 5, Reduction::sum),
        ranks.stream());
    ranks.synchronize();
    EXPECT_EQ(array.download(ranks), std::vector<std::int64_t>(10, 64));
  });
  EXPECT_EQ(nccl_double::calls("ncclGroupStart"), 4);
  EXPECT_EQ(nccl_double::calls("ncclGroupEnd"), 4);
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 0);
}

TEST_F(NcclFaults, ASlowCallIsWaitedFor) {
  nccl_double::arrange({.function = "ncclAllReduce", .effect = Effect::slow, .device = 1, .call = 2, .time = 150ms});
  for (const std::string& text : third_sum_errors(kLong)) EXPECT_EQ(text, "");
  EXPECT_TRUE(lines().empty());
}

TEST_F(NcclFaults, ARankThatNeverComesEndsAllByTheirDeadline) {
  nccl_double::arrange({.function = "ncclAllReduce", .effect = Effect::never, .device = 1, .call = 3});
  const std::vector<std::string> texts = third_sum_errors();
  for (int rank = 0; rank < 4; ++rank) {
    expect_contains(texts[static_cast<std::size_t>(rank)],
                    fmt::format("rank {} of 4 (GPU 0000:0{}:00.0 of ", rank, rank));
    expect_contains(texts[static_cast<std::size_t>(rank)],
                    "all_reduce number 3 (all_reduce(sum of 100 float64), 800 bytes) did not finish within 1 s.");
  }
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 4);
  EXPECT_EQ(nccl_double::calls("ncclCommDestroy"), 0);
  std::vector<std::string> sorted = lines();
  std::sort(sorted.begin(), sorted.end());
  ASSERT_EQ(sorted.size(), 4u);
  for (int rank = 0; rank < 4; ++rank) {
    expect_contains(sorted[static_cast<std::size_t>(rank)],
                    fmt::format("operation=all_reduce sequence=3 bytes=800 rank={}: did not finish", rank));
  }
}

TEST_F(NcclFaults, AnAsyncErrorEndsAllRanks) {
  nccl_double::arrange({.function = "ncclAllReduce",
                        .effect = Effect::async_error,
                        .device = 2,
                        .call = 3,
                        .code = ncclRemoteError,
                        .time = 20ms});
  const std::vector<std::string> texts = third_sum_errors();
  expect_contains(texts[2], "all_reduce number 3");
  expect_contains(texts[2], "failed: NCCL reports remote process exited or there was a network error");
  for (const std::size_t rank : {0u, 1u, 3u}) expect_contains(texts[rank], "did not finish within 1 s");
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 4);
}

TEST_F(NcclFaults, AnAsyncErrorBeatsAStreamThatIsReady) {
  // The kernels of a failed NCCL end early, so the stream looks done.
  nccl_double::arrange({.function = "ncclCommGetAsyncError",
                        .effect = Effect::async_error,
                        .device = 0,
                        .call = 40,
                        .code = ncclSystemError});
  const std::vector<std::string> texts = errors(1, [&](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank(), options());
    const DeviceArray<float> array(1);
    for (int i = 0; i < 100; ++i) {
      ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
      ranks.synchronize();
    }
  });
  expect_contains(texts[0], "NCCL reports unhandled system error");
}

TEST_F(NcclFaults, EveryFunctionThatFailsIsNamedAndEndsTheRank) {
  struct Case {
    nccl_double::Fault fault;
    const char* text;
  };
  const std::vector<Case> cases = {
      {{"ncclAllReduce", Effect::fail, 0, 0, ncclInvalidUsage},
       "all_reduce number 2 (all_reduce(max of 4 int32), 16 bytes) "
       "failed: invalid usage"},
      {{"ncclBroadcast", Effect::fail, 0, 0, ncclInvalidUsage},
       "broadcast number 1 (broadcast(16 bytes from rank 0), 16 bytes) failed: invalid usage"},
      {{"ncclAllGather", Effect::fail, 0, 0, ncclInvalidUsage},
       "all_gather number 3 (all_gather(8 bytes of each rank), 8 bytes) failed: invalid usage"},
      {{"ncclGroupStart", Effect::fail, 0, 0, ncclSystemError}, "failed: ncclGroupStart: unhandled system error"},
      {{"ncclGroupEnd", Effect::fail, 0, 0, ncclSystemError}, "failed: ncclGroupEnd: unhandled system error"},
      {{"ncclGroupEnd", Effect::never, 0, 0}, "did not get onto its stream within 1 s"},
      {{"ncclGroupEnd", Effect::async_error, 0, 0, ncclRemoteError}, "NCCL reports remote process exited"},
      {{"cudaStreamQuery", Effect::fail, 0, 0, cudaErrorIllegalAddress},
       "broadcast number 1 (broadcast(16 bytes from rank 0), 16 bytes) failed: CUDA reports an illegal memory access"},
      {{"cudaStreamQuery", Effect::never, 0, 0},
       "did not finish within 1 s, or one of the 2 calls up to number 3 did not"},
  };
  for (const Case& each : cases) {
    SCOPED_TRACE(fmt::format("{}: {}", each.fault.function, each.text));
    nccl_double::reset();
    nccl_double::arrange(each.fault);
    const std::vector<std::string> texts = errors(1, [&](Communicator& host) {
      DeviceCommunicator ranks(host, host.rank(), options());
      const DeviceArray<std::int32_t> array(4), all(6);
      ranks.submit(DeviceGroup()
                       .broadcast(array.data(), 4, 0)
                       .all_reduce(array.data(), 4, Reduction::max)
                       .all_gather(array.data(), all.data(), 2),
                   ranks.stream());
      ranks.synchronize();
    });
    expect_contains(texts[0], each.text);
    EXPECT_EQ(nccl_double::calls("ncclCommAbort", 0), 1);
    // A group left open would swallow the next calls of the thread.
    EXPECT_EQ(nccl_double::calls("ncclGroupEnd", 0), std::string(each.fault.function) == "ncclGroupStart" ? 0 : 1);
    expect_clean_double();
  }
}

TEST_F(NcclFaults, AnErrorOfCudaIsNotLeftForOthersToFind) {
  nccl_double::arrange({.function = "cudaStreamQuery", .effect = Effect::never, .device = 0, .call = 1});
  run_threads(1, [&](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank(), options());
    const DeviceArray<float> array(1);
    ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
    ranks.synchronize();
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  });
}

TEST_F(NcclFaults, CallsThatDifferEndByTheDeadlineAndTellBothCalls) {
  const std::vector<std::string> texts = errors(2, [&](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank(), options());
    const DeviceArray<float> array(8);
    ranks.all_reduce(array.data(), host.rank() == 0 ? 8 : 7, Reduction::sum, ranks.stream());
    ranks.synchronize();
  });
  expect_contains(texts[0], "sum of 8 float32");
  expect_contains(texts[1], "sum of 7 float32");
}

// --- the end ---

TEST_F(NcclFaults, ClosingDoesNotWaitForARankThatThrew) {
  const auto start = Clock::now();
  EXPECT_THROW(run_threads(3,
                           [&](Communicator& host) {
                             DeviceOptions mine = options();
                             mine.close_deadline = 10s;
                             const DeviceCommunicator ranks(host, host.rank(), mine);
                             throw std::runtime_error("of its own");
                           }),
               std::runtime_error);
  EXPECT_LT(Clock::now() - start, 5s);
  EXPECT_EQ(nccl_double::calls("ncclCommFinalize"), 0);
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 3);
}

TEST_F(NcclFaults, ClosingIsBoundedWhenAnotherRankIsGone) {
  run_threads(2, [&](Communicator& host) {
    auto ranks = std::make_unique<DeviceCommunicator>(host, host.rank(), options());
    if (host.rank() == 0) ranks.reset();  // finalizes alone, in vain
    host.barrier();
    EXPECT_EQ(nccl_double::calls("ncclCommAbort", 0), 1);
  });
}

TEST_F(NcclFaults, ClosingWithCallsUnderWayAbortsAndSaysSo) {
  run_threads(1, [&](Communicator& host) {
    const DeviceArray<float> array(1);
    DeviceCommunicator ranks(host, 0, options());
    ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
  });
  EXPECT_EQ(nccl_double::calls("ncclCommAbort"), 1);
  ASSERT_EQ(lines().size(), 1u);
  expect_contains(lines()[0], "closed with 1 calls not synchronized");
}

TEST_F(NcclFaults, ClosingSurvivesWhatFails) {
  for (const char* function : {"ncclCommFinalize", "ncclCommDestroy", "cudaStreamDestroy"}) {
    nccl_double::reset();
    nccl_double::arrange({.function = function, .effect = Effect::fail, .call = 1, .code = 2});
    run_threads(2, [&](Communicator& host) { DeviceCommunicator(host, host.rank(), options()); });
    EXPECT_EQ(nccl_double::misuse(), std::vector<std::string>()) << function;
    nccl_double::reset();  // what could not be destroyed is not there to be given back
  }
}

TEST_F(NcclFaults, TearingDownThatNeverReturnsIsLeftBehind) {
  for (const char* function : {"ncclCommDestroy", "ncclCommAbort"}) {
    nccl_double::reset();
    nccl_double::arrange({.function = function, .effect = Effect::never});
    const auto start = Clock::now();
    run_threads(2, [&](Communicator& host) {
      const DeviceArray<float> array(1);  // outlives a call that is not synchronized
      DeviceCommunicator ranks(host, host.rank(), options());
      ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
      if (std::string(function) == "ncclCommDestroy") ranks.synchronize();
    });
    EXPECT_LT(Clock::now() - start, 5s);
    bool told = false;
    for (const std::string& line : lines())
      told |= line.find(std::string(function) + " did not end within 0.3 s") != std::string::npos;
    EXPECT_TRUE(told) << function;
    // The threads left behind come back, so that the next test starts clean.
    nccl_double::release();
    while (nccl_double::communicators() > 0) std::this_thread::sleep_for(1ms);
    expect_clean_double();
  }
}

TEST_F(NcclFaults, AFailedLogHidesNothing) {
  nccl_double::arrange({.function = "ncclAllReduce", .effect = Effect::fail, .code = ncclInvalidUsage});
  const std::vector<std::string> texts = errors(1, [&](Communicator& host) {
    DeviceOptions mine = options();
    mine.log = [](const std::string&) { throw std::runtime_error("disk full"); };
    DeviceCommunicator ranks(host, 0, mine);
    const DeviceArray<float> array(1);
    ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
  });
  expect_contains(texts[0], "failed: invalid usage");
}

}  // namespace
}  // namespace moextract::comm
