// Gradient sums in GPU memory go over NCCL, and have the bits of those that go over the host.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <mutex>

#include "comm/backends.h"
#include "comm/device_ranks.h"
#include "comm/watched.h"
#include "core/random.h"
#include "tests/pipeline/comm/nccl_double.h"
#include "train/gradient_sum.h"

namespace moextract::train {
namespace {

constexpr std::int64_t kLength = 257, kParts = 11;

at::Tensor part(std::int64_t number) {
  RandomStream random(3, 4, static_cast<std::uint64_t>(number));
  at::Tensor values = at::empty({kLength}, at::kFloat);
  for (std::int64_t i = 0; i < kLength; ++i) values.data_ptr<float>()[i] = static_cast<float>(random.normal());
  return values;
}

std::vector<float> read(const GradientSum& sum) {
  std::vector<float> values(kLength);
  sum.read(0, values);
  return values;
}

TEST(GradientsOnDevices, TravelOverNcclToTheSameBits) {
  GradientSum plain(kLength, 2, kParts);
  for (std::int64_t p = 0; p < kParts; ++p) ASSERT_TRUE(plain.add(0, part(p)));
  const std::vector<float> expected = read(plain);
  for (const int ranks : {1, 2, 3, 4}) {
    nccl_double::reset();
    std::mutex mutex;
    comm::run_threads(ranks, [&](comm::Communicator& host) {
      const auto devices = comm::make_device_ranks(host, host.rank());
      const auto watched = comm::watch(*devices, nullptr, {});
      GradientSum sum(kLength, 2, kParts, {at::kCPU, /*as_device_memory=*/true});
      for (std::int64_t p = host.rank(); p < kParts; p += host.size()) sum.add(0, part(p));
      sum.add_scalar(1, host.rank() + 1);
      sum.all_reduce(*watched);
      const std::lock_guard lock(mutex);
      EXPECT_EQ(read(sum), expected);
      EXPECT_EQ(sum.scalar(0), 0);
      EXPECT_EQ(sum.scalar(1), ranks * (ranks + 1) / 2);
    });
    EXPECT_EQ(nccl_double::calls("ncclAllReduce"), ranks) << "one collective a rank";
    EXPECT_EQ(nccl_double::misuse(), std::vector<std::string>());
    EXPECT_EQ(nccl_double::communicators(), 0);
  }
}

TEST(GradientsOnDevices, AreNotTakenForTheHostsByMistake) {
  comm::run_threads(2, [](comm::Communicator& host) {
    GradientSum sum(4, 1, 1, {at::kCPU, true});
    EXPECT_THROW(sum.all_reduce(host), BugError) << "a communicator of host memory";
    EXPECT_THROW(sum.add(0, std::vector<float>{1, 2}), BugError);
  });
}

}  // namespace
}  // namespace moextract::train
