// Odd and bad recorded rows, through the cluster stage by each method: a defined result or one clear error on all
// ranks.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/random.h"
#include "tests/stages/shard_rows.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 6;

struct Method {
  std::string name;
  ClusterParams params;
};

/// k = 3, an automatic k by each criterion, HDBSCAN with a projection and without, and its number for k-means.
std::vector<Method> methods() {
  ClusterParams base;
  base.tap = ClusterTap::x;
  base.kmeans.k = 3;
  base.k_range = {.least = 2, .most = 9, .sample_rows = 500, .seeds = 2, .references = 2};
  base.hdbscan.min_cluster_size = 8;
  base.hdbscan.min_samples = 3;
  base.hdbscan.pca_components = 2;
  std::vector<Method> all{{"kmeans", base}};
  for (const auto& [name, choice] :
       {std::pair{"silhouette", AutomaticK::silhouette}, std::pair{"stability", AutomaticK::stability},
        std::pair{"gap", AutomaticK::gap}, std::pair{"k by hdbscan", AutomaticK::hdbscan}}) {
    all.push_back({name, base});
    all.back().params.automatic_k = choice;
  }
  base.method = ClusterMethod::hdbscan;
  all.push_back({"hdbscan", base});
  base.hdbscan.pca_components = 0;
  all.push_back({"hdbscan without a projection", base});
  return all;
}

/// Row i lies near the point number i % groups; columns 4 and 5 are constant.
std::vector<float> groups_of_rows(std::int64_t count, std::int64_t groups, double spread = 0.3) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < count; ++i) {
    RandomStream noise(3, static_cast<std::uint64_t>(i));
    for (std::int64_t j = 0; j < kWidth; ++j) {
      const double at = j < 4 ? 8.0 * static_cast<double>((i % groups) >> j & 1) + spread * noise.normal() : 7.0;
      values.push_back(static_cast<float>(at));
    }
  }
  return values;
}

class ClusterInput : public testing::Test {
 protected:
  /// Rows over three shards, the middle one of which holds none.
  std::vector<fs::path> shards_of(const std::vector<float>& x) {
    const auto rows = static_cast<std::int64_t>(x.size()) / kWidth, first = (rows + 1) / 2;
    const std::vector<fs::path> paths{small_.file("a.h5"), small_.file("b.h5"), small_.file("c.h5")};
    const auto middle = x.begin() + first * kWidth;
    write_shard(paths[0], 0, {x.begin(), middle}, kWidth, {}, 0);
    write_shard(paths[1], first, {}, kWidth, {}, 0);
    write_shard(paths[2], first, {middle, x.end()}, kWidth, {}, 0);
    return paths;
  }
  ClusterOutcome run(const Method& method, const std::vector<fs::path>& shards, int ranks) {
    return cluster_shards(method.params, shards, ranks, small_.file("clusters"));
  }
  static bool chooses_k(const Method& method) { return method.name != "kmeans"; }
  SmallRun small_;
};

void expect_parts(const ClusterOutcome& outcome, ExitCode code, const std::vector<std::string>& parts) {
  EXPECT_EQ(outcome.code, code) << outcome.message;
  for (const std::string& part : parts)
    EXPECT_NE(outcome.message.find(part), std::string::npos) << outcome.message << "\nlacks: " << part;
}

TEST_F(ClusterInput, ValuesThatAreNotFiniteAreNamedByFileAndRow) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> x = groups_of_rows(90, 3);
    x[70 * kWidth + 5] = bad;  // row 25 of the last shard, which is read by two ranks of four
    const auto shards = shards_of(x);
    for (const Method& method : methods()) {
      for (const int ranks : {1, 4}) {
        SCOPED_TRACE(method.name + ", ranks " + std::to_string(ranks));
        expect_parts(run(method, shards, ranks), ExitCode::input, {"c.h5", "row 25", "column 5"});
      }
    }
  }
}

TEST_F(ClusterInput, OutputsBeyondFloat16AreNamedByFileAndRow) {
  std::vector<float> h(80 * 4, 1.0f);
  h[61 * 4 + 2] = 60000;
  const fs::path first = small_.file("a.h5"), second = small_.file("b.h5");
  write_shard(first, 0, {}, 0, {h.begin(), h.begin() + 40 * 4}, 4);
  write_shard(second, 40, {}, 0, {h.begin() + 40 * 4, h.end()}, 4);
  const auto output = [](std::int64_t) {
    return RowMap{.outputs = 3, .inputs = 4, .weight = std::vector<float>(12, 2.0f), .bias = {}};
  };
  for (Method& method : methods()) {
    method.params.tap = ClusterTap::y;
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(method.name);
      expect_parts(cluster_shards(method.params, {first, second}, ranks, small_.file("clusters"), output),
                   ExitCode::numerics, {"b.h5", "row 21", "layer 0", "too large for float16"});
    }
  }
}

TEST_F(ClusterInput, EqualRowsAreOneClusterWhereTheNumberIsFound) {
  std::vector<float> x;
  for (int i = 0; i < 60; ++i) x.insert(x.end(), {1, 2, 0.1f, 0, -3, 7});
  for (const std::size_t rows : {std::size_t{60}, std::size_t{1}}) {  // and one row alone
    const auto shards = shards_of({x.begin(), x.begin() + static_cast<std::ptrdiff_t>(rows * kWidth)});
    for (const Method& method : methods()) {
      for (const int ranks : {1, 4}) {
        SCOPED_TRACE(method.name + ", ranks " + std::to_string(ranks));
        const ClusterOutcome outcome = run(method, shards, ranks);
        if (!chooses_k(method)) {
          expect_parts(outcome, ExitCode::input, {"3 clusters", "only 1 different rows", "at most 1 clusters"});
          continue;
        }
        EXPECT_EQ(outcome.code, ExitCode::ok) << outcome.message;
        EXPECT_EQ(outcome.layer.k, 1);
        EXPECT_EQ(outcome.layer.labels, std::vector<std::int32_t>(rows, 0));
        EXPECT_EQ(outcome.layer.summary.at("inertia"), 0);
      }
    }
  }
}

TEST_F(ClusterInput, ARangeOfKEndsAtTheDifferentRows) {
  const auto shards = shards_of(groups_of_rows(100, 5, 0));
  for (const Method& method : methods()) {
    if (method.name == "kmeans" || method.params.automatic_k == AutomaticK::none) continue;
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(method.name);
      const ClusterOutcome outcome = run(method, shards, ranks);
      ASSERT_EQ(outcome.code, ExitCode::ok) << outcome.message;
      EXPECT_EQ(outcome.layer.k, 5);
      EXPECT_EQ(outcome.layer.summary.at("inertia"), 0);
      if (method.params.automatic_k == AutomaticK::hdbscan) continue;
      std::vector<std::int64_t> tried;
      for (const auto& one : outcome.layer.summary.at("automatic_k").at("tried")) tried.push_back(one.at("k"));
      EXPECT_EQ(tried, (std::vector<std::int64_t>{2, 3, 4, 5}));
    }
  }
}

TEST_F(ClusterInput, DuplicatesAndConstantColumnsAreClusteredAsTheyLie) {
  for (const double spread : {0.0, 0.3}) {
    const auto shards = shards_of(groups_of_rows(120, 3, spread));
    for (const Method& method : methods()) {
      for (const int ranks : {1, 4}) {
        SCOPED_TRACE(method.name + ", spread " + std::to_string(spread));
        const ClusterOutcome outcome = run(method, shards, ranks);
        ASSERT_EQ(outcome.code, ExitCode::ok) << outcome.message;
        EXPECT_EQ(outcome.layer.k, 3);
        for (std::size_t i = 3; i < 120; ++i) EXPECT_EQ(outcome.layer.labels[i], outcome.layer.labels[i % 3]) << i;
      }
    }
  }
}

TEST_F(ClusterInput, RanksMayHaveNoRows) {
  const auto shards = shards_of(groups_of_rows(3, 3));
  for (const Method& method : methods()) {
    SCOPED_TRACE(method.name);
    const ClusterOutcome one = run(method, shards, 1), four = run(method, shards, 4);
    ASSERT_EQ(four.code, ExitCode::ok) << four.message;
    EXPECT_EQ(four.layer.labels, one.layer.labels);
    EXPECT_EQ(four.layer.labels.size(), 3u);
    EXPECT_EQ(four.layer.k,
              method.params.method == ClusterMethod::hdbscan || method.params.automatic_k == AutomaticK::hdbscan
                  ? 1
                  : one.layer.k);
  }
}

TEST_F(ClusterInput, NoRowsAtAllAreAnError) {
  const auto shards = shards_of({});
  for (const Method& method : methods()) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(method.name);
      expect_parts(run(method, shards, ranks), ExitCode::input, {"no rows to cluster"});
    }
  }
  for (const int ranks : {1, 3}) expect_parts(run(methods()[0], {}, ranks), ExitCode::input, {"no shards"});
}

TEST_F(ClusterInput, ShardsOfDifferentWidthsAreBothNamed) {
  const fs::path wide = small_.file("wide.h5"), narrow = small_.file("narrow.h5");
  write_shard(wide, 0, groups_of_rows(20, 3), kWidth, {}, 0);
  write_shard(narrow, 20, groups_of_rows(20, 3), kWidth / 2, {}, 0);
  for (const Method& method : methods()) {
    for (const int ranks : {1, 3})
      expect_parts(run(method, {wide, narrow}, ranks), ExitCode::input, {"wide.h5", "narrow.h5", "widths"});
  }
}

TEST_F(ClusterInput, MoreClustersThanRowsSayHowManyThereAre) {
  Method method = methods()[0];
  method.params.kmeans.k = 25;
  const auto shards = shards_of(groups_of_rows(24, 24));
  for (const auto init : {cluster::KMeansInit::parallel, cluster::KMeansInit::plus_plus, cluster::KMeansInit::random}) {
    method.params.kmeans.init = init;
    for (const int ranks : {1, 3})
      expect_parts(run(method, shards, ranks), ExitCode::input, {"25 clusters", "24 rows", "at most 24 clusters"});
  }
}

}  // namespace
}  // namespace moextract::stages::test
