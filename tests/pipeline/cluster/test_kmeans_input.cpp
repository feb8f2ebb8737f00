// Odd and bad input: a defined result or one clear error, on every rank.
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <string>

#include "cluster/farthest_rows.h"
#include "cluster/kmeans.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

using testing::Test;

void expect_mentions(const std::string& message, const std::string& text) {
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

TEST(KMeansInput, OneRowIsItsOwnCentroid) {
  const Rows rows = rows_of({1.5f, -2, 0.25f}, 3);
  for (const int ranks : {1, 3}) {
    const KMeansFit fit = fit_rows(rows, {.k = 1}, {.ranks = ranks});
    EXPECT_EQ(fit.model.centroids, (std::vector<float>{1.5f, -2, 0.25f}));
    EXPECT_EQ(fit.model.inertia, 0);
    EXPECT_EQ(fit.labels, std::vector<std::int32_t>{0});
    EXPECT_TRUE(fit.model.converged);
  }
}

TEST(KMeansInput, OneClusterIsTheMean) {
  const Rows rows = rows_of({1, 2, 3, 6, 5, 10}, 2);
  const KMeansFit fit = fit_rows(rows, {.k = 1}, {.ranks = 2});
  EXPECT_EQ(fit.model.centroids, (std::vector<float>{3, 6}));
  EXPECT_EQ(fit.model.sizes, std::vector<std::int64_t>{3});
  EXPECT_DOUBLE_EQ(fit.model.inertia, 40);
}

TEST(KMeansInput, AsManyClustersAsDifferentRowsFitsExactly) {
  // Duplicates, both zeros, and a sample too small to see all four rows.
  std::vector<float> values;
  for (int i = 0; i < 400; ++i) values.insert(values.end(), {1.0f, 0.1f});
  for (const float value : {2.0f, 3.0f, -0.0f, 0.0f}) values.insert(values.end(), {value, value});
  const Rows rows = rows_of(values, 2);
  for (const auto init : {KMeansInit::plus_plus, KMeansInit::random}) {
    const KMeansParams params{.k = 4, .init = init, .init_sample = 4};
    const KMeansFit one = fit_rows(rows, params);
    EXPECT_EQ(one.model.inertia, 0);
    for (const std::int64_t size : one.model.sizes) EXPECT_GT(size, 0);
    expect_same_bits(fit_rows(rows, params, {.ranks = 7, .block_rows = 3, .lopsided = true}), one);
  }
}

TEST(KMeansInput, TooFewDifferentRowsAreCountedTruly) {
  std::vector<float> values;
  for (int i = 0; i < 300; ++i) values.insert(values.end(), {1.0f, 5.0f});
  for (const float value : {2.0f, 3.0f, -0.0f, 0.0f}) values.insert(values.end(), {value, value});
  const Rows rows = rows_of(values, 2);
  for (const auto init : {KMeansInit::plus_plus, KMeansInit::random}) {
    for (const std::int64_t sample : {2, 100000}) {
      for (const int ranks : {1, 3}) {
        const std::string message = message_of_error(
            ExitCode::input, [&] { fit_rows(rows, {.k = 5, .init = init, .init_sample = sample}, {.ranks = ranks}); });
        expect_mentions(message, "only 4 different rows");
        expect_mentions(message, "304 rows");
      }
    }
  }
  const Rows directions = rows_of({1, 1, 2, 2, 3, 3, 1, 0}, 2);
  expect_mentions(message_of_error(ExitCode::input, [&] { fit_rows(directions, {.k = 3, .spherical = true}); }),
                  "only 2 different directions");
}

TEST(KMeansInput, AllRowsEqual) {
  const Rows rows = rows_of(std::vector<float>(300, 0.1f), 3);
  const KMeansFit fit = fit_rows(rows, {.k = 1}, {.ranks = 4});
  EXPECT_EQ(fit.model.inertia, 0);
  EXPECT_EQ(fit.model.centroids, (std::vector<float>(3, rows.values()[0])));
  expect_mentions(message_of_error(ExitCode::input, [&] { fit_rows(rows, {.k = 2}, {.ranks = 4}); }),
                  "only 1 different");
}

TEST(KMeansInput, ZerosAndConstantColumns) {
  const Rows zeros = rows_of(std::vector<float>(12, 0.0f), 3);
  for (const bool spherical : {false, true}) {
    const KMeansFit fit = fit_rows(zeros, {.k = 1, .spherical = spherical});
    EXPECT_EQ(fit.model.centroids, std::vector<float>(3, 0.0f));
    EXPECT_EQ(fit.model.inertia, 0);
  }
  std::vector<float> values;
  for (int i = 0; i < 100; ++i) values.insert(values.end(), {7.0f, i < 50 ? 1.0f : -1.0f, 0.0f});
  const KMeansFit fit = fit_rows(rows_of(values, 3), {.k = 2});
  EXPECT_EQ(fit.model.inertia, 0);
  EXPECT_EQ(fit.model.sizes, (std::vector<std::int64_t>{50, 50}));
}

TEST(KMeansInput, NoRowsAtAll) {
  expect_mentions(message_of_error(ExitCode::input,
                                   [] {
                                     fit_rows(Rows{0, 4, {}}, {.k = 1}, {.ranks = 3});
                                   }),
                  "no rows");
}

TEST(KMeansInput, NaNAndInfinityAreNamedByGlobalRow) {
  for (const std::uint16_t bad : {0x7e00, 0xfc00}) {
    Rows rows = blobs(200, 5, 3, 1, 51);
    rows.bits[137 * 5 + 2] = bad;
    for (const Layout& layout : {Layout{}, Layout{3, 2, 7}, Layout{4, 1, 50, true}}) {
      expect_mentions(message_of_error(ExitCode::numerics, [&] { fit_rows(rows, {.k = 3}, layout); }), "row 137 ");
    }
  }
}

TEST(KMeansInput, PredictChecksRowsAndDimension) {
  Rows rows = blobs(60, 5, 3, 1, 52);
  const KMeansFit fit = fit_rows(rows, {.k = 3});
  Workers workers(2);
  expect_mentions(
      message_of_error(ExitCode::input, [&] { predict(fit.model, MemoryRows(rows.bits, 6), false, workers); }),
      "dimension 6");
  rows.bits[59 * 5] = 0x7c00;
  expect_mentions(
      message_of_error(ExitCode::numerics, [&] { predict(fit.model, MemoryRows(rows.bits, 5, 1000), false, workers); }),
      "row 1059 ");
  EXPECT_TRUE(predict(fit.model, MemoryRows({}, 5), false, workers).empty());
}

TEST(KMeansInput, RanksOfDifferentDimension) {
  const std::string message = message_of_error(ExitCode::input, [] {
    comm::run_threads(3, [](comm::Communicator& comm) {
      const std::int64_t d = comm.rank() == 2 ? 6 : 4;
      const MemoryRows mine(blobs(10, d, 2, 1, 53).bits, d, comm.rank() * 10);
      Workers workers(1);
      fit(mine, {.k = 2}, comm, workers);
    });
  });
  expect_mentions(message, "4 on one rank, 6 on another");
}

TEST(KMeansInput, BadParametersAreNamed) {
  const Rows rows = blobs(10, 2, 2, 1, 54);
  const auto message = [&](const KMeansParams& params) {
    return message_of_error(ExitCode::config, [&] { fit_rows(rows, params); });
  };
  expect_mentions(message({.k = 0}), "k is 0");
  expect_mentions(message({.max_iterations = 0}), "max_iterations");
  expect_mentions(message({.tolerance = -1}), "tolerance");
  expect_mentions(message({.tolerance = std::nan("")}), "tolerance");
  expect_mentions(message({.n_init = -2}), "n_init");
  expect_mentions(message({.init_sample = 0}), "init_sample");
}

// A source whose rows cannot be read any more, on one rank and at a given pass.
class FailingRows : public MemoryRows {
 public:
  FailingRows(const Rows& rows, int failing_pass) : MemoryRows(rows.bits, rows.dimension), failing_(failing_pass) {}
  void for_each_block(const std::function<void(const RowBlock&)>& visit) const override {
    if (++pass_ == failing_) fail(ExitCode::input, "shard 3 cannot be read");
    MemoryRows::for_each_block(visit);
  }

 private:
  mutable int pass_ = 0;
  int failing_;
};

TEST(KMeansInput, AFailureOnOneRankEndsAllOfThem) {
  for (const int pass : {1, 2, 4}) {
    std::atomic<int> ended = 0;
    const std::string message = message_of_error(ExitCode::input, [&] {
      comm::run_threads(3, [&](comm::Communicator& comm) {
        const FailingRows mine(blobs(50, 3, 4, 2, 55 + comm.rank()), comm.rank() == 1 ? pass : 0);
        Workers workers(1);
        try {
          fit(mine, {.k = 4, .tolerance = 0}, comm, workers);
        } catch (const UserError&) {
          ++ended;
          throw;
        }
      });
    });
    expect_mentions(message, "shard 3");
    EXPECT_EQ(ended, 3);
  }
}

TEST(KMeansInput, AFailureOfTheCallbackEndsAllRanks) {
  const Rows rows = blobs(90, 3, 4, 2, 56);
  for (const std::int64_t iterations : {1, 20}) {
    std::atomic<int> ended = 0;
    message_of_error(ExitCode::storage, [&] {
      comm::run_threads(2, [&](comm::Communicator& comm) {
        const MemoryRows mine(rows.part(comm.rank() * 45, 45), 3, comm.rank() * 45);
        Workers workers(1);
        try {
          fit(mine, {.k = 4, .max_iterations = iterations}, comm, workers,
              [](const KMeansIteration&) { fail(ExitCode::storage, "disk full"); });
        } catch (const UserError&) {
          ++ended;
          throw;
        }
      });
    });
    EXPECT_EQ(ended, 2);
  }
}

TEST(FarthestRows, KeepDifferentRowsInAFixedOrder) {
  const std::vector<float> a = {1}, b = {2}, c = {3}, near = {0.5f};
  const auto offered = [&](std::vector<int> order) {
    FarthestRows rows(3);
    for (const int i : order) {
      if (i == 0) rows.offer(9, 40, a);
      if (i == 1) rows.offer(9, 7, a);
      if (i == 2) rows.offer(9, 8, b);
      if (i == 3) rows.offer(4, 1, c);
      if (i == 4) rows.offer(1, 0, near);
      if (i == 5) rows.offer(0, 2, near);
    }
    std::vector<std::int64_t> numbers;
    for (const FarRow& row : rows.rows()) numbers.push_back(row.global);
    return numbers;
  };
  std::vector<int> order = {0, 1, 2, 3, 4, 5};
  do {
    ASSERT_EQ(offered(order), (std::vector<std::int64_t>{7, 8, 1}));
  } while (std::next_permutation(order.begin(), order.end()));
}

// Clusters run empty when many centroids start close together: random starts, one tight ball with almost all rows.
TEST(KMeansInput, EmptyClustersAreRefilledTheSameEverywhere) {
  std::int64_t refilled = 0;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    std::vector<float> values;
    RandomStream random(seed, 77);
    for (int i = 0; i < 60; ++i) {
      values.push_back(static_cast<float>(random.below(4) * 8 + random.below(3)));
      values.push_back(static_cast<float>(random.below(4) * 8 + random.below(3)));
    }
    const Rows rows = rows_of(values, 2);
    const KMeansParams params{.k = 16, .tolerance = 0, .init = KMeansInit::random, .seed = seed};
    const KMeansFit one = fit_rows(rows, params);
    expect_same_bits(fit_rows(rows, params, {.ranks = 3, .threads = 2, .block_rows = 5}), one);
    refilled += one.model.empty_refilled;
    for (const std::int64_t size : one.model.sizes) EXPECT_GT(size, 0);
  }
  EXPECT_GT(refilled, 0);
}

}  // namespace
}  // namespace moextract::cluster
