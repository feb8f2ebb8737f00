// Labels told by what centroids moved since they were measured, against 128-bit integers, for every instruction set.
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/centroid_grid.h"
#include "cluster/difference_table.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

class Differences : public testing::Test {
 protected:
  ~Differences() override { choose_instruction_set(best_); }
  InstructionSet best_ = kernels().set;
};

std::vector<InstructionSet> sets_with_byte_products() {
  std::vector<InstructionSet> sets;
  for (const auto set :
       {InstructionSet::portable, InstructionSet::avx2, InstructionSet::avx512, InstructionSet::avx512_vnni}) {
    if (is_supported(set) && kernels_for(set).has_byte_products) sets.push_back(set);
  }
  return sets;
}

std::int32_t true_nearest(std::span<const float> row, const std::vector<float>& centroids) {
  const std::size_t d = row.size();
  std::int32_t label = -1;
  __int128 least = 0;
  for (std::size_t c = 0; c * d < centroids.size(); ++c) {
    __int128 sum = 0;
    for (std::size_t j = 0; j < d; ++j) {
      const auto difference = static_cast<std::int64_t>(static_cast<double>(row[j]) * 0x1.0p36 -
                                                        static_cast<double>(centroids[c * d + j]) * 0x1.0p36);
      sum += static_cast<__int128>(difference) * difference;
    }
    if (label >= 0 && sum >= least) continue;
    least = sum;
    label = static_cast<std::int32_t>(c);
  }
  return label;
}

struct Told {
  std::int64_t certain = 0, open = 0, measured = 0;  // rows, over all passes
};

// Passes over rows while their centroids move by `step`, of those some not at all and two together.
Told check_passes(const Rows& rows, std::vector<float> centroids, std::int64_t k, double step) {
  const std::int64_t d = rows.dimension;
  const std::vector<float> values = rows.values();
  DifferenceTable table(rows.count, k, d, std::int64_t{1} << 26);
  EXPECT_TRUE(table.is_on());
  NearestScratch scratch(k, d, rows.count);
  DifferenceScratch differences(k);
  std::vector<float> centre;
  Told told;
  for (int pass = 0; pass < 9; ++pass) {
    const NearestCentroids nearest(centroids, k, d, centre);
    if (centre.empty()) centre.assign(nearest.centre().begin(), nearest.centre().end());
    table.start(nearest);
    EXPECT_EQ(table.has_bytes(), pass > 0);
    if (table.is_reference_pass()) {
      std::vector<RoundedRow> rounded(static_cast<std::size_t>(rows.count));
      for (std::int64_t i = 0; i < rows.count; ++i) {
        EXPECT_TRUE(nearest.round(std::span(rows.bits).subspan(i * d, d), scratch, i, rounded[i]));
        if (!table.has_bytes()) table.keep_bytes(i, rounded[i], scratch);
      }
      nearest.all_scores(rounded, scratch, [&](std::size_t i, const NearestCentroids::RowScores& scores) {
        table.keep_scores(static_cast<std::int64_t>(i), scores.lower);
      });
      told.measured += rows.count;
    } else {
      // Not from the first row on, and a number that leaves a rest.
      const std::int64_t first = pass % 3;
      std::int64_t seen = 0;
      table.tell(first, rows.count - first, differences,
                 [&](std::int64_t i, std::int32_t label, std::span<const std::int32_t> candidates) {
                   EXPECT_EQ(i, first + seen++);
                   const std::int32_t truth = true_nearest(std::span(values).subspan(i * d, d), centroids);
                   EXPECT_TRUE(std::is_sorted(candidates.begin(), candidates.end()));
                   EXPECT_TRUE(std::find(candidates.begin(), candidates.end(), truth) != candidates.end());
                   EXPECT_TRUE(label < 0 || label == truth) << "row " << i << " in pass " << pass;
                   ++(label >= 0 ? told.certain : told.open);
                 });
      EXPECT_EQ(seen, rows.count - first);
    }
    table.finish();
    RandomStream random(17, static_cast<std::uint64_t>(pass));
    for (std::int64_t c = 1; c + 1 < k; ++c) {  // the first stays
      for (std::int64_t j = 0; j < d; ++j) {
        float& value = centroids[c * d + j];
        value = to_centroid_grid(static_cast<double>(value) + step * random.normal());
      }
    }
    std::copy_n(centroids.begin() + d, d, centroids.end() - d);  // the last is the second: a tie for all its rows
  }
  return told;
}

TEST_F(Differences, TellTrueLabelsOrLeaveThemOpen) {
  for (const InstructionSet set : sets_with_byte_products()) {
    choose_instruction_set(set);
    for (const std::int64_t d : {3, 64, 77, 768}) {
      for (const double scale : {0.01, 1.0, 900.0}) {
        SCOPED_TRACE(testing::Message() << name_of(set) << ", " << d << " columns, scale " << scale);
        const std::int64_t k = d == 64 ? 7 : d == 77 ? 16 : 11;
        std::vector<float> values = blobs(101, d, 6, 1.5, 74).values(), centroids = blobs(k, d, 6, 1, 74).values();
        for (float& value : values) value = static_cast<float>(scale * (static_cast<double>(value) + 0.5));
        for (float& value : centroids) value = to_centroid_grid(scale * (static_cast<double>(value) + 0.5));
        const Rows rows = rows_of(values, d);
        const Told small = check_passes(rows, centroids, k, 0.01 * scale);
        EXPECT_GT(small.certain, small.open) << "differences that leave most rows open spare nothing";
        EXPECT_LT(small.measured, 5 * rows.count) << "most passes tell something";
        check_passes(rows, centroids, k, 0.3 * scale);
        check_passes(rows, centroids, k, 0);
      }
    }
  }
}

TEST_F(Differences, AreOffWhereTheyDoNotPay) {
  for (const InstructionSet set : sets_with_byte_products()) {
    choose_instruction_set(set);
    EXPECT_TRUE(DifferenceTable(1000, 16, 100, 1 << 20).is_on());
    EXPECT_FALSE(DifferenceTable(1000, 17, 100, 1 << 20).is_on()) << "many centroids";
    EXPECT_FALSE(DifferenceTable(1000, 1, 100, 1 << 20).is_on());
    EXPECT_FALSE(DifferenceTable(1000, 8, 100, 100000).is_on()) << "little memory";
    EXPECT_FALSE(DifferenceTable(1, 8, kMostByteDimension + 1, 1 << 20).is_on());
    EXPECT_FALSE(DifferenceTable(0, 8, 100, 1 << 20).is_on());
  }
}

TEST_F(Differences, ByteProductsFollowPlainLoops) {
  constexpr std::int64_t kDepth = 128;
  RandomStream random(18, 1);
  for (const std::int64_t panel_count : {1, 2, 3}) {
    std::vector<std::uint8_t> rows(kKernelRows * kDepth);
    std::vector<signed char> panels(static_cast<std::size_t>(panel_count * kDepth * kPanelCentroids));
    std::vector<std::int32_t> start(static_cast<std::size_t>(panel_count * kPanelCentroids));
    for (auto& value : rows) value = static_cast<std::uint8_t>(random.below(3) == 0 ? 255 : random.below(256));
    for (auto& value : panels) {
      value = static_cast<signed char>(random.below(3) == 0 ? 127 : static_cast<int>(random.below(255)) - 127);
    }
    for (auto& value : start) value = static_cast<std::int32_t>(random.below(1000000)) - 500000;
    const std::uint8_t* places[kKernelRows];
    for (int r = 0; r < kKernelRows; ++r) places[r] = rows.data() + r * kDepth;
    for (const InstructionSet set : sets_with_byte_products()) {
      std::vector<std::int32_t> out(static_cast<std::size_t>(kKernelRows * panel_count * kPanelCentroids));
      kernels_for(set).byte_products(places, panels.data(), panel_count, kDepth, start.data(), out.data(),
                                     panel_count * kPanelCentroids);
      for (int r = 0; r < kKernelRows; ++r) {
        for (std::int64_t c = 0; c < panel_count * kPanelCentroids; ++c) {
          std::int32_t sum = start[c];
          for (std::int64_t j = 0; j < kDepth; ++j) {
            const std::int64_t at =
                (c / kPanelCentroids * kDepth + j / 4 * 4) * kPanelCentroids + c % kPanelCentroids * 4 + j % 4;
            sum += rows[r * kDepth + j] * panels[at];
          }
          EXPECT_EQ(out[r * panel_count * kPanelCentroids + c], sum) << name_of(set);
        }
      }
      kernels_for(set).few_byte_products(places, panels.data(), kDepth, start.data(), out.data(), kPanelCentroids);
      for (int r = 0; r < kKernelRows; ++r) {
        for (std::int64_t c = 0; c < kPanelCentroids; ++c) {
          std::int32_t sum = c < kFewCentroids ? start[c] : 0;
          for (std::int64_t j = 0; j < kDepth && c < kFewCentroids; ++j) {
            sum += rows[r * kDepth + j] * panels[c * kDepth + j];
          }
          EXPECT_EQ(out[r * kPanelCentroids + c], sum) << name_of(set);
        }
      }
    }
  }
}

}  // namespace
}  // namespace moextract::cluster
