// Streamed second moments and the principal components they give, against NumPy and scikit-learn: see
// tests/golden/make_pca_golden.py.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "cluster/pca.h"
#include "cluster/row_moments.h"
#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

struct Case {
  HalfRows rows;
  bool unit_length = false;
  std::map<std::string, std::vector<double>> values;
};

std::map<std::string, Case> golden() {
  std::map<std::string, Case> cases;
  std::ifstream file(MOEXTRACT_GOLDEN_FOLDER "/pca_golden.txt");
  EXPECT_TRUE(file);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string kind, name, hex;
    words >> kind >> name;
    Case& one = cases[name];
    if (kind == "rows") {
      std::int64_t n = 0;
      words >> n >> one.rows.dimension >> one.unit_length >> hex;
      for (std::size_t at = 0; at < hex.size(); at += 4)
        one.rows.bits.push_back(static_cast<std::uint16_t>(std::stoul(hex.substr(at, 4), nullptr, 16)));
      EXPECT_EQ(one.rows.count(), n);
    } else {
      for (double value = 0; words >> value;) one.values[kind].push_back(value);
    }
  }
  return cases;
}

struct Found {
  RowMoments moments;
  PcaModel pca;
};

/// Over ranks that are threads; rank 1 of three and more has no rows. All ranks must find the same.
Found find(const Case& one, int ranks, int threads, std::int64_t block_rows) {
  std::vector<Found> found(static_cast<std::size_t>(ranks));
  const std::int64_t d = one.rows.dimension, parts = ranks > 2 ? ranks - 1 : ranks;
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    const std::int64_t part = ranks > 2 && comm.rank() > 1 ? comm.rank() - 1 : comm.rank();
    const bool empty = ranks > 2 && comm.rank() == 1;
    const std::int64_t begin = one.rows.count() * part / parts,
                       end = empty ? begin : one.rows.count() * (part + 1) / parts;
    const MemoryRows mine({one.rows.bits.begin() + begin * d, one.rows.bits.begin() + end * d}, d, begin, block_rows);
    Workers workers(threads);
    Found& own = found[static_cast<std::size_t>(comm.rank())];
    own.moments = stream_row_moments(mine, d, one.unit_length, comm, workers);
    own.pca = fit_pca(own.moments, d, comm);
  });
  for (const Found& other : found) {
    expect_bits(other.moments.covariance, found[0].moments.covariance, "covariance");
    expect_bits(other.pca.axes, found[0].pca.axes, "axes");
  }
  return found[0];
}

TEST(RowMoments, AreWhatNumPySays) {
  for (const auto& [name, one] : golden()) {
    SCOPED_TRACE(name);
    const Found found = find(one, 1, 1, 4096);
    const std::vector<double>&mean = one.values.at("mean"), &covariance = one.values.at("covariance");
    const auto d = static_cast<std::size_t>(one.rows.dimension);
    ASSERT_EQ(found.moments.covariance.size(), d * d);
    EXPECT_EQ(found.moments.rows, one.rows.count());
    for (std::size_t i = 0; i < d; ++i) {
      EXPECT_NEAR(found.moments.mean[i], mean[i], 1e-6 * std::sqrt(covariance[i * d + i]));
      for (std::size_t j = 0; j < d; ++j) {
        // Rounded to 2^-20 of a column's largest value.
        EXPECT_NEAR(found.moments.covariance[i * d + j], covariance[i * d + j],
                    1e-6 * std::sqrt(covariance[i * d + i] * covariance[j * d + j]));
      }
    }
  }
}

TEST(RowMoments, GiveTheComponentsOfScikitLearn) {
  for (const auto& [name, one] : golden()) {
    SCOPED_TRACE(name);
    const Found found = find(one, 1, 1, 4096);
    const std::vector<double>&axes = one.values.at("axes"), &variances = one.values.at("variances");
    const auto d = static_cast<std::size_t>(one.rows.dimension);
    double total = 0;
    for (std::size_t c = 0; c < d; ++c) {
      EXPECT_NEAR(found.pca.variances[c], variances[c], 1e-5 * variances[c]);
      total += variances[c];
      double dot = 0;  // signs are fixed by the same rule
      for (std::size_t k = 0; k < d; ++k) dot += found.pca.axes[c * d + k] * axes[c * d + k];
      EXPECT_NEAR(dot, 1, 1e-6) << c;
    }
    EXPECT_NEAR(found.pca.total_variance, total, 1e-6 * total);
  }
}

TEST(RowMoments, AreTheSameBitsOnAnyRanksThreadsAndBlocks) {
  for (const auto& [name, one] : golden()) {
    const Found alone = find(one, 1, 1, 4096);
    for (const int ranks : {1, 2, 3, 4}) {
      for (const int threads : {1, 2}) {
        SCOPED_TRACE(testing::Message() << name << ", " << ranks << " ranks of " << threads << " threads");
        const Found other = find(one, ranks, threads, 10 + 7 * ranks);
        expect_bits(other.moments.mean, alone.moments.mean, "mean");
        expect_bits(other.moments.covariance, alone.moments.covariance, "covariance");
        expect_bits(other.pca.axes, alone.pca.axes, "axes");
      }
    }
  }
}

TEST(RowMoments, TakeMoreRowsThanAreMultipliedAtOnceAndMoreColumnsThanATile) {
  const HalfRows rows = balls(2500, 70, 3, 2, 4);
  const std::vector<float> values = rows.values();
  const Found found = find({rows, false, {}}, 2, 2, 1500);
  for (const std::size_t i : {std::size_t{0}, std::size_t{63}, std::size_t{64}, std::size_t{69}}) {
    for (const std::size_t j : {std::size_t{1}, std::size_t{64}, std::size_t{68}}) {
      double a = 0, b = 0, ab = 0;
      for (std::size_t r = 0; r < 2500; ++r) a += values[r * 70 + i], b += values[r * 70 + j];
      for (std::size_t r = 0; r < 2500; ++r) ab += (values[r * 70 + i] - a / 2500) * (values[r * 70 + j] - b / 2500);
      EXPECT_NEAR(found.moments.covariance[i * 70 + j], ab / 2499, 1e-4);
    }
  }
}

TEST(RowMoments, OfOneRowAndOfZerosAreZero) {
  const Found one = find({half_rows({1, -2, 3}, 3), false, {}}, 2, 1, 8);
  EXPECT_EQ(one.moments.covariance, std::vector<double>(9, 0.0));
  EXPECT_EQ(one.moments.mean, (std::vector<double>{1, -2, 3}));
  const Found zeros = find({half_rows(std::vector<float>(8, 0.0F), 2), true, {}}, 1, 1, 8);
  EXPECT_EQ(zeros.moments.covariance, std::vector<double>(4, 0.0));
}

TEST(HdbscanPca, LooksAtAllRowsOrAtTheSample) {
  const HalfRows rows = balls(600, 12, 4, 4, 31);
  Params params{.min_cluster_size = 10, .pca_components = 5, .sample_rows = 200};
  const Fit all = fit_over(rows, params, {3, 2, 50});
  params.pca_rows = PcaRows::sample;
  const Fit sample = fit_over(rows, params);
  const Found expected = find({rows, false, {}}, 1, 1, 4096);
  expect_bits(all.model.pca.mean, expected.moments.mean, "mean");
  for (std::size_t c = 0; c < 5; ++c) EXPECT_EQ(all.model.pca.variances[c], expected.pca.variances[c]);
  EXPECT_NE(sample.model.pca.variances, all.model.pca.variances);
}

}  // namespace
}  // namespace moextract::cluster::hdbscan
