// k-means against a plain Lloyd in long double, and the same bits for every number of ranks, threads and rows a block.
#include "cluster/kmeans.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "cluster/distances.h"
#include "cluster/kmeans_init.h"
#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

std::vector<float> initial_centroids(const Rows& rows, const KMeansParams& params) {
  const MemoryRows source(rows.bits, rows.dimension);
  const auto comm = comm::make_self();
  Workers workers(1);
  RowSurvey survey =
      survey_rows(source, std::max(params.init_sample, params.k), params.spherical, params.seed, *comm, workers);
  return CentroidSeeder(source, params, std::move(survey), *comm, workers).draw(0);
}

struct Reference {
  std::vector<std::int32_t> labels;
  std::vector<std::int64_t> sizes;
  long double inertia = 0;
  std::vector<long double> inertias;  // of each iteration
};

// `rows` and `centroids` as floats, so that spherical rows can be given too; centroids are rounded to float each time,
// as the model's are.
Reference plain_lloyd(const std::vector<float>& rows, std::int64_t d, std::vector<float>& centroids, int iterations,
                      bool spherical = false) {
  const auto n = static_cast<std::int64_t>(rows.size()) / d, k = static_cast<std::int64_t>(centroids.size()) / d;
  Reference result;
  result.labels.resize(static_cast<std::size_t>(n));
  const auto assign = [&] {
    result.inertia = 0;
    result.sizes.assign(static_cast<std::size_t>(k), 0);
    for (std::int64_t i = 0; i < n; ++i) {
      long double best = INFINITY;
      for (std::int64_t c = 0; c < k; ++c) {
        long double sum = 0;
        for (std::int64_t j = 0; j < d; ++j) {
          const long double difference = static_cast<long double>(rows[i * d + j]) - centroids[c * d + j];
          sum += difference * difference;
        }
        if (sum < best) {
          best = sum;
          result.labels[i] = static_cast<std::int32_t>(c);
        }
      }
      result.inertia += best;
      ++result.sizes[result.labels[i]];
    }
  };
  for (int iteration = 0; iteration < iterations; ++iteration) {
    assign();
    result.inertias.push_back(result.inertia);
    std::vector<long double> sums(centroids.size());
    for (std::int64_t i = 0; i < n; ++i) {
      for (std::int64_t j = 0; j < d; ++j) sums[result.labels[i] * d + j] += rows[i * d + j];
    }
    for (std::int64_t c = 0; c < k; ++c) {
      if (result.sizes[c] == 0) throw std::runtime_error("the reference knows no empty clusters");
      long double length = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        sums[c * d + j] /= result.sizes[c];
        length += sums[c * d + j] * sums[c * d + j];
      }
      for (std::int64_t j = 0; j < d; ++j) {
        centroids[c * d + j] = static_cast<float>(spherical ? sums[c * d + j] / std::sqrt(length) : sums[c * d + j]);
      }
    }
  }
  assign();
  return result;
}

void expect_close(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 2e-7 * std::max(1.0f, std::fabs(b[i])));
}

TEST(KMeans, FollowsPlainLloyd) {
  for (const auto init : {KMeansInit::plus_plus, KMeansInit::random}) {
    const Rows rows = blobs(1501, 29, 6, 2.5, 21);
    KMeansParams params{.k = 9, .max_iterations = 7, .tolerance = 0, .init = init, .init_sample = 300, .seed = 4};
    std::vector<float> centroids = initial_centroids(rows, params);
    const Reference reference = plain_lloyd(rows.values(), rows.dimension, centroids, 7);
    const KMeansFit fit = fit_rows(rows, params, {.ranks = 2, .threads = 2, .block_rows = 100});
    ASSERT_EQ(fit.model.history.size(), 7u);
    EXPECT_EQ(fit.labels, reference.labels);
    EXPECT_EQ(fit.model.sizes, reference.sizes);
    EXPECT_NEAR(fit.model.inertia, reference.inertia, 1e-9L * reference.inertia);
    for (int i = 0; i < 7; ++i) {
      EXPECT_NEAR(fit.model.history[i].inertia, reference.inertias[i], 1e-9L * reference.inertia);
    }
    expect_close(fit.model.centroids, centroids);
  }
}

TEST(KMeans, SphericalFollowsPlainLloydOnUnitRows) {
  const Rows rows = blobs(900, 16, 5, 2, 22);
  KMeansParams params{.k = 6, .max_iterations = 5, .tolerance = 0, .spherical = true, .seed = 4};
  std::vector<float> centroids = initial_centroids(rows, params);
  std::vector<float> unit(rows.bits.size());
  prepare_rows(rows.bits, rows.dimension, true, unit);
  const Reference reference = plain_lloyd(unit, rows.dimension, centroids, 5, true);
  const KMeansFit fit = fit_rows(rows, params, {.ranks = 3, .block_rows = 64});
  EXPECT_EQ(fit.labels, reference.labels);
  EXPECT_NEAR(fit.model.inertia, reference.inertia, 1e-9L * reference.inertia);
  expect_close(fit.model.centroids, centroids);
  for (std::int64_t c = 0; c < params.k; ++c) {
    double length = 0;
    for (std::int64_t j = 0; j < 16; ++j) length += std::pow(fit.model.centroids[c * 16 + j], 2);
    EXPECT_NEAR(length, 1, 1e-6);
  }
}

TEST(KMeans, IsTheSameBitsOnAnyRanksThreadsAndBlocks) {
  for (const bool spherical : {false, true}) {
    const Rows rows = blobs(1237, 24, 5, 3, 31);
    const KMeansParams params{
        .k = 7, .max_iterations = 8, .n_init = 2, .init_sample = 200, .spherical = spherical, .seed = 9};
    const KMeansFit one = fit_rows(rows, params);
    ASSERT_GT(one.model.history.size(), 2u);
    for (const int ranks : {1, 2, 3, 4, 7}) {
      for (const int threads : {1, 2}) {
        for (const std::int64_t block_rows : {1, 50, 333, 5000}) {
          SCOPED_TRACE(testing::Message() << ranks << " ranks, " << threads << " threads, blocks of " << block_rows);
          expect_same_bits(fit_rows(rows, params, {ranks, threads, block_rows, block_rows == 50}), one);
        }
      }
    }
  }
}

TEST(KMeans, IsTheSameBitsWithValuesTooLargeForOneWord) {
  Rows rows = blobs(600, 9, 4, 1, 32);
  std::vector<float> values = rows.values();
  for (float& value : values) value *= 3000;
  rows = rows_of(values, 9);
  const KMeansParams params{.k = 5, .max_iterations = 6, .seed = 2};
  const KMeansFit one = fit_rows(rows, params);
  expect_same_bits(fit_rows(rows, params, {.ranks = 4, .threads = 2, .block_rows = 17, .lopsided = true}), one);
  std::vector<float> centroids = initial_centroids(rows, params);
  const Reference reference =
      plain_lloyd(values = rows.values(), 9, centroids, static_cast<int>(one.model.history.size()));
  EXPECT_EQ(one.labels, reference.labels);
  EXPECT_NEAR(one.model.inertia, reference.inertia, 1e-9L * reference.inertia);
}

TEST(KMeans, RecoversSeparateBlobs) {
  const Rows rows = blobs(2000, 20, 8, 0.1, 41);
  const KMeansFit fit = fit_rows(rows, {.k = 8, .seed = 3}, {.ranks = 2});
  EXPECT_TRUE(fit.model.converged);
  for (std::int64_t i = 0; i < rows.count; ++i) EXPECT_EQ(fit.labels[i], fit.labels[i % 8]) << "row " << i;
  EXPECT_EQ(std::set<std::int32_t>(fit.labels.begin(), fit.labels.begin() + 8).size(), 8u);
  for (const std::int64_t size : fit.model.sizes) EXPECT_EQ(size, 250);
  EXPECT_LT(fit.model.inertia / 2000, 20 * 0.1 * 0.1 * 1.2);
}

TEST(KMeans, InertiaNeverGrowsAndSizesBelongToTheLabels) {
  const Rows rows = blobs(3000, 12, 30, 2, 42);
  const KMeansFit fit = fit_rows(rows, {.k = 20, .max_iterations = 40, .tolerance = 0, .seed = 5});
  double before = INFINITY;
  for (const KMeansIteration& iteration : fit.model.history) {
    EXPECT_LE(iteration.inertia, before * (1 + 1e-12));
    before = iteration.inertia;
  }
  EXPECT_LE(fit.model.inertia, before * (1 + 1e-12));
  std::vector<std::int64_t> sizes(20);
  for (const std::int32_t label : fit.labels) ++sizes[label];
  EXPECT_EQ(sizes, fit.model.sizes);
  EXPECT_EQ(fit.model.history.front().moved, rows.count);
}

TEST(KMeans, PredictGivesTheLabelsOfFit) {
  for (const bool spherical : {false, true}) {
    for (const std::int64_t iterations : {1, 3, 50}) {
      const Rows rows = blobs(777, 30, 6, 3, 43);
      const KMeansFit fit = fit_rows(rows, {.k = 6, .max_iterations = iterations, .spherical = spherical});
      Workers workers(2);
      EXPECT_EQ(predict(fit.model, MemoryRows(rows.bits, 30, 0, 100), spherical, workers), fit.labels);
    }
  }
}

TEST(KMeans, MoreStartsAreNeverWorse) {
  const Rows rows = blobs(600, 4, 12, 0.5, 44);
  KMeansParams params{.k = 12, .init = KMeansInit::random, .seed = 6};
  const double one = fit_rows(rows, params).model.inertia;
  params.n_init = 8;
  const double eight = fit_rows(rows, params).model.inertia;
  EXPECT_LT(eight, one);  // random starts of 12 tight blobs differ
}

TEST(KMeans, StopsByToleranceAndByTheLimit) {
  const Rows rows = blobs(800, 6, 10, 2, 45);
  const KMeansFit limited = fit_rows(rows, {.k = 8, .max_iterations = 2, .tolerance = 0});
  EXPECT_FALSE(limited.model.converged);
  EXPECT_EQ(limited.model.history.size(), 2u);
  const KMeansFit loose = fit_rows(rows, {.k = 8, .max_iterations = 200, .tolerance = 0.05});
  const KMeansFit exact = fit_rows(rows, {.k = 8, .max_iterations = 200, .tolerance = 0});
  EXPECT_TRUE(loose.model.converged);
  EXPECT_TRUE(exact.model.converged);
  EXPECT_LT(loose.model.history.size(), exact.model.history.size());
  EXPECT_EQ(exact.model.history.back().shift, 0);
  const double radius = std::sqrt(loose.model.history.back().inertia / 800);
  EXPECT_LE(loose.model.history.back().shift, 0.05 * radius);
  EXPECT_GT(loose.model.history[loose.model.history.size() - 2].shift, 0.05 * radius);
}

TEST(KMeans, ReportsIterationsOnTheRootOnly) {
  const Rows rows = blobs(100, 3, 4, 1, 46);
  std::mutex mutex;
  std::map<int, std::vector<std::int64_t>> seen;
  std::size_t iterations = 0;
  comm::run_threads(3, [&](comm::Communicator& comm) {
    const auto first = deal(100, 3, false);
    const MemoryRows mine(rows.part(first[comm.rank()], first[comm.rank() + 1] - first[comm.rank()]), 3,
                          first[comm.rank()]);
    Workers workers(1);
    const KMeansFit result = fit(mine, {.k = 4}, comm, workers, [&](const KMeansIteration& iteration) {
      const std::lock_guard lock(mutex);
      seen[comm.rank()].push_back(iteration.iteration);
    });
    if (comm.is_root()) iterations = result.model.history.size();
  });
  ASSERT_EQ(seen.size(), 1u);
  std::vector<std::int64_t> expected(iterations);
  std::iota(expected.begin(), expected.end(), 1);
  EXPECT_EQ(seen.at(0), expected);
}

TEST(KMeans, SeedsAreDifferentRowsAndDependOnTheSeed) {
  const Rows rows = blobs(500, 5, 10, 1, 47);
  std::set<std::vector<float>> draws;
  for (const std::uint64_t seed : {1, 2, 3}) {
    for (const auto init : {KMeansInit::plus_plus, KMeansInit::random}) {
      const KMeansParams params{.k = 10, .init = init, .init_sample = 100, .seed = seed};
      const std::vector<float> centroids = initial_centroids(rows, params);
      draws.insert(centroids);
      std::set<std::vector<float>> different;
      for (std::int64_t c = 0; c < 10; ++c) {
        different.emplace(centroids.begin() + c * 5, centroids.begin() + (c + 1) * 5);
      }
      EXPECT_EQ(different.size(), 10u);
    }
  }
  EXPECT_EQ(draws.size(), 6u);
}

}  // namespace
}  // namespace moextract::cluster
