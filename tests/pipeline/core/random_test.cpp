// Random streams: fixed values, independence of names, distributions within wide bounds.
#include "core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <vector>

namespace moextract {
namespace {

TEST(RandomStream, DependsOnItsNameAlone) {
  RandomStream first(1, 2, 3), again(1, 2, 3);
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 10; ++i) values.push_back(first.next());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(again.next(), values[static_cast<std::size_t>(i)]);
}

// Runs are compared across versions: the numbers must not change unnoticed. Computed apart, from the published
// SplitMix64 and the way that the name is mixed in.
TEST(RandomStream, ValuesAreFixed) {
  const auto mix = [](std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  };
  // SplitMix64 from state 0, from its author's page.
  EXPECT_EQ(mix(0x9e3779b97f4a7c15ull), 0xe220a8397b1dcdafull);
  RandomStream stream(7, 11, 13);
  std::uint64_t state = mix(mix(mix(7 + 0x9e3779b97f4a7c15ull) ^ 11) + 0x9e3779b97f4a7c15ull) ^ 13;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(stream.next(), mix(state += 0x9e3779b97f4a7c15ull));
}

TEST(RandomStream, NeighbouringNamesShareNothing) {
  std::set<std::uint64_t> seen;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t purpose = 0; purpose < 10; ++purpose) {
      for (std::uint64_t index = 0; index < 10; ++index) {
        RandomStream stream(seed, purpose, index);
        for (int i = 0; i < 10; ++i) seen.insert(stream.next());
      }
    }
  }
  EXPECT_EQ(seen.size(), 10000u);
}

TEST(RandomStream, UniformAndNormalHaveTheirMoments) {
  RandomStream stream(1, 1);
  const int n = 200000;
  double sum = 0, square = 0, normal_sum = 0, normal_square = 0, fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double u = stream.uniform(), z = stream.normal();
    ASSERT_TRUE(u >= 0 && u < 1);
    ASSERT_TRUE(std::isfinite(z));
    sum += u;
    square += u * u;
    normal_sum += z;
    normal_square += z * z;
    fourth += z * z * z * z;
  }
  EXPECT_NEAR(sum / n, 0.5, 0.005);
  EXPECT_NEAR(square / n, 1.0 / 3, 0.005);
  EXPECT_NEAR(normal_sum / n, 0, 0.015);
  EXPECT_NEAR(normal_square / n, 1, 0.02);
  EXPECT_NEAR(fourth / n, 3, 0.15);
}

TEST(RandomStream, BelowIsInRangeAndFair) {
  RandomStream stream(3, 4);
  std::vector<int> count(7, 0);
  for (int i = 0; i < 70000; ++i) {
    const std::uint64_t value = stream.below(7);
    ASSERT_LT(value, 7u);
    ++count[value];
  }
  for (const int c : count) EXPECT_NEAR(c, 10000, 500);
  EXPECT_EQ(stream.below(1), 0u);
}

TEST(RandomStream, SampleIsAscendingDifferentAndFair) {
  std::vector<int> count(20, 0);
  for (std::uint64_t i = 0; i < 20000; ++i) {
    const std::vector<std::int64_t> sample = RandomStream(5, 6, i).sample(5, 20);
    ASSERT_EQ(sample.size(), 5u);
    ASSERT_TRUE(std::is_sorted(sample.begin(), sample.end()));
    ASSERT_EQ(std::adjacent_find(sample.begin(), sample.end()), sample.end());
    ASSERT_TRUE(sample.front() >= 0 && sample.back() < 20);
    for (const std::int64_t s : sample) ++count[static_cast<std::size_t>(s)];
  }
  for (const int c : count) EXPECT_NEAR(c, 5000, 350);
  EXPECT_EQ(RandomStream(1, 1).sample(9, 3), (std::vector<std::int64_t>{0, 1, 2}));
  EXPECT_TRUE(RandomStream(1, 1).sample(0, 3).empty());
  EXPECT_TRUE(RandomStream(1, 1).sample(2, 0).empty());
}

TEST(RandomStream, PermutationHoldsEachOnceAndReachesAll) {
  std::vector<std::int64_t> order = RandomStream(7, 8).permutation(1000);
  EXPECT_FALSE(std::is_sorted(order.begin(), order.end()));
  std::sort(order.begin(), order.end());
  for (std::int64_t i = 0; i < 1000; ++i) ASSERT_EQ(order[static_cast<std::size_t>(i)], i);
  std::map<std::vector<std::int64_t>, int> count;
  for (std::uint64_t i = 0; i < 24000; ++i) ++count[RandomStream(9, 9, i).permutation(4)];
  EXPECT_EQ(count.size(), 24u);
  for (const auto& [permutation, c] : count) EXPECT_NEAR(c, 1000, 170);
  EXPECT_TRUE(RandomStream(1, 1).permutation(0).empty());
}

}  // namespace
}  // namespace moextract
