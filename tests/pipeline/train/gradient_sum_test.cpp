// Gradients summed as integers: exact, and the same whatever the order; learning rates over steps.
#include "train/gradient_sum.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>

#include "comm/backends.h"
#include "core/random.h"
#include "train/schedule.h"

namespace moextract::train {
namespace {

constexpr std::int64_t kLength = 300;

std::vector<std::vector<float>> random_parts(std::int64_t parts) {
  std::vector<std::vector<float>> all;
  for (std::int64_t p = 0; p < parts; ++p) {
    RandomStream random(1, 2, static_cast<std::uint64_t>(p));
    std::vector<float> part(kLength);
    for (float& v : part) v = static_cast<float>(random.normal() * std::exp(4 * random.normal()));
    for (float& v : part) v = std::clamp(v, -40.0f, 40.0f);  // below 2^10 / 24, what a part may hold
    all.push_back(part);
  }
  return all;
}

std::vector<float> read(const GradientSum& sum) {
  std::vector<float> values(kLength);
  sum.read(0, values);
  return values;
}

TEST(GradientSum, IsTheSumOfValuesRoundedOnce) {
  const auto parts = random_parts(16);
  GradientSum sum(kLength, 0, 16);
  for (const auto& part : parts) ASSERT_TRUE(sum.add(0, part));
  const std::vector<float> found = read(sum);
  for (std::size_t i = 0; i < kLength; ++i) {
    long double exact = 0;
    for (const auto& part : parts) exact += std::nearbyint(static_cast<long double>(part[i]) * 0x1.0p52L);
    EXPECT_EQ(found[i], static_cast<float>(static_cast<double>(exact) * 0x1.0p-52)) << i;
    // And close to what a plain sum gives: 16 roundings of 2^-53, one of float32.
    long double plain = 0;
    for (const auto& part : parts) plain += part[i];
    EXPECT_NEAR(found[i], static_cast<double>(plain), 1e-14 + 6e-8 * std::abs(static_cast<double>(plain)));
  }
}

TEST(GradientSum, OffsetsAndScalarsKeepApart) {
  GradientSum sum(4, 2, 1);
  EXPECT_TRUE(sum.add(1, std::vector<float>{1.5f, -2.0f}));
  sum.add_scalar(0, 7);
  sum.add_scalar(1, -9);
  sum.add_scalar(1, 1);
  std::vector<float> all(4);
  sum.read(0, all);
  EXPECT_EQ(all, (std::vector<float>{0, 1.5f, -2.0f, 0}));
  EXPECT_EQ(sum.scalar(0), 7);
  EXPECT_EQ(sum.scalar(1), -8);
  sum.clear();
  sum.read(0, all);
  EXPECT_EQ(all, std::vector<float>(4, 0.0f));
  EXPECT_EQ(sum.scalar(1), 0);
}

TEST(GradientSum, SameBitsInAnyOrderAndOnAnyRanks) {
  const std::int64_t count = 24;
  const auto parts = random_parts(count);
  GradientSum plain(kLength, 1, count);
  for (const auto& part : parts) ASSERT_TRUE(plain.add(0, part));
  const std::vector<float> expected = read(plain);
  for (std::uint64_t round = 0; round < 5; ++round) {
    GradientSum sum(kLength, 1, count), other(kLength, 1, count);
    for (const std::int64_t p : RandomStream(5, 5, round).permutation(count)) {
      ASSERT_TRUE((p % 3 ? sum : other).add(0, parts[static_cast<std::size_t>(p)]));
    }
    sum.merge(other);
    EXPECT_EQ(read(sum), expected);
  }
  for (const int ranks : {2, 3, 4}) {
    std::mutex mutex;
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      GradientSum sum(kLength, 1, count);
      for (std::int64_t p = comm.rank(); p < count; p += comm.size()) sum.add(0, parts[static_cast<std::size_t>(p)]);
      sum.add_scalar(0, 1);
      sum.all_reduce(comm);
      const std::lock_guard lock(mutex);
      EXPECT_EQ(read(sum), expected);
      EXPECT_EQ(sum.scalar(0), ranks);
    });
  }
}

TEST(GradientSum, OfTensorsHasTheBitsOfTheLoops) {
  const std::int64_t count = 24;
  const auto parts = random_parts(count);
  GradientSum plain(kLength, 1, count);
  // One rank: nothing travels, so tensors of the CPU can stand for a GPU's.
  GradientSum tensors(kLength, 1, count, {at::kCPU, true}), other(kLength, 1, count, {at::kCPU, true});
  for (std::size_t p = 0; p < parts.size(); ++p) {
    const at::Tensor part = at::from_blob(const_cast<float*>(parts[p].data()), {15, 20}, at::kFloat);
    ASSERT_TRUE(plain.add(0, part));
    ASSERT_TRUE((p % 2 ? tensors : other).add(0, part.t().contiguous().t())) << "in any layout";
  }
  tensors.add_scalar(0, 3);
  other.add_scalar(0, 4);
  tensors.merge(other);
  tensors.all_reduce(*comm::make_self());
  EXPECT_EQ(read(tensors), read(plain));
  EXPECT_EQ(tensors.scalar(0), 7);
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), -50.0f}) {
    EXPECT_FALSE(tensors.add(3, at::full({2}, bad, at::kFloat))) << bad;
  }
  EXPECT_EQ(read(tensors), read(plain)) << "what was refused left nothing";
  tensors.clear();
  EXPECT_EQ(read(tensors), std::vector<float>(kLength, 0.0f));
  EXPECT_EQ(tensors.scalar(0), 0);
}

TEST(GradientSum, RefusesWhatIsNoNumberOrTooLarge) {
  GradientSum sum(3, 0, 4);  // each part below 2^10 / 4
  const std::vector<float> good{1, 255.9f, -255.9f};
  ASSERT_TRUE(sum.add(0, good));
  for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity(), 256.0f, -256.0f, -1e30f}) {
    for (std::size_t place = 0; place < 3; ++place) {
      std::vector<float> values{1, 1, 1};
      values[place] = bad;
      EXPECT_FALSE(sum.add(0, values)) << bad;
    }
  }
  std::vector<float> found(3);
  sum.read(0, found);
  EXPECT_EQ(found, good) << "what was refused left nothing";
  // The largest parts that are accepted do not overflow, even as many as were said.
  ASSERT_TRUE(sum.add(0, good));
  ASSERT_TRUE(sum.add(0, good));
  ASSERT_TRUE(sum.add(0, good));
  sum.read(0, found);
  EXPECT_NEAR(found[1], 4 * 255.9, 1e-3);
  EXPECT_NEAR(found[2], -4 * 255.9, 1e-3);
}

TEST(Schedule, WarmsUpAndFallsAsACosine) {
  // 10 steps of warm-up, then half a cosine over 90.
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 100, 10, 2.0, 0.1), 0.2);
  EXPECT_DOUBLE_EQ(warmup_cosine(4, 100, 10, 2.0, 0.1), 1.0);
  EXPECT_DOUBLE_EQ(warmup_cosine(9, 100, 10, 2.0, 0.1), 2.0);
  EXPECT_DOUBLE_EQ(warmup_cosine(10, 100, 10, 2.0, 0.1), 2.0);
  EXPECT_NEAR(warmup_cosine(40, 100, 10, 2.0, 0.1), 0.2 + 1.8 * 0.75, 1e-12);  // a third: (1 + cos 60) / 2
  EXPECT_NEAR(warmup_cosine(55, 100, 10, 2.0, 0.1), 1.1, 1e-12);
  EXPECT_NEAR(warmup_cosine(100, 100, 10, 2.0, 0.1), 0.2, 1e-12);
  EXPECT_NEAR(warmup_cosine(1000, 100, 10, 2.0, 0.1), 0.2, 1e-12);
  EXPECT_GT(warmup_cosine(99, 100, 10, 2.0, 0.0), 0.0) << "the last step does something";
}

TEST(Schedule, EndsOfTheRange) {
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 1, 0, 3.0, 0.0), 3.0);
  EXPECT_DOUBLE_EQ(warmup_cosine(0, 5, 0, 3.0, 0.0), 3.0);
  EXPECT_DOUBLE_EQ(warmup_cosine(4, 5, 5, 3.0, 0.0), 3.0);  // nothing but warm-up
  for (std::int64_t step = 0; step < 50; ++step) EXPECT_DOUBLE_EQ(warmup_cosine(step, 50, 0, 3.0, 1.0), 3.0);
}

}  // namespace
}  // namespace moextract::train
