// Means and inertia of given labels against plain loops in long double.
#include "cluster/label_means.h"

#include <cmath>

#include "cluster_cases.h"

namespace moextract::cluster {
namespace {

struct Plain {
  std::vector<long double> means;
  std::vector<std::int64_t> sizes;
  long double inertia = 0;
};

Plain plain_means(std::vector<float> values, std::int64_t d, const std::vector<std::int32_t>& labels, std::int64_t k,
                  bool spherical) {
  std::vector<long double> rows(values.begin(), values.end());
  const auto n = static_cast<std::int64_t>(labels.size());
  const auto to_unit = [&](std::vector<long double>& all, std::int64_t i) {
    long double squares = 0;
    for (std::int64_t j = 0; j < d; ++j) squares += all[i * d + j] * all[i * d + j];
    for (std::int64_t j = 0; j < d && squares > 0; ++j) all[i * d + j] /= std::sqrt(squares);
  };
  Plain plain{std::vector<long double>(static_cast<std::size_t>(k * d)),
              std::vector<std::int64_t>(static_cast<std::size_t>(k)), 0};
  for (std::int64_t i = 0; i < n; ++i) {
    if (spherical) to_unit(rows, i);
    if (labels[i] < 0) continue;
    ++plain.sizes[labels[i]];
    for (std::int64_t j = 0; j < d; ++j) plain.means[labels[i] * d + j] += rows[i * d + j];
  }
  for (std::int64_t c = 0; c < k; ++c) {
    for (std::int64_t j = 0; j < d && plain.sizes[c] > 0; ++j) plain.means[c * d + j] /= plain.sizes[c];
    if (spherical) to_unit(plain.means, c);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < d && labels[i] >= 0; ++j) {
      const long double difference = rows[i * d + j] - plain.means[labels[i] * d + j];
      plain.inertia += difference * difference;
    }
  }
  return plain;
}

TEST(LabelMeans, FollowPlainLoopsOnAnyRanks) {
  constexpr std::int64_t kRows = 311, kWidth = 9, kClusters = 5;
  const Rows rows = blobs(kRows, kWidth, 4, 1, 91);
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < kRows; ++i) labels.push_back(static_cast<std::int32_t>(i * i % 5) - 1);  // 4 stays empty
  for (const bool spherical : {false, true}) {
    const Plain plain = plain_means(rows.values(), kWidth, labels, kClusters, spherical);
    LabelMeans one;
    for (const int ranks : {1, 2, 3, 4}) {
      comm::run_threads(ranks, [&](comm::Communicator& comm) {
        const auto deals = deal(kRows, ranks, true);
        const auto begin = deals[comm.rank()], count = deals[comm.rank() + 1] - begin;
        Workers workers(2);
        const LabelMeans means =
            label_means(MemoryRows(rows.part(begin, count), kWidth, begin, 50), std::span(labels).subspan(begin, count),
                        kClusters, spherical, comm, workers);
        EXPECT_EQ(means.sizes, plain.sizes);
        EXPECT_NEAR(means.inertia, plain.inertia, 1e-6 * plain.inertia);  // of means that were rounded to float
        for (std::size_t i = 0; i < means.centroids.size(); ++i) EXPECT_NEAR(means.centroids[i], plain.means[i], 1e-6);
        if (!comm.is_root()) return;
        if (ranks == 1) one = means;
        EXPECT_EQ(means.inertia, one.inertia);
        EXPECT_EQ(means.centroids, one.centroids);
      });
    }
    EXPECT_EQ(one.sizes[4], 0);
  }
}

TEST(LabelMeans, OfTheLabelsOfAFitAreItsOwn) {
  const Rows rows = blobs(500, 12, 4, 2, 92);
  const KMeansFit fit = fit_rows(rows, {.k = 4, .max_iterations = 100, .tolerance = 0, .seed = 3});
  ASSERT_TRUE(fit.model.converged);
  Workers workers(1);
  const auto alone = comm::make_self();
  const LabelMeans means = label_means(MemoryRows(rows.bits, 12), fit.labels, 4, false, *alone, workers);
  EXPECT_EQ(means.centroids, fit.model.centroids);
  EXPECT_EQ(means.sizes, fit.model.sizes);
  EXPECT_NEAR(means.inertia, fit.model.inertia, 1e-9 * fit.model.inertia);
}

}  // namespace
}  // namespace moextract::cluster
