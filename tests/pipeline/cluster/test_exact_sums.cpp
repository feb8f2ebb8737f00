// Sums of rows and of distances against 128-bit integers.
#include <gtest/gtest.h>

#include "cluster/exact_sums.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

// Rows go from cluster to cluster through different workers; the means must be those of where they end.
void check_against_integers(const Rows& rows, float largest, std::int64_t announced_rows, bool expect_split) {
  const std::int64_t k = 3, d = rows.dimension;
  ExactSums sums(k, d, announced_rows, largest, 2);
  EXPECT_EQ(sums.split(), expect_split);
  const std::vector<float> values = rows.values();
  std::vector<__int128> expected(static_cast<std::size_t>(k * d));
  std::vector<std::int64_t> sizes(k);
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const auto row = std::span(values).subspan(i * d, d);
    const auto last = static_cast<std::int32_t>(i % k);
    sums.move(0, row, -1, static_cast<std::int32_t>((i + 1) % k));
    sums.move(1, row, static_cast<std::int32_t>((i + 1) % k), last);
    ++sizes[last];
    for (std::int64_t j = 0; j < d; ++j) expected[last * d + j] += float16_to_fixed(rows.bits[i * d + j]);
  }
  std::vector<std::int64_t> words(sums.words());
  sums.total(words);
  for (std::int64_t c = 0; c < k; ++c) {
    for (std::int64_t j = 0; j < d; ++j) {
      EXPECT_EQ(sums.mean(words, c, j, sizes[c]),
                static_cast<double>(expected[c * d + j]) * 0x1.0p-24 / static_cast<double>(sizes[c]));
    }
  }
}

TEST(ExactSums, HoldOrdinaryRowsInOneWord) {
  check_against_integers(blobs(500, 37, 4, 1, 3), 20, 500, false);
}

TEST(ExactSums, SplitForManyRowsGivesTheSame) {
  check_against_integers(blobs(500, 37, 4, 1, 3), 20, std::int64_t{1} << 40, true);
}

TEST(ExactSums, HoldTheLargestAndSmallestFloat16Together) {
  std::vector<float> values;
  for (int i = 0; i < 3000; ++i) {
    RandomStream random(7, 7, i);
    for (int j = 0; j < 11; ++j) values.push_back(static_cast<float>(std::ldexp(random.normal(), 14 - 2 * j)));
    values.push_back(i % 2 ? 65504.0f : -65504.0f);
    values.push_back(i % 2 ? 0x1.0p-24f : -0x1.0p-24f);
  }
  check_against_integers(rows_of(values, 13), 65504.0f, 3000, true);
}

TEST(ExactSums, SplitIsChosenByTheBound) {
  EXPECT_FALSE(ExactSums::needs_split((std::int64_t{1} << 31) - 1, 127.0f));
  EXPECT_TRUE(ExactSums::needs_split(std::int64_t{1} << 31, 128.0f));
  EXPECT_TRUE(ExactSums::needs_split(1, 128.0f));
  EXPECT_TRUE(ExactSums::needs_split(std::int64_t{1} << 36, 4.0f));
  EXPECT_FALSE(ExactSums::needs_split((std::int64_t{1} << 36) - 1, 4.0f));
}

TEST(DistanceScale, KeepsDistancesOfAnySizeAndSplitsLosslessly) {
  for (const float largest : {0x1.0p-24f, 0.3f, 8.0f, 65504.0f}) {
    const DistanceScale scale(largest, 768);
    const double most = 4.0 * 768 * largest * largest;
    EXPECT_LT(scale.to_fixed(most), std::int64_t{1} << 60);
    EXPECT_GT(scale.to_fixed(most), std::int64_t{1} << 57);
    EXPECT_EQ(scale.to_double(scale.to_fixed(most)), most);
    const __int128 sum = static_cast<__int128>(scale.to_fixed(most)) * 1000003 + 12345;
    std::int64_t high = 0, low = 0;
    DistanceScale::split(sum, high, low);
    EXPECT_TRUE(DistanceScale::join(high, low) == sum);
    EXPECT_TRUE(DistanceScale::join(7 * high, 7 * low) == 7 * sum);
  }
  EXPECT_EQ(DistanceScale(0, 768).to_double(DistanceScale(0, 768).to_fixed(0)), 0);
}

}  // namespace
}  // namespace moextract::cluster
