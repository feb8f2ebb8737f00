// HDBSCAN against the Python package hdbscan: see tests/golden/make_hdbscan_golden.py for what is compared.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>

#include "hdbscan_cases.h"

namespace moextract::cluster::hdbscan {
namespace {

struct GoldenCase {
  std::string name, set;
  Params params;
  std::map<std::string, std::vector<double>> values;
};
struct Golden {
  std::map<std::string, HalfRows> rows, queries;
  std::vector<GoldenCase> cases;
};

void set_option(Params& params, const std::string& key, const std::string& value) {
  if (key == "min_cluster_size")
    params.min_cluster_size = std::stol(value);
  else if (key == "min_samples")
    params.min_samples = std::stol(value);
  else if (key == "alpha")
    params.alpha = std::stod(value);
  else if (key == "cluster_selection_epsilon")
    params.cluster_selection_epsilon = std::stod(value);
  else if (key == "max_cluster_size")
    params.max_cluster_size = std::stol(value);
  else if (key == "allow_single_cluster")
    params.allow_single_cluster = value == "True";
  else if (key == "cluster_selection_method")
    params.selection = value == "leaf" ? Selection::leaf : Selection::eom;
  else
    ADD_FAILURE() << "unknown option " << key;
}

const Golden& golden() {
  static const Golden read = [] {
    Golden all;
    std::ifstream file(MOEXTRACT_GOLDEN_FOLDER "/hdbscan_golden.txt");
    EXPECT_TRUE(file);
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string kind, name;
      words >> kind;
      if (kind == "rows" || kind == "queries") {
        std::int64_t n = 0, d = 0;
        std::string hex;
        words >> name >> n >> d >> hex;
        HalfRows rows{d, {}};
        for (std::int64_t at = 0; at < n * d; ++at) {
          rows.bits.push_back(
              static_cast<std::uint16_t>(std::stoul(hex.substr(static_cast<std::size_t>(4 * at), 4), nullptr, 16)));
        }
        (kind == "rows" ? all.rows : all.queries)[name] = rows;
      } else if (kind == "case") {
        GoldenCase one;
        one.name = line;
        words >> one.set;
        for (std::string option; words >> option;) {
          const auto equals = option.find('=');
          set_option(one.params, option.substr(0, equals), option.substr(equals + 1));
        }
        all.cases.push_back(one);
      } else {
        std::vector<double>& values = all.cases.back().values[kind];
        for (std::string value; words >> value;) values.push_back(std::stod(value));
      }
    }
    return all;
  }();
  return read;
}

std::vector<std::int32_t> labels_of(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

void expect_near(const std::vector<double>& ours, const std::vector<double>& golden, const char* what) {
  ASSERT_EQ(ours.size(), golden.size()) << what;
  for (std::size_t i = 0; i < ours.size(); ++i) EXPECT_NEAR(ours[i], golden[i], 1e-6) << what << " of row " << i;
}

TEST(HdbscanGolden, HasAllCases) {
  EXPECT_GE(golden().cases.size(), 13u);
}

TEST(HdbscanGolden, FitsAsThePackageDoes) {
  for (const GoldenCase& one : golden().cases) {
    SCOPED_TRACE(one.name);
    const Fit fit = fit_over(golden().rows.at(one.set), one.params);
    EXPECT_EQ(fit.rows.labels, labels_of(one.values.at("labels")));
    // Ties that the package breaks otherwise move rows at borders of the leaf and alpha cases.
    EXPECT_GE(adjusted_rand_index(fit.rows.labels, labels_of(one.values.at("native"))), 0.97);
    expect_near(fit.rows.probabilities, one.values.at("probabilities"), "probability");
    expect_near(fit.model.outlier_scores, one.values.at("outlier_scores"), "outlier score");
    expect_near(fit.model.clusters.persistences, one.values.at("persistences"), "persistence");
  }
}

TEST(HdbscanGolden, PredictsAsThePackageDoes) {
  std::int64_t compared = 0;
  for (const GoldenCase& one : golden().cases) {
    if (!one.values.contains("predicted")) continue;
    SCOPED_TRACE(one.name);
    const Fit fit = fit_over(golden().rows.at(one.set), one.params);
    const HalfRows& queries = golden().queries.at(one.set);
    Workers workers(2);
    const Assignment found = predict(fit.model, MemoryRows(queries.bits, queries.dimension, 0, 7), workers);
    EXPECT_EQ(found.labels, labels_of(one.values.at("predicted")));
    expect_near(found.probabilities, one.values.at("strengths"), "strength");
    compared += queries.count();
  }
  EXPECT_GT(compared, 100);
}

}  // namespace
}  // namespace moextract::cluster::hdbscan
