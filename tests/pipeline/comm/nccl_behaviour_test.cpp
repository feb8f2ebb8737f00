// What the NCCL back end promises beside results, where the double and real GPUs must agree. The number of ranks is
// that of the GPUs, up to four; tests that need more than there are say so.
#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <thread>

#include "comm/backends.h"
#include "comm/nccl.h"
#include "tests/pipeline/comm/nccl_staged.h"

namespace moextract::comm {
namespace {

using namespace std::chrono_literals;

int most_ranks() {
  return std::min(4, visible_gpus());
}

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in '" << text << "'";
}

template <class F>
std::string user_error(F&& call) {
  try {
    call();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::distributed);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(DeviceRanks, KnowThemselves) {
  run_threads(most_ranks(), [](Communicator& host) {
    const DeviceCommunicator ranks(host, host.rank());
    EXPECT_EQ(ranks.rank(), host.rank());
    EXPECT_EQ(ranks.size(), host.size());
    EXPECT_EQ(ranks.device(), host.rank());
    expect_contains(ranks.place(), "GPU ");
    EXPECT_EQ(ranks.sequence(), 0u);
    EXPECT_FALSE(ranks.failed());
  });
  EXPECT_EQ(DeviceCommunicator::version().rfind("2.", 0), 0u) << DeviceCommunicator::version();
  EXPECT_EQ(static_cast<int>(visible_devices().size()), visible_gpus());
}

TEST(DeviceRanks, CanBeMadeAgainAndMoved) {
  run_threads(most_ranks(), [](Communicator& host) {
    for (int round = 0; round < 3; ++round) {
      DeviceCommunicator first(host, host.rank());
      DeviceCommunicator ranks = std::move(first);
      const std::vector<std::int32_t> one = {1};
      const DeviceArray<std::int32_t> array(one, ranks.stream());
      ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
      ranks.synchronize();
      EXPECT_EQ(array.download(ranks), std::vector<std::int32_t>{host.size()});
    }
  });
}

TEST(DeviceRanks, TwoOnOneGpuAreRefusedOnAll) {
  std::mutex mutex;
  std::vector<std::string> texts;
  EXPECT_THROW(run_threads(2,
                           [&](Communicator& host) {
                             const std::string text = user_error([&] { DeviceCommunicator(host, 0); });
                             {
                               const std::lock_guard lock(mutex);
                               texts.push_back(text);
                             }
                             throw UserError(ExitCode::distributed, text);
                           }),
               UserError);
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(texts[0], texts[1]);
  expect_contains(texts[0], "rank 0 (device 0) and rank 1 (device 0) both use GPU ");
  expect_contains(texts[0], "CUDA_VISIBLE_DEVICES");
}

TEST(DeviceRanks, ADeviceThatIsNotThereIsRefusedOnAll) {
  const int ranks = most_ranks();
  run_threads(ranks, [&](Communicator& host) {
    const bool bad = host.rank() == ranks - 1;
    const std::string text = user_error([&] { DeviceCommunicator(host, bad ? 99 : host.rank()); });
    expect_contains(text, "device 99 was asked for, but this process sees");
    if (ranks > 1) expect_contains(text, fmt::format("rank {}: ", ranks - 1));
  });
}

TEST(DeviceGroups, DoAllTheirCallsInOneGo) {
  run_threads(most_ranks(), [](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank());
    const int size = ranks.size();
    const std::vector<double> sums(1000, 1.5);
    const std::vector<std::int64_t> largest(7, ranks.rank());
    const std::vector<float> from_last(3, static_cast<float>(ranks.rank()));
    const std::vector<std::int32_t> part = {ranks.rank(), -ranks.rank()};
    const DeviceArray<double> a(sums, ranks.stream());
    const DeviceArray<std::int64_t> b(largest, ranks.stream());
    const DeviceArray<float> c(from_last, ranks.stream());
    const DeviceArray<std::int32_t> d(part, ranks.stream()), all(part.size() * static_cast<std::size_t>(size));
    DeviceGroup group;
    group.all_reduce(a.data(), a.size(), Reduction::sum)
        .all_reduce(b.data(), b.size(), Reduction::max)
        .broadcast(c.data(), c.size(), size - 1)
        .all_gather(d.data(), all.data(), d.size());
    ranks.submit(group, ranks.stream());
    EXPECT_EQ(ranks.pending(), 4u);
    EXPECT_EQ(ranks.sequence(), 4u);
    ranks.synchronize();
    EXPECT_EQ(ranks.pending(), 0u);
    EXPECT_EQ(a.download(ranks), std::vector<double>(1000, 1.5 * size));
    EXPECT_EQ(b.download(ranks), std::vector<std::int64_t>(7, size - 1));
    EXPECT_EQ(c.download(ranks), std::vector<float>(3, static_cast<float>(size - 1)));
    std::vector<std::int32_t> expected;
    for (int rank = 0; rank < size; ++rank) expected.insert(expected.end(), {rank, -rank});
    EXPECT_EQ(all.download(ranks), expected);
  });
}

TEST(DeviceGroups, MayBeEmptyOrHaveEmptyCalls) {
  run_threads(most_ranks(), [](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank());
    ranks.submit(DeviceGroup(), ranks.stream());
    EXPECT_EQ(ranks.sequence(), 0u);
    ranks.synchronize();
    const DeviceArray<float> nothing(0);
    const std::vector<float> one = {1};
    const DeviceArray<float> something(one, ranks.stream());
    ranks.submit(DeviceGroup()
                     .all_reduce(nothing.data(), 0, Reduction::sum)
                     .all_reduce(something.data(), 1, Reduction::sum)
                     .broadcast(nothing.data(), 0),
                 ranks.stream());
    EXPECT_EQ(ranks.sequence(), 3u);
    ranks.synchronize();
    EXPECT_EQ(something.download(ranks), std::vector<float>{static_cast<float>(ranks.size())});
  });
}

TEST(DeviceCalls, AreCarriedOutInStreamOrder) {
  run_threads(most_ranks(), [](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank());
    // Each sum multiplies by the number of ranks, without a wait in between.
    const std::vector<std::int64_t> ones(10, 1);
    const DeviceArray<std::int64_t> array(ones, ranks.stream());
    std::int64_t expected = 1;
    for (int i = 0; i < 10; ++i, expected *= ranks.size()) {
      ranks.all_reduce(array.data(), array.size(), Reduction::sum, ranks.stream());
    }
    EXPECT_EQ(ranks.pending(), 10u);
    ranks.synchronize();
    EXPECT_EQ(array.download(ranks), std::vector<std::int64_t>(10, expected));
  });
}

TEST(DeviceCalls, GatherInPlace) {
  run_threads(most_ranks(), [](Communicator& host) {
    DeviceCommunicator ranks(host, host.rank());
    const auto size = static_cast<std::size_t>(ranks.size());
    std::vector<double> mine(size * 5, -1.0), expected(size * 5);
    for (std::size_t i = 0; i < 5; ++i) mine[static_cast<std::size_t>(ranks.rank()) * 5 + i] = ranks.rank() + 0.5;
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] = static_cast<double>(i / 5) + 0.5;
    const DeviceArray<double> array(mine, ranks.stream());
    ranks.all_gather(array.data() + ranks.rank() * 5, array.data(), 5, ranks.stream());
    ranks.synchronize();
    EXPECT_EQ(array.download(ranks), expected);
  });
}

TEST(DeviceCalls, MisuseIsABug) {
  run_threads(1, [](Communicator& host) {
    DeviceCommunicator ranks(host, 0), others(host, 0);
    const DeviceArray<float> array(1);
    EXPECT_THROW(ranks.broadcast(array.data(), 1, 1, ranks.stream()), BugError);
    EXPECT_THROW(ranks.broadcast(array.data(), 1, -1, ranks.stream()), BugError);
    EXPECT_EQ(ranks.sequence(), 0u);
    ranks.all_reduce(array.data(), 1, Reduction::sum, ranks.stream());
    EXPECT_THROW(ranks.all_reduce(array.data(), 1, Reduction::sum, others.stream()), BugError);
    ranks.synchronize();
    ranks.all_reduce(array.data(), 1, Reduction::sum, others.stream());
    ranks.synchronize();
  });
}

TEST(DeviceDeadline, NamesTheCallThatARankDidNotComeTo) {
  const int size = most_ranks();
  if (size < 2) GTEST_SKIP() << "a rank that does not come needs a second GPU";
  run_threads(size, [&](Communicator& host) {
    std::vector<std::string> lines;
    DeviceCommunicator ranks(
        host, host.rank(),
        {.deadline = 2s, .close_deadline = 1s, .log = [&](const std::string& line) { lines.push_back(line); }});
    const std::vector<float> ones(1000, 1.0f);
    const DeviceArray<float> array(ones, ranks.stream());
    ranks.all_reduce(array.data(), array.size(), Reduction::sum, ranks.stream());
    ranks.synchronize();
    host.barrier();
    if (host.rank() == size - 1) {
      // The object lives on, as that of a rank that is busy elsewhere.
      host.barrier();
      return;
    }
    const auto start = std::chrono::steady_clock::now();
    const std::string text = user_error([&] {
      ranks.all_reduce(array.data(), array.size(), Reduction::sum, ranks.stream());
      ranks.broadcast(array.data(), 10, 0, ranks.stream());
      ranks.synchronize();
    });
    EXPECT_LT(std::chrono::steady_clock::now() - start, 15s);
    expect_contains(text, fmt::format("rank {} of {} (GPU ", host.rank(), size));
    expect_contains(text,
                    "all_reduce number 2 (all_reduce(sum of 1000 float32), 4000 bytes) did not finish within 2 s");
    expect_contains(text, "or one of the 1 calls up to number 3 did not");
    ASSERT_EQ(lines.size(), 1u);
    expect_contains(lines[0], fmt::format("operation=all_reduce sequence=2 bytes=4000 rank={}", host.rank()));

    // From now on it is the same again, at once.
    EXPECT_TRUE(ranks.failed());
    EXPECT_EQ(ranks.pending(), 0u);
    EXPECT_EQ(user_error([&] { ranks.synchronize(); }), text);
    EXPECT_EQ(user_error([&] { ranks.broadcast(array.data(), 1, 0, ranks.stream()); }), text);
    EXPECT_EQ(lines.size(), 1u);
    host.barrier();
  });
}

}  // namespace
}  // namespace moextract::comm
