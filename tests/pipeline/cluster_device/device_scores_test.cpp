// Scores of a device's float32 product against long double.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/centroid_grid.h"
#include "cluster/nearest.h"
#include "cluster_device/device_rows.h"
#include "cluster_device/device_scores.h"
#include "tests/pipeline/cluster/cluster_cases.h"

namespace moextract::cluster {
namespace {

struct Case {
  std::int64_t dimension;
  double offset, spread;
};

std::vector<float> centroids_near(const Case& at, std::int64_t k, std::uint64_t seed) {
  RandomStream random(seed, 5);
  std::vector<float> centroids;
  for (std::int64_t i = 0; i < k * at.dimension; ++i) {
    centroids.push_back(to_centroid_grid(at.offset + at.spread * random.normal()));
  }
  return centroids;
}

TEST(DeviceScores, LieWithinTheirBounds) {
  constexpr std::int64_t kRows = 60, kCentroids = 19;
  std::int64_t sharp = 0, all = 0;
  for (const Case& at : {Case{1, 0, 1}, Case{7, 3, 1e-4}, Case{33, -0.2, 1}, Case{768, 0.1, 0.05}, Case{768, 100, 0.01},
                         Case{1500, 0, 3000}, Case{64, 2000, 900}}) {
    SCOPED_TRACE(testing::Message() << at.dimension << " columns, offset " << at.offset << ", spread " << at.spread);
    RandomStream random(71, 6);
    std::vector<float> values;
    for (std::int64_t i = 0; i < kRows * at.dimension; ++i) {
      values.push_back(static_cast<float>(at.offset + at.spread * random.normal()));
    }
    const Rows rows = rows_of(values, at.dimension);
    values = rows.values();
    const std::vector<float> centroids = centroids_near(at, kCentroids, 72);
    std::vector<double> prices;
    // Multiples of 2^-36, as NearestCentroids takes them.
    for (std::int64_t c = 0; c < kCentroids; ++c) {
      prices.push_back(std::ldexp(std::rint(std::ldexp(at.spread * at.spread * static_cast<double>(c % 3), 36)), -36));
    }
    for (const bool priced : {false, true}) {
      const NearestCentroids nearest(centroids, kCentroids, at.dimension, {},
                                     priced ? std::span<const double>(prices) : std::span<const double>());
      const DeviceScores scores(nearest, at::kCPU);
      const MemoryRows source(rows.bits, at.dimension);
      Workers workers(1);
      DeviceRows device_rows(source, workers, false, at::kCPU, 0, 1000);
      device_rows.for_each_chunk(scores.centre(), [&](const RowChunk& chunk) {
        const ScoreBounds bounds = scores.bounds(chunk);
        const Verdict verdict = scores.judge(chunk);
        for (std::int64_t i = 0; i < kRows; ++i) {
          std::vector<long double> exact;
          for (std::int64_t c = 0; c < kCentroids; ++c) {
            long double score = priced ? prices[c] : 0.0;
            for (std::int64_t j = 0; j < at.dimension; ++j) {
              const long double m = nearest.centre()[j], y = values[i * at.dimension + j] - m,
                                c_j = centroids[c * at.dimension + j] - m;
              score += c_j * c_j - 2 * y * c_j;
            }
            exact.push_back(score);
            EXPECT_LE(bounds.lower[i][c].item<float>(), score) << "row " << i << ", centroid " << c;
            EXPECT_GE(bounds.upper[i][c].item<float>(), score) << "row " << i << ", centroid " << c;
          }
          const auto best = std::min_element(exact.begin(), exact.end()) - exact.begin();
          EXPECT_TRUE(verdict.candidates[i][best].item<bool>());
          if (verdict.counts[i].item<std::int64_t>() == 1) {
            EXPECT_EQ(verdict.labels[i].item<std::int64_t>(), best);
            ++sharp;
          }
          ++all;
        }
      });
    }
  }
  EXPECT_GT(sharp, all * 9 / 10) << "a bound that decides nothing proves nothing";
}

TEST(DeviceRows, NameARowThatIsNotFinite) {
  Rows rows = blobs(300, 5, 3, 1, 73);
  rows.bits[250 * 5 + 2] = 0x7c00;
  const MemoryRows source(rows.bits, 5, 1000, 64);
  Workers workers(2);
  for (const bool spherical : {false, true}) {
    for (const std::int64_t most_bytes : {0, 1 << 20}) {
      DeviceRows device_rows(source, workers, spherical, at::kCPU, most_bytes, 50);
      const std::string message = message_of_error(
          ExitCode::numerics, [&] { device_rows.for_each_chunk(at::zeros({5}), [](const RowChunk&) {}); });
      EXPECT_NE(message.find("row 1250 "), std::string::npos) << message;
    }
  }
}

}  // namespace
}  // namespace moextract::cluster
