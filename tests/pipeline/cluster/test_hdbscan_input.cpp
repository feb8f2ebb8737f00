// HDBSCAN as a user meets it: odd and bad input, samples, noise, projections, exports.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "cluster/hdbscan_export.h"
#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

void expect_mentions(const std::string& message, const std::string& text) {
  EXPECT_NE(message.find(text), std::string::npos) << message;
}

std::int64_t count(const std::vector<std::int32_t>& labels, std::int32_t label) {
  return std::count(labels.begin(), labels.end(), label);
}

TEST(HdbscanInput, RowsThatAreNotFiniteAreNamedOnEveryRank) {
  HalfRows rows = balls(90, 3, 2, 5, 1);
  rows.bits[77 * 3 + 2] = 0x7e00;
  for (const int ranks : {1, 4}) {
    const std::string message =
        message_of(ExitCode::numerics, [&] { fit_over(rows, {.min_cluster_size = 5}, {.ranks = ranks}); });
    expect_mentions(message, "row 77 ");
    expect_mentions(message, "column 2");
  }
  const Fit fit = fit_over(balls(90, 3, 2, 5, 1), {.min_cluster_size = 5});
  Workers workers(1);
  expect_mentions(message_of(ExitCode::numerics, [&] { predict(fit.model, MemoryRows(rows.bits, 3, 1000), workers); }),
                  "row 1077 ");
}

TEST(HdbscanInput, NoRowsAtAll) {
  expect_mentions(message_of(ExitCode::input, [] { fit_over({3, {}}, {}, {.ranks = 3}); }), "no rows to cluster");
}

TEST(HdbscanInput, RanksOfDifferentDimensions) {
  const std::string message = message_of(ExitCode::input, [] {
    comm::run_threads(2, [](comm::Communicator& comm) {
      Workers workers(1);
      fit(MemoryRows(std::vector<std::uint16_t>(24, 0), comm.rank() == 0 ? 3 : 4, 100 * comm.rank()), {}, comm,
          workers);
    });
  });
  expect_mentions(message, "3");
  expect_mentions(message, "4");
}

TEST(HdbscanInput, RowsOfAnotherDimensionCannotBePredicted) {
  const Fit fit = fit_over(balls(60, 3, 2, 5, 1), {.min_cluster_size = 5});
  Workers workers(1);
  expect_mentions(message_of(ExitCode::input,
                             [&] { predict(fit.model, MemoryRows(std::vector<std::uint16_t>(8, 0), 4), workers); }),
                  "dimension 4");
  EXPECT_TRUE(predict(fit.model, MemoryRows({}, 4), workers).labels.empty());
}

TEST(HdbscanInput, ParametersOutOfRange) {
  const HalfRows rows = balls(40, 3, 2, 5, 1);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto refuse = [&](const Params& params, const std::string& name) {
    expect_mentions(message_of(ExitCode::config, [&] { fit_over(rows, params, {.ranks = 2}); }), name);
  };
  refuse({.min_cluster_size = 1}, "min_cluster_size is 1");
  refuse({.min_samples = -1}, "min_samples is -1");
  refuse({.cluster_selection_epsilon = -0.5}, "cluster_selection_epsilon");
  refuse({.cluster_selection_epsilon = nan}, "cluster_selection_epsilon");
  refuse({.alpha = 0}, "alpha is 0");
  refuse({.alpha = nan}, "alpha");
  refuse({.max_cluster_size = -1}, "max_cluster_size");
  refuse({.pca_components = 4}, "4 components of rows of dimension 3");
  refuse({.sample_rows = 0}, "sample_rows is 0");
}

TEST(HdbscanInput, OneRowAndFewRowsAreNoise) {
  for (const std::int64_t n : {1, 2, 4}) {
    for (const bool single : {false, true}) {
      const HalfRows rows = balls(n, 3, 1, 1, 2);
      const Fit fit = fit_over(rows, {.allow_single_cluster = single}, {.ranks = 3});
      EXPECT_EQ(fit.model.k(), 0);
      EXPECT_EQ(fit.rows.labels, std::vector<std::int32_t>(static_cast<std::size_t>(n), -1));
      EXPECT_EQ(fit.rows.probabilities, std::vector<double>(static_cast<std::size_t>(n), 0));
      EXPECT_EQ(static_cast<std::int64_t>(fit.model.spanning_tree.size()), n - 1);
      Workers workers(1);
      EXPECT_EQ(predict(fit.model, MemoryRows(rows.bits, 3), workers).labels, fit.rows.labels);
      EXPECT_FALSE(to_json(fit.model).empty());
    }
  }
}

TEST(HdbscanInput, AllRowsEqual) {
  const HalfRows rows = half_rows(std::vector<float>(600, 0.3f), 3);
  for (const Metric metric : {Metric::euclidean, Metric::cosine}) {
    const Fit fit = fit_over(rows, {.metric = metric}, {.ranks = 2});
    EXPECT_EQ(fit.model.k(), 0);
    EXPECT_EQ(count(fit.rows.labels, -1), 200);
    EXPECT_EQ(fit.model.outlier_scores, std::vector<double>(200, 0));
    const Fit one = fit_over(rows, {.allow_single_cluster = true, .metric = metric}, {.ranks = 2});
    EXPECT_EQ(one.model.k(), 1);
    EXPECT_EQ(count(one.rows.labels, 0), 200);
    EXPECT_EQ(one.rows.probabilities, std::vector<double>(200, 1));
    Workers workers(1);
    EXPECT_EQ(predict(one.model, MemoryRows({rows.bits.begin(), rows.bits.begin() + 3}, 3), workers).probabilities,
              std::vector<double>{1});
  }
}

TEST(HdbscanInput, GroupsOfDuplicatesAreClustersOfCertainRows) {
  std::vector<float> values;
  for (int i = 0; i < 300; ++i) values.insert(values.end(), {i % 3 * 10.0f, 1.0f});
  for (const int far : {200, 300, 400}) values.insert(values.end(), {static_cast<float>(far), 0.0f});
  const Fit fit = fit_over(half_rows(values, 2), {.min_cluster_size = 10}, {.ranks = 2});
  EXPECT_EQ(fit.model.k(), 3);
  for (std::size_t i = 0; i < 300; ++i) {
    EXPECT_EQ(fit.rows.labels[i], fit.rows.labels[i % 3]);
    EXPECT_EQ(fit.rows.probabilities[i], 1);
    EXPECT_EQ(fit.model.outlier_scores[i], 0);
  }
  EXPECT_EQ(count(fit.rows.labels, -1), 3);
  for (std::size_t i = 300; i < 303; ++i) EXPECT_TRUE(std::isfinite(fit.model.outlier_scores[i]));
  for (const double persistence : fit.model.clusters.persistences) EXPECT_EQ(persistence, 1);
  EXPECT_NE(to_json(fit.model).find("\"death\":null"), std::string::npos);
}

TEST(HdbscanInput, ConstantColumnsDoNotMatter) {
  const HalfRows rows = balls(200, 3, 3, 6, 4);
  std::vector<float> wide;
  const std::vector<float> values = rows.values();
  for (std::size_t i = 0; i < values.size(); i += 3)
    wide.insert(wide.end(), {7, values[i], values[i + 1], values[i + 2], -1000});
  EXPECT_EQ(fit_over(half_rows(wide, 5), {}).rows.labels, fit_over(rows, {}).rows.labels);
}

TEST(HdbscanNoise, PoliciesConcernNoiseAlone) {
  const HalfRows rows = balls(500, 4, 4, 4, 3);
  Params params{.min_cluster_size = 15, .sample_rows = 350};
  const Fit dropped = fit_over(rows, params);
  const std::int64_t k = dropped.model.k();
  ASSERT_GE(k, 3);
  ASSERT_GT(count(dropped.rows.labels, -1), 10);
  EXPECT_EQ(dropped.rows.noise, count(dropped.rows.labels, -1));
  params.noise = NoisePolicy::own_cluster;
  const Fit own = fit_over(rows, params);
  EXPECT_EQ(own.model.labels(), k + 1);
  params.noise = NoisePolicy::nearest_centroid;
  const Fit nearest = fit_over(rows, params);
  const std::vector<float> values = rows.values();
  for (std::size_t i = 0; i < dropped.rows.labels.size(); ++i) {
    const std::int32_t label = dropped.rows.labels[i];
    EXPECT_EQ(own.rows.labels[i], label < 0 ? k : label);
    if (label >= 0) {
      EXPECT_EQ(nearest.rows.labels[i], label);
      continue;
    }
    EXPECT_EQ(nearest.rows.probabilities[i], 0);
    std::vector<double> squared(static_cast<std::size_t>(k), 0);
    for (std::size_t c = 0; c < squared.size(); ++c) {
      for (std::size_t j = 0; j < 4; ++j)
        squared[c] += std::pow(values[i * 4 + j] - dropped.model.centroids[c * 4 + j], 2);
    }
    EXPECT_EQ(nearest.rows.labels[i], std::min_element(squared.begin(), squared.end()) - squared.begin());
  }
}

TEST(HdbscanSample, IsDrawnByRowNumberAndTheRestIsPredicted) {
  const HalfRows rows = balls(900, 5, 3, 6, 6);
  const Params params{.min_cluster_size = 20, .sample_rows = 300, .seed = 11};
  const Fit fit = fit_over(rows, params, {.ranks = 3, .lopsided = true});
  EXPECT_EQ(fit.model.rows(), 300);
  EXPECT_EQ(fit.model.rows_in_set, 900);
  EXPECT_EQ(fit.model.k(), 3);
  // Sampled rows have the labels of the fit, the others those of predict().
  Workers workers(1);
  const Assignment all = predict(fit.model, MemoryRows(rows.bits, 5, 0, 13), workers);
  std::size_t next = 0;
  for (std::size_t i = 0; i < 900; ++i) {
    if (next < 300 && fit.model.numbers[next] == static_cast<std::int64_t>(i)) {
      EXPECT_EQ(fit.rows.labels[i], fit.model.clusters.labels[next++]);
    } else {
      EXPECT_EQ(fit.rows.labels[i], all.labels[i]);
      EXPECT_EQ(fit.rows.probabilities[i], all.probabilities[i]);
    }
  }
  EXPECT_EQ(next, 300u);
  Params other = params;
  other.seed = 12;
  EXPECT_NE(fit_over(rows, other).model.numbers, fit.model.numbers);
}

TEST(HdbscanSample, PredictAgreesWithFitOnRowsHeldBack) {
  const Fit fit = fit_over(balls(800, 6, 4, 6, 8), {.min_cluster_size = 20, .min_samples = 5});
  std::vector<Agreement> found(3);
  comm::run_threads(3, [&](comm::Communicator& comm) {
    Workers workers(1);
    found[static_cast<std::size_t>(comm.rank())] = held_back_agreement(fit.model, 100, comm, workers);
  });
  EXPECT_EQ(found[0].held_back, 100);
  EXPECT_GT(found[0].ari, 0.9);
  EXPECT_GT(found[0].same_noise, 0.9);
  EXPECT_EQ(found[0].ari, found[2].ari);
  Workers workers(1);
  expect_mentions(
      message_of(ExitCode::config, [&] { held_back_agreement(fit.model, 800, *comm::make_self(), workers); }),
      "held back");
}

TEST(HdbscanMetric, CosineIsEuclideanBetweenUnitRows) {
  // Three directions with lengths all over the place.
  std::vector<float> values;
  for (int i = 0; i < 240; ++i) {
    RandomStream random(2, 3, static_cast<std::uint64_t>(i));
    const double length = std::pow(10.0, random.uniform() * 3 - 1);
    for (int k = 0; k < 3; ++k) {
      values.push_back(static_cast<float>(length * ((k == i % 3) + 0.03 * random.normal())));
    }
  }
  const Fit fit = fit_over(half_rows(values, 3), {.min_cluster_size = 30, .metric = Metric::cosine});
  EXPECT_EQ(fit.model.k(), 3);
  for (std::size_t i = 0; i < 240; ++i) {
    if (fit.rows.labels[i] >= 0 && fit.rows.labels[i % 3] >= 0) {
      EXPECT_EQ(fit.rows.labels[i], fit.rows.labels[i % 3]);
    }
    double squared = 0;
    for (std::size_t k = 0; k < 3; ++k) squared += std::pow(fit.model.points[i * 3 + k], 2);
    EXPECT_NEAR(squared, 1, 1e-6);
  }
}

TEST(HdbscanPca, KeepsDistancesWithinItsAxesAndReportsVariance) {
  // Rows in a plane of 12 dimensions: two components lose nothing.
  const std::vector<float> flat = balls(200, 2, 3, 8, 3).values();
  std::vector<float> values;
  for (std::size_t i = 0; i < flat.size(); i += 2) {
    for (int k = 0; k < 12; ++k)
      values.push_back(static_cast<float>((k % 3 - 1) * flat[i] + (k % 4 - 1.5) * flat[i + 1]));
  }
  const HalfRows rows = half_rows(values, 12);
  const Fit whole = fit_over(rows, {.min_cluster_size = 15}),
            thin = fit_over(rows, {.min_cluster_size = 15, .pca_components = 2});
  EXPECT_EQ(thin.model.dimension, 2);
  EXPECT_EQ(thin.rows.labels, whole.rows.labels);
  EXPECT_NEAR(thin.model.pca.variances[0] + thin.model.pca.variances[1], thin.model.pca.total_variance,
              1e-5 * thin.model.pca.total_variance);
  for (std::size_t i = 0; i < 200; ++i) EXPECT_NEAR(thin.model.core[i], whole.model.core[i], 0.02);
  Workers workers(1);
  const Assignment found = predict(thin.model, MemoryRows(rows.bits, 12), workers);
  EXPECT_GT(adjusted_rand_index(found.labels, thin.rows.labels), 0.9);
}

TEST(HdbscanExport, ColumnsAndJsonHoldTheTrees) {
  const Fit fit = fit_over(balls(300, 4, 3, 6, 5), {.min_cluster_size = 20, .pca_components = 3});
  const std::vector<Column> all = columns(fit.model);
  const auto find = [&](const std::string& name) {
    const auto at = std::find_if(all.begin(), all.end(), [&](const Column& column) { return column.name == name; });
    EXPECT_NE(at, all.end()) << name;
    return *at;
  };
  const Column weights = find("spanning_tree.weight");
  EXPECT_EQ(weights.kind, "F64");
  EXPECT_EQ(weights.shape, std::vector<std::int64_t>{299});
  double first = 0;
  std::memcpy(&first, weights.data.data(), sizeof first);
  EXPECT_EQ(first, fit.model.spanning_tree[0].weight);
  EXPECT_EQ(find("clusters.centroid").shape, (std::vector<std::int64_t>{fit.model.k(), 3}));
  EXPECT_EQ(find("condensed.parent").shape[0], static_cast<std::int64_t>(fit.model.condensed.size()));
  for (const Column& column : all) {
    std::int64_t elements = 1;
    for (const std::int64_t extent : column.shape) elements *= extent;
    EXPECT_EQ(column.data.size(), static_cast<std::size_t>(elements) * (column.kind == "F32" ? 4 : 8)) << column.name;
  }
  const std::string json = to_json(fit.model);
  EXPECT_NE(json.find("\"sampled_rows\":300,"), std::string::npos) << json;
  EXPECT_EQ(std::count(json.begin(), json.end(), '{'), std::count(json.begin(), json.end(), '}'));
  EXPECT_NE(json.find(fmt::format("{{\"id\":300,\"parent\":null,")), std::string::npos) << json;
}

}  // namespace
}  // namespace moextract::cluster::hdbscan
