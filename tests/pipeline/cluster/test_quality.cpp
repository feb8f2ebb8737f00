// Agreement, silhouette, Davies-Bouldin and the choice of k: against values worked out by hand or by plain loops.
#include <gtest/gtest.h>

#include <cmath>

#include "cluster/agreement.h"
#include "cluster/automatic_k.h"
#include "cluster/quality.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

TEST(Agreement, KnownValues) {
  const std::vector<std::int32_t> a = {0, 0, 1, 1}, renamed = {7, 7, -1, -1}, split = {0, 0, 1, 2},
                                  crossed = {0, 1, 0, 1};
  EXPECT_EQ(adjusted_rand_index(a, a), 1);
  EXPECT_EQ(adjusted_rand_index(a, renamed), 1);
  EXPECT_NEAR(adjusted_rand_index(a, split), 0.5714285714285714, 1e-15);  // as scikit-learn has it
  EXPECT_NEAR(adjusted_rand_index(a, crossed), -0.5, 1e-15);
  EXPECT_EQ(adjusted_rand_index(std::vector<std::int32_t>{3}, std::vector<std::int32_t>{5}), 1);
  EXPECT_EQ(adjusted_rand_index(std::vector<std::int32_t>(4, 1), std::vector<std::int32_t>(4, 2)), 1);
  EXPECT_EQ(adjusted_rand_index(std::vector<std::int32_t>{1, 2, 3}, std::vector<std::int32_t>{3, 2, 1}), 1);
  EXPECT_EQ(adjusted_rand_index(std::vector<std::int32_t>(3, 1), std::vector<std::int32_t>{3, 2, 1}), 0);
  message_of_error(ExitCode::input, [&] { adjusted_rand_index(a, std::vector<std::int32_t>(3)); });
  message_of_error(ExitCode::input, [] { adjusted_rand_index({}, {}); });
}

TEST(Agreement, IsTheSameOverRanks) {
  std::vector<std::int32_t> a, b;
  RandomStream random(3, 3);
  for (int i = 0; i < 500; ++i) {
    a.push_back(static_cast<std::int32_t>(random.below(5)));
    b.push_back(random.below(3) == 0 ? static_cast<std::int32_t>(random.below(4)) : a.back());
  }
  const double alone = adjusted_rand_index(a, b);
  EXPECT_GT(alone, 0.3);
  EXPECT_LT(alone, 0.9);
  comm::run_threads(3, [&](comm::Communicator& comm) {
    const auto first = deal(500, 3, true);
    const auto begin = first[comm.rank()], count = first[comm.rank() + 1] - begin;
    EXPECT_EQ(adjusted_rand_index(std::span(a).subspan(begin, count), std::span(b).subspan(begin, count), comm), alone);
  });
}

TEST(Quality, FourPointsByHand) {
  // Two pairs 1 apart, the pairs 10 apart on a line.
  const std::vector<float> rows = {0, 1, 10, 11};
  const std::vector<std::int32_t> labels = {4, 4, 2, 2};
  Workers workers(2);
  const ClusterQuality quality = measure_quality(rows, 1, labels, workers);
  EXPECT_NEAR(quality.silhouette, (2 * (1 - 1 / 10.5) + 2 * (1 - 1 / 9.5)) / 4, 1e-15);
  EXPECT_NEAR(quality.davies_bouldin, 0.1, 1e-15);
  EXPECT_EQ(quality.sampled, 4);
  EXPECT_TRUE(std::isnan(measure_quality(rows, 1, std::vector<std::int32_t>(4, 1), workers).silhouette));
  const ClusterQuality alone = measure_quality(rows, 1, std::vector<std::int32_t>{0, 1, 2, 3}, workers);
  EXPECT_EQ(alone.silhouette, 0);
}

TEST(Quality, FollowsPlainLoopsBeyondOnePart) {
  const Rows rows = blobs(700, 6, 4, 2, 81);
  const KMeansFit fit = fit_rows(rows, {.k = 5, .seed = 3});
  const std::vector<float> values = rows.values();
  long double total = 0;
  for (std::int64_t i = 0; i < 700; ++i) {
    std::vector<long double> sums(5), counts(5);
    for (std::int64_t j = 0; j < 700; ++j) {
      long double squares = 0;
      for (int c = 0; c < 6; ++c)
        squares += std::pow(static_cast<long double>(values[i * 6 + c]) - values[j * 6 + c], 2);
      sums[fit.labels[j]] += std::sqrt(squares);
      ++counts[fit.labels[j]];
    }
    const auto own = fit.labels[i];
    const long double within = sums[own] / (counts[own] - 1);
    long double nearest = INFINITY;
    for (int c = 0; c < 5; ++c) {
      if (c != own) nearest = std::min(nearest, sums[c] / counts[c]);
    }
    total += (nearest - within) / std::max(nearest, within);
  }
  double first = 0;
  for (const int ranks : {1, 3}) {
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      const auto deals = deal(700, ranks, false);
      const auto begin = deals[comm.rank()], count = deals[comm.rank() + 1] - begin;
      Workers workers(2);
      const ClusterQuality quality =
          measure_quality(fit.model, MemoryRows(rows.part(begin, count), 6, begin), false, 10000, 1, comm, workers);
      EXPECT_EQ(quality.sampled, 700);
      EXPECT_NEAR(quality.silhouette, total / 700, 1e-12);
      if (comm.is_root() && ranks == 1) first = quality.silhouette;
      if (ranks > 1) {
        EXPECT_EQ(quality.silhouette, first);
      }
    });
  }
}

TEST(AutomaticK, FindsTheNumberOfBalls) {
  const Rows rows = blobs(900, 12, 6, 0.4, 82);
  for (const auto criterion : {ChooseK::silhouette, ChooseK::stability, ChooseK::gap}) {
    std::vector<double> alone;
    for (const int ranks : {1, 2}) {
      comm::run_threads(ranks, [&](comm::Communicator& comm) {
        const auto deals = deal(900, ranks, false);
        const auto begin = deals[comm.rank()], count = deals[comm.rank() + 1] - begin;
        Workers workers(1);
        const AutomaticKFit found = fit_automatic_k(
            MemoryRows(rows.part(begin, count), 12, begin), {.n_init = 3},
            {.least = 2, .most = 10, .criterion = criterion, .sample_rows = 300, .references = 4}, comm, workers);
        EXPECT_EQ(found.fit.model.k, 6);
        EXPECT_EQ(found.tried.size(), 9u);
        std::vector<double> scores;
        for (const TriedK& tried : found.tried) scores.push_back(tried.score);
        if (comm.is_root() && ranks == 1) alone = scores;
        if (ranks > 1) {
          EXPECT_EQ(scores, alone);
        }
      });
    }
  }
  message_of_error(ExitCode::config, [&] {
    Workers workers(1);
    fit_automatic_k(MemoryRows(rows.bits, 12), {}, {.least = 5, .most = 4}, *comm::make_self(), workers);
  });
}

TEST(AutomaticK, TheGapTakesTheSmallestThatIsGoodEnough) {
  const std::vector<TriedK> tried = {{2, 0.1, 0.01, 0}, {3, 0.5, 0.01, 0}, {4, 0.505, 0.02, 0}, {5, 0.7, 0.01, 0}};
  EXPECT_EQ(choose_k(ChooseK::gap, tried), 3);  // 0.5 >= 0.505 - 0.02
  EXPECT_EQ(choose_k(ChooseK::gap, std::span(tried).first(2)), 3);
  EXPECT_EQ(choose_k(ChooseK::silhouette, tried), 5);
  const std::vector<TriedK> equals = {{2, 1, 0, 0}, {3, 1, 0, 0}};
  EXPECT_EQ(choose_k(ChooseK::silhouette, equals), 2);
  EXPECT_EQ(choose_k(ChooseK::stability, equals), 3);
}

TEST(AutomaticK, TheGapOfUniformRowsIsNone) {
  // Rows drawn as the references are: no k explains them better than the references, within a few errors.
  RandomStream random(5, 1);
  std::vector<float> values;
  for (int i = 0; i < 600 * 3; ++i) values.push_back(static_cast<float>(random.uniform()));
  Workers workers(1);
  const auto alone = comm::make_self();
  const std::vector<TriedK> tried = try_k(MemoryRows(rows_of(values, 3).bits, 3), {.n_init = 3},
                                          {.most = 4, .criterion = ChooseK::gap, .references = 8}, *alone, workers);
  for (const TriedK& one : tried) {
    EXPECT_GT(one.error, 0);
    EXPECT_LT(std::fabs(one.score), 6 * one.error) << one.k;
  }
}

TEST(AutomaticK, GoesOnAfterWhatWasTried) {
  const Rows rows = blobs(300, 5, 3, 0.5, 83);
  const MemoryRows source(rows.bits, 5);
  Workers workers(1);
  const auto alone = comm::make_self();
  const AutomaticKParams range{.most = 5};
  const std::vector<TriedK> whole = try_k(source, {}, range, *alone, workers);
  std::vector<std::int64_t> made;
  const std::vector<TriedK> rest =
      try_k(source, {}, range, *alone, workers,
            {.before = std::span(whole).first(2), .on_tried = [&](const TriedK& one) { made.push_back(one.k); }});
  EXPECT_EQ(made, (std::vector<std::int64_t>{4, 5}));
  ASSERT_EQ(rest.size(), whole.size());
  for (std::size_t i = 0; i < rest.size(); ++i) EXPECT_EQ(rest[i].score, whole[i].score);
}

}  // namespace
}  // namespace moextract::cluster
