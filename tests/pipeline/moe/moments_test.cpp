// Exact moments: against a two-pass reference in long double, and equal bits whatever the order and the split.
#include "moe/moments.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "core/error.h"
#include "core/float16.h"
#include "core/random.h"

namespace moextract::moe {
namespace {

constexpr std::int64_t kClusters = 4, kHidden = 150, kWidth = 70;

struct Rows {
  std::int64_t n;
  std::vector<std::uint16_t> x, h;
  std::vector<std::int32_t> labels;

  /// Hidden values around `mean`; cluster 2 stays empty.
  Rows(std::int64_t count, double mean, double deviation) : n(count) {
    RandomStream random(1, 1);
    const auto fill = [&](std::vector<std::uint16_t>& to, std::int64_t length) {
      std::vector<float> values(static_cast<std::size_t>(length));
      for (float& v : values) v = static_cast<float>(mean + deviation * random.normal());
      to.resize(values.size());
      to_float16(values, to);
    };
    fill(x, n * kWidth);
    fill(h, n * kHidden);
    constexpr std::int32_t kUsed[] = {0, 1, 3};
    for (std::int64_t i = 0; i < n; ++i) labels.push_back(kUsed[random.below(3)]);
  }
  void add(MomentSums& sums, std::span<const std::int64_t> order, Workers& workers) const {
    std::vector<std::uint16_t> some_x, some_h;
    std::vector<std::int32_t> some_labels;
    for (const std::int64_t i : order) {
      some_x.insert(some_x.end(), x.begin() + i * kWidth, x.begin() + (i + 1) * kWidth);
      some_h.insert(some_h.end(), h.begin() + i * kHidden, h.begin() + (i + 1) * kHidden);
      some_labels.push_back(labels[static_cast<std::size_t>(i)]);
    }
    sums.add(some_x, some_h, some_labels, workers);
  }
};

std::vector<std::int64_t> ascending(std::int64_t n) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  return order;
}

long double value(std::uint16_t bits) {
  return static_cast<long double>(float16_to_fixed(bits)) * 0x1.0p-24L;
}

void compare_with_reference(const Rows& rows, const ClusterMoments& m, double tolerance) {
  for (std::int64_t c = 0; c < kClusters; ++c) {
    std::vector<std::int64_t> mine;
    for (std::int64_t i = 0; i < rows.n; ++i) {
      if (rows.labels[static_cast<std::size_t>(i)] == c) mine.push_back(i);
    }
    ASSERT_EQ(m.count[static_cast<std::size_t>(c)], static_cast<std::int64_t>(mine.size()));
    const auto n = static_cast<long double>(mine.size());
    for (std::int64_t j = 0; j < kHidden; ++j) {
      long double mean = 0, variance = 0;
      for (const std::int64_t i : mine) mean += value(rows.h[static_cast<std::size_t>(i * kHidden + j)]);
      mean = mine.empty() ? 0 : mean / n;
      for (const std::int64_t i : mine) {
        const long double from_mean = value(rows.h[static_cast<std::size_t>(i * kHidden + j)]) - mean;
        variance += from_mean * from_mean;
      }
      variance = mine.empty() ? 0 : variance / n;
      ASSERT_NEAR(m.h_mean_of(c)[j], static_cast<double>(mean), 1e-14 * (1 + std::abs(static_cast<double>(mean))));
      ASSERT_NEAR(m.h_variance_of(c)[j], static_cast<double>(variance), tolerance * static_cast<double>(variance));
    }
    for (std::int64_t j = 0; j < kWidth; ++j) {
      long double mean = 0;
      for (const std::int64_t i : mine) mean += value(rows.x[static_cast<std::size_t>(i * kWidth + j)]);
      mean = mine.empty() ? 0 : mean / n;
      ASSERT_NEAR(m.x_mean_of(c)[j], static_cast<double>(mean), 1e-14 * (1 + std::abs(static_cast<double>(mean))));
    }
  }
}

TEST(Moments, AgreeWithATwoPassReference) {
  Workers workers(2);
  const Rows rows(500, 0.3, 1.0);
  MomentSums sums(kClusters, kHidden, kWidth);
  rows.add(sums, ascending(500), workers);
  compare_with_reference(rows, sums.moments(), 1e-13);
}

TEST(Moments, DoNotCancelWhereTheMeanIsFarFromZero) {
  // One part in a thousand around 1000: sums of squares in double would lose six digits.
  Workers workers(1);
  const Rows rows(300, 1000.0, 1.0);
  MomentSums sums(kClusters, kHidden, kWidth);
  rows.add(sums, ascending(300), workers);
  compare_with_reference(rows, sums.moments(), 1e-11);
}

TEST(Moments, ConstantColumnsHaveVarianceZeroEvenAtTheLargestValue) {
  Workers workers(1);
  MomentSums sums(1, 1, 1);
  const std::vector<std::uint16_t> h(4096, 0x7bff);  // 65504
  const std::vector<std::int32_t> labels(4096, 0);
  for (int i = 0; i < 100; ++i) sums.add({}, h, labels, workers);
  EXPECT_EQ(sums.moments().h_mean_of(0)[0], 65504.0);
  EXPECT_EQ(sums.moments().h_variance_of(0)[0], 0.0);
  // Half of the rows at the other end: the largest variance there is.
  for (int i = 0; i < 100; ++i) sums.add({}, std::vector<std::uint16_t>(4096, 0xfbff), labels, workers);
  EXPECT_EQ(sums.moments().h_mean_of(0)[0], 0.0);
  EXPECT_EQ(sums.moments().h_variance_of(0)[0], 65504.0 * 65504.0);
}

TEST(Moments, SameBitsForAnyOrderSplitAndThreads) {
  const Rows rows(400, 0.1, 2.0);
  Workers one(1);
  MomentSums plain(kClusters, kHidden, kWidth);
  rows.add(plain, ascending(400), one);
  const ClusterMoments expected = plain.moments();
  for (const int threads : {1, 2, 3}) {
    Workers workers(threads);
    for (const std::int64_t block : {1, 37, 400}) {
      const std::vector<std::int64_t> order = RandomStream(1, 2, static_cast<std::uint64_t>(block)).permutation(400);
      MomentSums sums(kClusters, kHidden, kWidth);
      for (std::int64_t first = 0; first < 400; first += block) {
        rows.add(sums,
                 std::span(order).subspan(static_cast<std::size_t>(first),
                                          static_cast<std::size_t>(std::min<std::int64_t>(block, 400 - first))),
                 workers);
      }
      const ClusterMoments found = sums.moments();
      EXPECT_EQ(found.count, expected.count);
      EXPECT_EQ(found.h_mean, expected.h_mean);
      EXPECT_EQ(found.h_variance, expected.h_variance);
      EXPECT_EQ(found.x_mean, expected.x_mean);
    }
  }
}

TEST(Moments, EmptyClustersAreZeroAndForeignLabelsABug) {
  Workers workers(1);
  MomentSums sums(2, 3, 2);
  const ClusterMoments m = sums.moments();
  EXPECT_EQ(m.count, (std::vector<std::int64_t>{0, 0}));
  EXPECT_EQ(m.h_variance, std::vector<double>(6, 0.0));
  const std::vector<std::uint16_t> h(3, 0);
  EXPECT_THROW(sums.add({}, h, std::vector<std::int32_t>{2}, workers), BugError);
  EXPECT_NO_THROW(sums.add({}, h, std::vector<std::int32_t>{-1}, workers)) << "of no cluster";
  EXPECT_THROW(sums.add({}, h, std::vector<std::int32_t>{0, 0}, workers), BugError);
  EXPECT_THROW(sums.add(h, h, std::vector<std::int32_t>{0}, workers), BugError);
}

}  // namespace
}  // namespace moextract::moe
