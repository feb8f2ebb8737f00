// Communicators that reach GPU memory: over the double, and over real GPUs where there are some.
#include "comm/device_ranks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "comm/backends.h"
#include "comm/watched.h"
#include "tests/pipeline/comm/nccl_staged.h"

namespace moextract::comm {
namespace {

/// What rank r puts in: different for every rank and place, exact in all types.
template <class T>
std::vector<T> part_of(int rank, std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i)
    values[i] = static_cast<T>((rank + 1) * 7 - static_cast<int>(i % 11) * (rank + 2));
  return values;
}

template <class T>
void expect_reduces(Communicator& ranks, DeviceCommunicator& copies) {
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1000}}) {
    for (const Reduction reduction : {Reduction::sum, Reduction::min, Reduction::max}) {
      std::vector<T> expected = part_of<T>(ranks.rank(), count);
      const DeviceArray<T> array(std::span<const T>(expected), copies.stream());
      EXPECT_EQ(array.download(copies), expected) << "and so it is there before the sum";
      ranks.all_reduce(DeviceSpan<T>{array.data(), count}, reduction);
      ranks.all_reduce(std::span<T>(expected), reduction);  // the same by way of the host
      EXPECT_EQ(array.download(copies), expected);
    }
  }
}

TEST(DeviceRanksCommunicator, ReducesGpuMemoryAsTheHostDoes) {
  for (const int count : {1, 2, 3, 4, 7}) {
    if (count > visible_gpus()) break;
    run_threads(count, [](Communicator& host) {
      // Streams and copies of the test's own.
      DeviceCommunicator copies(host, host.rank());
      const auto ranks = make_device_ranks(host, host.rank());
      EXPECT_EQ(ranks->name(), "nccl");
      EXPECT_EQ(ranks->rank(), host.rank());
      EXPECT_EQ(ranks->size(), host.size());
      EXPECT_TRUE(ranks->reaches_devices());
      expect_reduces<std::int32_t>(*ranks, copies);
      expect_reduces<std::int64_t>(*ranks, copies);
      expect_reduces<float>(*ranks, copies);
      expect_reduces<double>(*ranks, copies);
      // The host's collectives, each beside those of the GPUs.
      EXPECT_EQ(ranks->broadcast_text(host.rank() == 0 ? "text" : ""), "text");
      const std::vector<std::int32_t> mine(static_cast<std::size_t>(host.rank()), host.rank());
      EXPECT_EQ(ranks->all_gather(std::span<const std::int32_t>(mine)),
                host.all_gather(std::span<const std::int32_t>(mine)));
      ranks->barrier();
      EXPECT_EQ(ranks->split_by_node()->size(), host.size());
      EXPECT_THROW(ranks->together([&] {
        if (host.rank() == host.size() - 1) fail(ExitCode::input, "one rank met an error");
      }),
                   UserError);
    });
  }
}

TEST(DeviceRanksCommunicator, IsReachedThroughTheWatch) {
  const int count = std::min(2, visible_gpus());
  run_threads(count, [](Communicator& host) {
    DeviceCommunicator copies(host, host.rank());
    const auto ranks = make_device_ranks(host, host.rank());
    const auto watched = watch(*ranks, nullptr, {});
    EXPECT_TRUE(watched->reaches_devices());
    expect_reduces<std::int64_t>(*watched, copies);
  });
}

TEST(DeviceRanksCommunicator, OthersReachHostMemoryOnly) {
  run_threads(2, [](Communicator& host) {
    EXPECT_FALSE(host.reaches_devices());
    std::int64_t value = 1;
    EXPECT_THROW(host.all_reduce(DeviceSpan<std::int64_t>{&value, 1}, Reduction::sum), BugError);
  });
  const auto alone = make_self();
  EXPECT_TRUE(alone->reaches_devices()) << "the sum over one rank is there already";
  std::int64_t value = 5;
  alone->all_reduce(DeviceSpan<std::int64_t>{&value, 1}, Reduction::sum);
  EXPECT_EQ(value, 5);
}

}  // namespace
}  // namespace moextract::comm
