// The first centroids of weighted rows: drawn in proportion to weight, against plain running sums.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "cluster/kmeans_init.h"
#include "cluster_cases.h"
#include "core/hash.h"
#include "weighted_rows.h"

namespace moextract::cluster {
namespace {

constexpr std::int64_t kRows = 60;

/// Rows of one value: row i is i.
Rows numbered() {
  std::vector<float> values(kRows);
  std::iota(values.begin(), values.end(), 0.0f);
  return rows_of(values, 1);
}

/// Rows taken, in order; the same on every rank.
std::vector<std::int64_t> first_rows(const std::vector<std::uint32_t>& weights, const KMeansParams& params,
                                     int ranks = 1) {
  const Rows rows = numbered();
  const auto first = deal(kRows, ranks, true);
  std::vector<std::vector<float>> drawn(static_cast<std::size_t>(ranks));
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    const std::int64_t begin = first[comm.rank()], end = first[comm.rank() + 1];
    const WeightedRows mine(rows.part(begin, end - begin), 1, {weights.begin() + begin, weights.begin() + end}, begin);
    Workers workers(2);
    CentroidSeeder seeder(mine, params, survey_rows(mine, params.init_sample, false, params.seed, comm, workers), comm,
                          workers);
    drawn[static_cast<std::size_t>(comm.rank())] = seeder.draw(0);
  });
  for (const std::vector<float>& other : drawn) EXPECT_EQ(other, drawn[0]);
  return {drawn[0].begin(), drawn[0].end()};
}

/// Draws without putting back, by running sums over the rows that are left.
std::vector<std::int64_t> plain_draws(std::vector<std::int64_t> weights, std::int64_t count, RandomStream random) {
  std::vector<std::int64_t> drawn;
  while (static_cast<std::int64_t>(drawn.size()) < count) {
    const auto total = std::accumulate(weights.begin(), weights.end(), std::int64_t{0});
    auto target = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(total)));
    std::size_t at = 0;
    while (target >= weights[at]) target -= weights[at++];
    drawn.push_back(static_cast<std::int64_t>(at));
    weights[at] = 0;
  }
  return drawn;
}

/// k-means|| that takes no more than its first row.
KMeansParams first_of_parallel(std::uint64_t seed) {
  return {.k = 1, .init = KMeansInit::parallel, .seed = seed, .init_rounds = 1, .init_oversampling = 1e-12};
}

RandomStream random_rows(std::uint64_t seed) {
  return {seed, hash64("cluster.random_rows"), 0};
}
RandomStream first_row(std::uint64_t seed) {
  return {seed, hash64("cluster.parallel.0.0")};
}

TEST(KMeansWeights, FirstRowsAreThoseOfRunningSums) {
  std::vector<std::uint32_t> weights;
  for (std::uint32_t i = 0; i < kRows; ++i) weights.push_back(i % 5 == 0 ? 0 : i * i % 23);
  const std::vector<std::int64_t> wide(weights.begin(), weights.end());
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const int ranks = 1 + static_cast<int>(seed % 4);
    EXPECT_EQ(first_rows(weights, {.k = 7, .init = KMeansInit::random, .seed = seed}, ranks),
              plain_draws(wide, 7, random_rows(seed)));
    EXPECT_EQ(first_rows(weights, first_of_parallel(seed), ranks), plain_draws(wide, 1, first_row(seed)));
  }
}

TEST(KMeansWeights, RowsOfWeightZeroAreNeverTakenAndHeavyOnesAreTakenFirst) {
  std::vector<std::uint32_t> weights(kRows, 1);
  weights[41] = kMostWeight;
  for (std::int64_t i = 0; i < kRows; i += 2) weights[static_cast<std::size_t>(i)] = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const auto init : {KMeansInit::random, KMeansInit::plus_plus, KMeansInit::parallel}) {
      // As many as there are, and a sample that does not hold them all.
      for (const std::int64_t sample : {std::int64_t{16384}, std::int64_t{8}}) {
        const auto taken = first_rows(weights, {.k = 30, .init = init, .init_sample = sample, .seed = seed});
        EXPECT_EQ(taken.size(), 30u);
        for (const std::int64_t row : taken) EXPECT_EQ(row % 2, 1);
      }
    }
    EXPECT_EQ(first_rows(weights, {.k = 3, .init = KMeansInit::random, .seed = seed})[0], 41);
    EXPECT_EQ(first_rows(weights, first_of_parallel(seed))[0], 41);
  }
  EXPECT_NE(message_of_error(ExitCode::input, [&] { first_rows(weights, {.k = 31, .init = KMeansInit::random}, 3); })
                .find("only 30 different rows"),
            std::string::npos);
}

TEST(KMeansWeights, SharesOfDrawsAreThoseOfWeights) {
  // 1 : 2 : 3 : 4 over 1,000 seeds, each within five standard deviations.
  std::vector<std::uint32_t> weights(kRows, 0);
  for (std::uint32_t i = 0; i < 4; ++i) weights[10 * i] = i + 1;
  std::vector<int> by_random(4), by_parallel(4);
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    ++by_random[static_cast<std::size_t>(first_rows(weights, {.k = 1, .init = KMeansInit::random, .seed = seed})[0] /
                                         10)];
    ++by_parallel[static_cast<std::size_t>(first_rows(weights, first_of_parallel(seed))[0] / 10)];
  }
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(by_random[i], 100 * (i + 1.0), 75) << i;
    EXPECT_NEAR(by_parallel[i], 100 * (i + 1.0), 75) << i;
  }
}

TEST(KMeansWeights, EqualWeightsDrawAsNone) {
  for (const std::uint32_t weight : {1u, 7u}) {
    const std::vector<std::uint32_t> weights(kRows, weight);
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
      std::vector<std::int64_t> expected = random_rows(seed).permutation(kRows);
      expected.resize(9);
      EXPECT_EQ(first_rows(weights, {.k = 9, .init = KMeansInit::random, .seed = seed}, 2), expected);
      EXPECT_EQ(first_rows(weights, first_of_parallel(seed), 3),
                std::vector<std::int64_t>{static_cast<std::int64_t>(first_row(seed).below(kRows))});
    }
  }
}

TEST(KMeansWeights, AStartDrawsTheSameWhateverCameBeforeIt) {
  // Candidates of k-means|| are few: some starts fall back on the sample, which is too small and gets rows added.
  const Rows rows = numbered();
  const MemoryRows source(rows.bits, 1);
  Workers workers(1);
  const auto alone = comm::make_self();
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const KMeansParams params{.k = 12,
                              .init = KMeansInit::parallel,
                              .init_sample = 8,
                              .seed = seed,
                              .init_rounds = 2,
                              .init_oversampling = 0.6};
    const auto seeder = [&] {
      return CentroidSeeder(source, params, survey_rows(source, params.init_sample, false, seed, *alone, workers),
                            *alone, workers);
    };
    CentroidSeeder both = seeder(), second = seeder();
    both.draw(0);
    EXPECT_EQ(both.draw(1), second.draw(1)) << seed;
  }
}

}  // namespace
}  // namespace moextract::cluster
