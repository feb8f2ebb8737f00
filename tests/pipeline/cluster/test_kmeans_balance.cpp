// Balanced clusters: even sizes, labels that are true in squared distance + price, and all that k-means promises else.
#include <cmath>
#include <limits>

#include "cluster/balancer.h"
#include "cluster_cases.h"
#include "core/random.h"

namespace moextract::cluster {
namespace {

/// Six balls of which the first holds half of the rows.
Rows uneven(std::int64_t count, std::int64_t dimension, std::uint64_t seed) {
  const Rows even = blobs(count * 6, dimension, 6, 1.5, seed);
  Rows rows{0, dimension, {}};
  for (std::int64_t i = 0; rows.count < count; ++i) {
    const std::int64_t ball = rows.count % 2 == 0 ? 0 : 1 + rows.count / 2 % 5;
    const auto one = even.part(i * 6 + ball, 1);
    rows.bits.insert(rows.bits.end(), one.begin(), one.end());
    ++rows.count;
  }
  return rows;
}

std::int64_t limit(std::int64_t rows, std::int64_t k, double excess) {
  return static_cast<std::int64_t>(std::ceil((1 + excess) * static_cast<double>(rows) / static_cast<double>(k)));
}

TEST(BalancedKMeans, SizesAreEvenAndLabelsTrue) {
  const Rows rows = uneven(1500, 10, 7);
  for (const double excess : {0.3, 0.1, 0.02}) {
    const KMeansParams params{.k = 6, .max_iterations = 30, .seed = 4, .balance = excess};
    const KMeansFit plain = fit_rows(rows, {.k = 6, .max_iterations = 30, .seed = 4});
    EXPECT_GT(*std::max_element(plain.model.sizes.begin(), plain.model.sizes.end()), limit(1500, 6, excess));
    const KMeansFit fit = fit_rows(rows, params);
    EXPECT_LE(*std::max_element(fit.model.sizes.begin(), fit.model.sizes.end()), limit(1500, 6, excess)) << excess;
    ASSERT_EQ(fit.model.prices.size(), 6u);
    EXPECT_EQ(*std::min_element(fit.model.prices.begin(), fit.model.prices.end()), 0);
    const std::vector<float> values = rows.values();
    long double inertia = 0;
    std::vector<std::int64_t> sizes(6);
    for (std::int64_t i = 0; i < rows.count; ++i) {
      long double own = 0, least = std::numeric_limits<long double>::infinity();
      for (std::int64_t c = 0; c < 6; ++c) {
        long double squares = 0;
        for (std::int64_t j = 0; j < 10; ++j)
          squares += std::pow(static_cast<long double>(values[i * 10 + j]) - fit.model.centroids[c * 10 + j], 2);
        if (c == fit.labels[i]) {
          inertia += squares;
          own = squares + fit.model.prices[c];
        }
        least = std::min(least, squares + fit.model.prices[c]);
      }
      EXPECT_LE(own, least + 1e-9L) << i;  // prices are rounded to 2^-36
      ++sizes[fit.labels[i]];
    }
    EXPECT_EQ(sizes, fit.model.sizes);
    EXPECT_NEAR(fit.model.inertia, inertia, 1e-9L * inertia);
  }
}

TEST(BalancedKMeans, IsTheSameBitsAnywhereAndPredictable) {
  const Rows rows = uneven(800, 12, 8);
  for (const bool spherical : {false, true}) {
    const KMeansParams params{
        .k = 5, .max_iterations = 10, .n_init = 2, .spherical = spherical, .seed = 2, .balance = 0.05};
    const KMeansFit one = fit_rows(rows, params);
    for (const int ranks : {2, 3, 4, 7}) {
      const KMeansFit other = fit_rows(rows, params, {ranks, ranks % 2 + 1, 37, ranks == 4});
      expect_same_bits(other, one);
      EXPECT_EQ(other.model.prices, one.model.prices);
    }
    Workers workers(2);
    EXPECT_EQ(predict(one.model, MemoryRows(rows.bits, 12), spherical, workers), one.labels);
  }
}

TEST(BalancedKMeans, GoesOnFromAnyIterationToTheSameBits) {
  const Rows rows = uneven(500, 8, 9);
  const KMeansParams params{.k = 4, .max_iterations = 8, .tolerance = 0, .n_init = 2, .seed = 3, .balance = 0.05};
  const auto comm = comm::make_self();
  Workers workers(1);
  const MemoryRows source(rows.bits, 8);
  std::vector<KMeansState> states;
  const KMeansFit whole = fit(source, params, *comm, workers,
                              KMeansHooks{.on_state = [&](const KMeansState& s, bool) { states.push_back(s); }});
  ASSERT_GT(states.size(), 8u);
  for (const KMeansState& state : states) {
    SCOPED_TRACE(testing::Message() << "start " << state.start << " iteration " << state.iteration);
    const KMeansFit again = fit(source, params, *comm, workers, KMeansHooks{.resume_from = &state});
    expect_same_bits(again, whole);
    EXPECT_EQ(again.model.prices, whole.model.prices);
  }
}

TEST(BalancedKMeans, EqualRowsCannotBePartedAndTheFitStillEnds) {
  std::vector<float> values(300, 1.0f);
  for (int i = 200; i < 300; ++i) values[i] = static_cast<float>(i);
  const Rows rows = rows_of(values, 1);
  const KMeansFit fit = fit_rows(rows, {.k = 3, .max_iterations = 5, .seed = 1, .balance = 0.1}, {.ranks = 2});
  EXPECT_GE(*std::max_element(fit.model.sizes.begin(), fit.model.sizes.end()), 200);
  EXPECT_EQ(fit.model.sizes[0] + fit.model.sizes[1] + fit.model.sizes[2], 300);
  EXPECT_FALSE(fit.model.balanced);
}

TEST(BalancedKMeans, EvenClustersAreNotMadeByEmptyingOthers) {
  for (const std::uint64_t seed : {1u, 2u, 3u, 4u}) {
    std::vector<float> values;
    RandomStream random(seed, 1);
    for (int i = 0; i < 300; ++i) {
      for (int d = 0; d < 3; ++d) values.push_back(i < 220 ? 1.0F : static_cast<float>(random.normal()));
    }
    const KMeansFit fit = fit_rows(rows_of(values, 3), {.k = 4, .seed = seed, .balance = 0.1}, {.ranks = 2});
    EXPECT_GT(*std::min_element(fit.model.sizes.begin(), fit.model.sizes.end()), 0) << "seed " << seed;
    EXPECT_FALSE(fit.model.balanced);
  }
}

TEST(BalancedKMeans, ANegativeExcessIsRefused) {
  const Rows rows = blobs(20, 2, 2, 1, 3);
  EXPECT_NE(message_of_error(ExitCode::config, [&] { fit_rows(rows, {.k = 2, .balance = -0.1}); }).find("balance"),
            std::string::npos);
}

TEST(Balancer, RaisesWhatIsTooLargeAndGoesOnFromItsState) {
  Balancer balancer(3, 0.1);
  balancer.update(std::vector<std::int64_t>{80, 10, 10}, 2.0);
  EXPECT_GT(balancer.prices()[0], 0);
  EXPECT_EQ(balancer.prices()[1], 0);
  Balancer other(3, 0.1);
  other.restore(balancer.state());
  for (Balancer* one : {&balancer, &other}) one->update(std::vector<std::int64_t>{20, 60, 20}, 1.5);
  EXPECT_EQ(balancer.prices(), other.prices());
  EXPECT_TRUE(balancer.is_even(std::vector<std::int64_t>{36, 32, 32}));
  EXPECT_FALSE(balancer.is_even(std::vector<std::int64_t>{38, 31, 31}));
  EXPECT_TRUE(Balancer(3, 0).is_even(std::vector<std::int64_t>{100, 0, 0}));
}

}  // namespace
}  // namespace moextract::cluster
