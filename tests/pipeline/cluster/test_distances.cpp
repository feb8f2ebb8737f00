// The distance kernels against long double, and their promise: a pair's bits do not depend on its neighbours.
#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "cluster/distances.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

long double reference(std::span<const float> x, std::span<const float> c) {
  long double sum = 0;
  for (std::size_t j = 0; j < x.size(); ++j) {
    const long double difference = static_cast<long double>(x[j]) - c[j];
    sum += difference * difference;
  }
  return sum;
}

class Distances : public testing::TestWithParam<std::tuple<int, int, int>> {};

TEST_P(Distances, AgreeWithLongDouble) {
  const auto [count, k, d] = GetParam();
  const Rows rows = blobs(count, d, 5, 0.5, 11);
  const std::vector<float> values = rows.values();
  const std::vector<float> centroids = blobs(k, d, 5, 0.3, 12).values();
  RowTile tile(d);
  tile.load(rows.bits, count, false);
  const CentroidPanels panels(centroids, k, d);
  std::vector<double> all(static_cast<std::size_t>(count * k));
  panels.squared_distances(tile, all);

  for (int i = 0; i < count; ++i) {
    const auto row = std::span(values).subspan(i * d, d);
    for (int c = 0; c < k; ++c) {
      const long double expected = reference(row, std::span(centroids).subspan(c * d, d));
      EXPECT_NEAR(all[i * k + c], expected, 1e-12L * expected);
      EXPECT_NEAR(panels.squared_distance(tile, i, c), expected, 1e-12L * expected);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, Distances,
                         testing::Values(std::tuple(1, 1, 1), std::tuple(48, 8, 16), std::tuple(47, 9, 33),
                                         std::tuple(7, 17, 5), std::tuple(13, 40, 100), std::tuple(5, 3, 771)));

TEST(DistanceBits, DependOnThePairAlone) {
  const std::int64_t d = 77, k = 21;
  const Rows rows = blobs(kTileRows, d, 3, 1, 5);
  const std::vector<float> centroids = blobs(k, d, 4, 1, 6).values();
  const CentroidPanels panels(centroids, k, d);
  RowTile tile(d), alone(d);
  tile.load(rows.bits, kTileRows, false);
  std::vector<double> all(kTileRows * k), one(k), single(1);
  panels.squared_distances(tile, all);
  for (std::int64_t i = 0; i < kTileRows; ++i) {
    alone.load(rows.part(i, 1), 1, false);
    panels.squared_distances(alone, one);
    for (std::int64_t c = 0; c < k; ++c) {
      EXPECT_EQ(one[c], all[i * k + c]);
      const std::vector<float> centroid(centroids.begin() + c * d, centroids.begin() + (c + 1) * d);
      const CentroidPanels lone(centroid, 1, d);
      lone.squared_distances(alone, single);
      EXPECT_EQ(single[0], all[i * k + c]);
      EXPECT_EQ(lone.squared_distance(alone, 0, 0), panels.squared_distance(tile, i, c));
    }
  }
}

TEST(DistanceBits, AreZeroForEqualRowsOnly) {
  // The smallest difference that float16 knows, beside large values that would swallow it in the expanded form.
  const std::int64_t d = 20;
  std::vector<float> a(d, 1000.0f);
  a[3] = 0;
  std::vector<float> b = a;
  b[3] = 0x1.0p-24f;
  const Rows rows = rows_of(a, d);
  RowTile tile(d);
  tile.load(rows.bits, 1, false);
  std::vector<float> both = a;
  both.insert(both.end(), b.begin(), b.end());
  const CentroidPanels panels(both, 2, d);
  std::vector<double> distances(2);
  panels.squared_distances(tile, distances);
  EXPECT_EQ(distances[0], 0);
  EXPECT_EQ(distances[1], 0x1.0p-48);
  EXPECT_EQ(panels.squared_distance(tile, 0, 0), 0);
  EXPECT_EQ(panels.squared_distance(tile, 0, 1), 0x1.0p-48);
}

TEST(UnitRows, LieOnTheGridAtLengthOne) {
  const Rows rows = rows_of({3, 4, 0, 0, -0x1.0p-24f, 0, 60000, 60000}, 2);
  RowTile tile(2);
  tile.load(rows.bits, 4, true);
  EXPECT_NEAR(tile.row(0)[0], 0.6, 0x1.0p-24);
  EXPECT_NEAR(tile.row(0)[1], 0.8, 0x1.0p-24);
  EXPECT_EQ(tile.row(1)[0], 0.0f);
  EXPECT_EQ(tile.row(1)[1], 0.0f);
  EXPECT_EQ(tile.row(2)[0], -1.0f);
  EXPECT_NEAR(tile.row(3)[0], std::sqrt(0.5), 0x1.0p-24);
  for (std::int64_t i = 0; i < 4; ++i) {
    for (const float value : tile.row(i)) EXPECT_EQ(std::rint(value * 0x1.0p24f), value * 0x1.0p24f);
  }
}

}  // namespace
}  // namespace moextract::cluster
