// Conditions on keys.
#include "sweep/constraint.h"

#include <nlohmann/json.hpp>

#include "sample.h"

namespace moextract::sweep {
namespace {

using nlohmann::json;

const json kValues{{"cluster", {{"k", 8}, {"tap", "x"}, {"spherical", true}}},
                   {"tune", {{"rate", 0.25}, {"target", nullptr}}}};

Constraint parsed(const std::string& text) {
  return Constraint(text, "sweep.yaml:3:5: ", [](const std::string& key) {
    for (const char* known : {"cluster.k", "cluster.tap", "cluster.spherical", "tune.rate", "tune.target"}) {
      if (key == known) return;
    }
    fail(ExitCode::config, "{}: no such key", key);
  });
}

bool holds(const std::string& text) {
  return parsed(text).holds(kValues);
}

TEST(Constraint, ComparesNumbersTextsAndSwitches) {
  EXPECT_TRUE(holds("cluster.k == 8"));
  EXPECT_FALSE(holds("cluster.k != 8"));
  EXPECT_TRUE(holds("cluster.k <= 8"));
  EXPECT_FALSE(holds("cluster.k < 8"));
  EXPECT_TRUE(holds("cluster.k >= 8"));
  EXPECT_FALSE(holds("cluster.k > 8"));
  EXPECT_TRUE(holds("tune.rate < 2.6e-1"));
  EXPECT_TRUE(holds("cluster.tap == x"));
  EXPECT_TRUE(holds("cluster.tap != 'h'"));
  EXPECT_TRUE(holds("cluster.spherical == true"));
  EXPECT_TRUE(holds("cluster.spherical"));
}

TEST(Constraint, CalculatesWithTheUsualPrecedence) {
  EXPECT_TRUE(holds("cluster.k + 2 * 3 == 14"));
  EXPECT_TRUE(holds("(cluster.k + 2) * 3 == 30"));
  EXPECT_TRUE(holds("cluster.k - 2 - 1 == 5"));
  EXPECT_TRUE(holds("cluster.k / 2 / 2 == 2"));
  EXPECT_TRUE(holds("-cluster.k < -7"));
  EXPECT_TRUE(holds("cluster.k * tune.rate == 2"));
}

TEST(Constraint, JoinsConditions) {
  EXPECT_TRUE(holds("cluster.k == 1 or cluster.k == 8"));
  EXPECT_FALSE(holds("cluster.k == 8 and cluster.tap == h"));
  EXPECT_TRUE(holds("not cluster.tap == h"));
  EXPECT_TRUE(holds("cluster.k == 8 or cluster.k == 1 and cluster.tap == h")) << "and binds more tightly than or";
  EXPECT_FALSE(holds("(cluster.k == 8 or cluster.k == 1) and cluster.tap == h"));
}

TEST(Constraint, NullIsEqualToNullAlone) {
  EXPECT_TRUE(holds("tune.target == null"));
  EXPECT_FALSE(holds("tune.target != null"));
  EXPECT_TRUE(holds("tune.rate != null"));
  EXPECT_FALSE(holds("tune.target < 1"));
  EXPECT_FALSE(holds("tune.target >= 1"));
}

TEST(Constraint, MistakesAreShownWithTheirPlace) {
  const auto problem = [](const std::string& text) { return message_of([&] { parsed(text); }, ExitCode::config); };
  EXPECT_EQ(problem("cluster.k = 8"), "sweep.yaml:3:5: 'cluster.k = 8', at '= 8': write == for equal");
  EXPECT_TRUE(contains(problem("cluster.kk == 8"), "cluster.kk: no such key"));
  EXPECT_TRUE(contains(problem("cluster.k =="), "expected a key or a value"));
  EXPECT_TRUE(contains(problem("(cluster.k == 8"), "expected ')'"));
  EXPECT_TRUE(contains(problem("cluster.k == 8 8"), "expected 'and', 'or' or the end"));
  EXPECT_TRUE(contains(problem("cluster.tap == 'x"), "a quote is not closed"));
  EXPECT_TRUE(contains(problem("cluster.k & 8"), "unexpected"));
  EXPECT_TRUE(contains(problem("cluster.k < 8x"), "not a number"));
  EXPECT_TRUE(contains(problem("and"), "expected a key or a value"));
  EXPECT_TRUE(contains(problem(""), "expected a key or a value"));
  EXPECT_TRUE(contains(problem(std::string(2000, '(') + "true"), "nested too deeply"));
  EXPECT_TRUE(contains(problem(std::string(2000, '-') + "1 < 2"), "nested too deeply"));
  EXPECT_TRUE(contains(problem(std::string(5000, 'a')), "5000 characters; at most 4096"));
  const auto value = [](const std::string& text) { return message_of([&] { holds(text); }, ExitCode::config); };
  EXPECT_TRUE(contains(value("cluster.tap < x"), "have no order"));
  EXPECT_TRUE(contains(value("cluster.tap == 8"), "of different kinds"));
  EXPECT_TRUE(contains(value("cluster.k + 1"), "neither true nor false"));
  EXPECT_TRUE(contains(value("cluster.tap + 1 == 2"), "is no number"));
}

}  // namespace
}  // namespace moextract::sweep
