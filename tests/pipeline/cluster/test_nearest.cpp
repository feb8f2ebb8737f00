// The nearest centroid: every instruction set against plain integers, the error bound against long double, and ties
// that only exact arithmetic decides.
#include "cluster/nearest.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "cluster/bound_table.h"
#include "cluster/centroid_grid.h"
#include "cluster/distances.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

std::vector<InstructionSet> supported_sets() {
  std::vector<InstructionSet> sets;
  for (const auto set :
       {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512, InstructionSet::avx512_vnni}) {
    if (is_supported(set)) sets.push_back(set);
  }
  return sets;
}

class EverySet : public testing::Test {
 protected:
  ~EverySet() override { choose_instruction_set(supported_sets().back()); }
};

// By 128-bit integers from the definition.
std::int32_t true_nearest(std::span<const float> row, const std::vector<float>& centroids) {
  const std::size_t d = row.size(), k = centroids.size() / d;
  std::int32_t label = -1;
  __int128 least = 0;
  for (std::size_t c = 0; c < k; ++c) {
    __int128 sum = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const auto difference = static_cast<std::int64_t>(static_cast<double>(row[j]) * 0x1.0p36 -
                                                        static_cast<double>(centroids[c * d + j]) * 0x1.0p36);
      sum += static_cast<__int128>(difference) * difference;
    }
    if (label < 0 || sum < least) {
      least = sum;
      label = static_cast<std::int32_t>(c);
    }
  }
  return label;
}

std::vector<std::int32_t> nearest_of(const Rows& rows, const std::vector<float>& centroids, DecisionCounts& counts,
                                     std::span<const float> centre = {}) {
  const std::int64_t d = rows.dimension, k = static_cast<std::int64_t>(centroids.size()) / d;
  const NearestCentroids nearest(centroids, k, d, centre);
  NearestScratch scratch(k, d, rows.count);
  std::vector<RoundedRow> rounded(static_cast<std::size_t>(rows.count));
  for (std::int64_t i = 0; i < rows.count; ++i) {
    EXPECT_TRUE(nearest.round(std::span(rows.bits).subspan(i * d, d), scratch, i, rounded[i]));
  }
  const std::vector<float> values = rows.values();
  std::vector<std::int32_t> labels(static_cast<std::size_t>(rows.count), -1);
  nearest.all_scores(rounded, scratch, [&](std::size_t i, const NearestCentroids::RowScores& scores) {
    labels[i] = scores.label >= 0 ? scores.label
                                  : nearest.decide(std::span(values).subspan(i * d, d), scores.candidates, scratch);
  });
  counts = scratch.counts();
  return labels;
}

std::vector<float> grid_values(std::int64_t count, double spread, std::uint64_t seed) {
  std::vector<float> values;
  RandomStream random(seed, 3);
  for (std::int64_t i = 0; i < count; ++i) values.push_back(to_centroid_grid(spread * random.normal()));
  return values;
}

TEST_F(EverySet, FindsTheTrueNearest) {
  for (const auto& [n, k, d] : {std::tuple(1, 1, 1), std::tuple(30, 17, 5), std::tuple(25, 8, 768),
                                std::tuple(13, 64, 100), std::tuple(48, 33, 31), std::tuple(7, 3, 65)}) {
    const Rows rows = blobs(n, d, 4, 1, 5);
    std::vector<float> centroids = grid_values(k * d, 2, 6);
    for (const InstructionSet set : supported_sets()) {
      SCOPED_TRACE(testing::Message() << name_of(set) << " " << n << " x " << d << ", k " << k);
      choose_instruction_set(set);
      DecisionCounts counts;
      const std::vector<std::int32_t> labels = nearest_of(rows, centroids, counts);
      const std::vector<float> values = rows.values();
      for (int i = 0; i < n; ++i) EXPECT_EQ(labels[i], true_nearest(std::span(values).subspan(i * d, d), centroids));
    }
  }
}

// Rows half way between two centroids, up to one unit in the last place of one value of one centroid; the two stand far
// apart or close together, the pair's order is drawn.
TEST_F(EverySet, DecidesNearTiesExactly) {
  for (const int d : {3, 16, 200, 768}) {
    std::int64_t exact = 0;
    for (const float apart : {0x1.0p-20f, 0x1.0p-7f, 2.0f}) {
      std::vector<float> values, centroids = grid_values(5 * d, 1, 40);
      for (float& value : centroids) value += 30;  // far off, but for the pairs below
      RandomStream random(8, static_cast<std::uint64_t>(d));
      const int pairs = 6;
      for (int p = 0; p < pairs; ++p) {
        std::vector<float> middle, a, b;
        for (int j = 0; j < d; ++j) {
          const auto x = static_cast<float>(random.below(4096)) / 1024 - 2;  // float16 exactly
          const auto step = static_cast<float>(static_cast<double>(apart) * (1 + random.below(3)));
          middle.push_back(x);
          a.push_back(to_centroid_grid(static_cast<double>(x) + static_cast<double>(step)));
          b.push_back(to_centroid_grid(2 * static_cast<double>(x) - static_cast<double>(a.back())));
        }
        // p % 3 == 0: a tie wherever b is a's mirror image; else a or b a last place nearer.
        if (p % 3 == 1) b[d / 2] = std::nextafter(b[d / 2], middle[d / 2]);
        if (p % 3 == 2) a[d - 1] = std::nextafter(a[d - 1], middle[d - 1]);
        for (float& value : a) value = to_centroid_grid(value);
        for (float& value : b) value = to_centroid_grid(value);
        values.insert(values.end(), middle.begin(), middle.end());
        if (random.below(2)) std::swap(a, b);
        centroids.insert(centroids.end(), a.begin(), a.end());
        centroids.insert(centroids.end(), b.begin(), b.end());
      }
      const Rows rows = rows_of(values, d);
      ASSERT_EQ(rows.values(), values);
      for (const InstructionSet set : supported_sets()) {
        SCOPED_TRACE(testing::Message() << name_of(set) << " d " << d << " apart " << apart);
        choose_instruction_set(set);
        DecisionCounts counts;
        const std::vector<std::int32_t> labels = nearest_of(rows, centroids, counts);
        exact += counts.exact;
        for (int i = 0; i < pairs; ++i) {
          EXPECT_EQ(labels[i], true_nearest(std::span(values).subspan(i * d, d), centroids)) << "row " << i;
        }
      }
    }
    EXPECT_GT(exact, 0);
  }
}

TEST_F(EverySet, TiesGoToTheLowestIndex) {
  const std::int64_t d = 19;
  const Rows rows = rows_of(std::vector<float>(d, 0.0f), d);
  std::vector<float> centroids;
  for (const float value : {2.0f, -1.0f, 1.0f, -1.0f, 1.0f}) centroids.insert(centroids.end(), d, value);
  for (const InstructionSet set : supported_sets()) {
    choose_instruction_set(set);
    DecisionCounts counts;
    EXPECT_EQ(nearest_of(rows, centroids, counts)[0], 1);
    EXPECT_EQ(counts.exact, 1);
  }
}

// Scores of long double must lie in the ranges, for data of all sizes; and the ranges must be narrow.
TEST_F(EverySet, RangesHoldTheTrueScores) {
  const int d = 300, k = 20, n = 12;
  for (const double offset : {0.0, 50.0}) {
    for (const double spread : {1e-4, 1.0, 3000.0}) {
      std::vector<float> values;
      RandomStream random(77, 1);
      for (int i = 0; i < n * d; ++i) values.push_back(static_cast<float>(offset + spread * random.normal()));
      for (int j = 0; j < d; ++j) values[j] = j == 5 ? 60000.0f : 0.0f;  // one value has it all
      const Rows rows = rows_of(values, d);
      values = rows.values();
      std::vector<float> centroids = grid_values(k * d, spread, 9);
      for (float& value : centroids) value = to_centroid_grid(static_cast<double>(value) + offset);
      for (const InstructionSet set : supported_sets()) {
        SCOPED_TRACE(testing::Message() << name_of(set) << " offset " << offset << " spread " << spread);
        choose_instruction_set(set);
        const NearestCentroids nearest(centroids, k, d);
        NearestScratch scratch(k, d, n);
        std::vector<RoundedRow> rounded(n);
        for (int i = 0; i < n; ++i) nearest.round(std::span(rows.bits).subspan(i * d, d), scratch, i, rounded[i]);
        std::vector<float> centre(d);
        for (int j = 0; j < d; ++j) {
          double sum = 0;
          for (int c = 0; c < k; ++c) sum += static_cast<double>(centroids[c * d + j]);
          centre[j] = to_centroid_grid(sum / k);
        }
        nearest.all_scores(rounded, scratch, [&](std::size_t i, const NearestCentroids::RowScores& scores) {
          std::vector<std::int32_t> ids(k);
          for (int c = 0; c < k; ++c) ids[c] = c;
          std::vector<ScoreRange> ranges(k);
          const std::vector<float> lower(scores.lower.begin(), scores.lower.end());
          const std::vector<float> upper(scores.upper.begin(), scores.upper.end());
          // In two parts, so that any number of them is asked for at a time.
          const std::size_t cut = i % static_cast<std::size_t>(k + 1);
          std::vector<std::int32_t> products(k);
          nearest.products(rounded[i], std::span(ids).first(cut), std::span(products).first(cut));
          nearest.products(rounded[i], std::span(ids).subspan(cut), std::span(products).subspan(cut));
          for (int c = 0; c < k; ++c) ranges[c] = nearest.range_of(rounded[i], c, products[c]);
          long double length = 0;
          for (int j = 0; j < d; ++j) length += std::pow(static_cast<long double>(values[i * d + j]) - centre[j], 2);
          EXPECT_LE(rounded[i].squares_least, length);
          EXPECT_GE(rounded[i].squares_most, length);
          for (int c = 0; c < k; ++c) {
            long double score = -length, norm = 0;
            for (int j = 0; j < d; ++j) {
              score += std::pow(static_cast<long double>(values[i * d + j]) - centroids[c * d + j], 2);
              norm += std::pow(static_cast<long double>(centroids[c * d + j]) - centre[j], 2);
            }
            EXPECT_LE(lower[c], score);
            EXPECT_GE(upper[c], score);
            EXPECT_LE(ranges[c].lower, score);
            EXPECT_GE(ranges[c].upper, score);
            EXPECT_LT(upper[c] - lower[c], 1e-2L * std::sqrt(length * norm) + 1e-5L * norm);
          }
        });
      }
    }
  }
}

TEST_F(EverySet, RefusesValuesThatAreNotFinite) {
  for (const std::uint16_t bad : {0x7e00, 0x7c00, 0xfc00}) {
    for (const std::int64_t d : {5, 40}) {
      Rows rows = blobs(1, d, 1, 1, 1);
      const std::vector<float> centroids = grid_values(2 * d, 1, 2);
      rows.bits[static_cast<std::size_t>(d - 1)] = bad;
      for (const InstructionSet set : supported_sets()) {
        choose_instruction_set(set);
        const NearestCentroids nearest(centroids, 2, d);
        NearestScratch scratch(2, d, 1);
        RoundedRow out;
        EXPECT_FALSE(nearest.round(rows.bits, scratch, 0, out)) << name_of(set);
      }
    }
  }
}

// The smaller kernels against plain loops, on lengths that leave a rest.
TEST_F(EverySet, SumsAndBoundsFollowPlainLoops) {
  const int d = 75, n = 7, k = 48;
  const Rows rows = blobs(n, d, 3, 2, 72);
  RandomStream random(6, 1);
  for (const InstructionSet set : supported_sets()) {
    SCOPED_TRACE(name_of(set));
    const ProductKernels& kernels = kernels_for(set);
    std::vector<const std::uint16_t*> places;
    std::vector<signed char> signs;
    std::vector<std::uint64_t> sums(d, 5), expected(d, 5);
    for (int i = 0; i < n; ++i) {
      places.push_back(rows.bits.data() + i * d);
      signs.push_back(i % 3 == 1 ? -1 : 1);
      for (int j = 0; j < d; ++j)
        expected[j] += static_cast<std::uint64_t>(signs[i] * float16_to_fixed(rows.bits[i * d + j]));
    }
    kernels.add_halves(places.data(), signs.data(), n, d, sums.data());
    EXPECT_EQ(sums, expected);
    for (int trial = 0; trial < 200; ++trial) {
      std::vector<std::uint16_t> bounds, drifts;
      for (int c = 0; c < k; ++c) {
        bounds.push_back(static_cast<std::uint16_t>(60000 + random.below(5536)));
        drifts.push_back(static_cast<std::uint16_t>(random.below(4000)));
      }
      const auto reach = static_cast<std::uint16_t>(52000 + random.below(12000));
      std::vector<std::int32_t> ids(k), plain;
      for (int c = 0; c < k; ++c) {
        if (bounds[c] <= std::min(reach + drifts[c], 65535)) plain.push_back(c);
      }
      ids.resize(static_cast<std::size_t>(kernels.select_within(bounds.data(), drifts.data(), reach, k, ids.data())));
      EXPECT_EQ(ids, plain);
      EXPECT_EQ(kernels.any_within(bounds.data(), drifts.data(), reach, k), !plain.empty());
    }
  }
}

// Bounds kept over moves of the centroids never lose the nearest one.
TEST_F(EverySet, BoundTableNeverClearsTheNearest) {
  const int n = 40, d = 24, k = 18;
  const Rows rows = blobs(n, d, 6, 1, 71);
  const std::vector<float> values = rows.values();
  for (const InstructionSet set : supported_sets()) {
    SCOPED_TRACE(name_of(set));
    choose_instruction_set(set);
    std::vector<float> centroids = blobs(k, d, 6, 1.5, 71).values();
    BoundTable table(n, k, 1 << 20);
    NearestScratch scratch(k, d, n);
    std::vector<std::int32_t> labels(n), ids(k + 16);
    std::int64_t cleared = 0;
    for (int step = 0; step < 12; ++step) {
      const NearestCentroids nearest(centroids, k, d);
      if (step == 0) table.start(nearest.spread());
      for (int i = 0; i < n; ++i) {
        const auto row = std::span(values).subspan(i * d, d);
        const std::int32_t truth = true_nearest(row, centroids);
        RoundedRow rounded;
        nearest.round(row, scratch, i, rounded);
        if (step > 0) {
          table.loosen(i, labels[i]);
          const std::int64_t count = table.suspects(i, labels[i], ids);
          if (truth != labels[i]) {
            EXPECT_TRUE(std::find(ids.begin(), ids.begin() + count, truth) != ids.begin() + count);
          }
          EXPECT_TRUE(std::find(ids.begin(), ids.begin() + count, labels[i]) == ids.begin() + count);
          cleared += k - count;
        }
        if (step % 4 == 0 || truth != labels[i]) {
          nearest.all_scores(std::span(&rounded, 1), scratch, [&](std::size_t, const auto& scores) {
            table.set_all(i, rounded, scores.lower);
            table.set_own(i, truth, rounded, scores.upper[static_cast<std::size_t>(truth)]);
          });
          labels[i] = truth;
        }
      }
      table.finish();
      std::vector<double> moved;
      RandomStream random(5, static_cast<std::uint64_t>(step));
      for (int c = 0; c < k; ++c) {
        double squares = 0;
        for (int j = 0; j < d; ++j) {
          const float before = centroids[c * d + j];
          centroids[c * d + j] = to_centroid_grid(static_cast<double>(before) + 0.02 * random.normal());
          squares += std::pow(static_cast<double>(centroids[c * d + j]) - static_cast<double>(before), 2);
        }
        moved.push_back(std::sqrt(squares) * (1 + 1e-9));
      }
      table.move(moved);
      ASSERT_TRUE(table.is_filled());
    }
    EXPECT_GT(cleared, n * k * 2);
  }
}

}  // namespace
}  // namespace moextract::cluster
