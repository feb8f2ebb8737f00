// How many neurons experts keep: each rule against sets that can be counted by eye or a slow reference.
#include "moe/size_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "core/random.h"

namespace moextract::moe {
namespace {

using Sizes = std::vector<std::int64_t>;

/// Of one expert whose scores are given in any order.
std::int64_t size_at(std::vector<double> score, double share, std::int64_t minimum) {
  std::sort(score.begin(), score.end());
  const std::vector<Claim> claims{{std::move(score)}};
  return make_size_rule(Budget::score_share, claims, minimum)->sizes(step_of_share(share)).front();
}

TEST(ScoreShare, TakesTheSmallestSetThatHoldsTheShare) {
  const std::vector<double> score{1, 4, 0, 3, 2};  // of 10, from the largest: 4, 7, 9, 10, 10
  EXPECT_EQ(size_at(score, 0.05, 1), 1);
  EXPECT_EQ(size_at(score, 0.4, 1), 1);
  EXPECT_EQ(size_at(score, 0.41, 1), 2);
  EXPECT_EQ(size_at(score, 0.7, 1), 2);
  EXPECT_EQ(size_at(score, 0.9, 1), 3);
  EXPECT_EQ(size_at(score, 1.0, 1), 4) << "every positive score";
}

TEST(ScoreShare, MinimumHoldsAndNeverExceedsWhatThereIs) {
  const std::vector<double> score{1, 4, 0, 3, 2};
  EXPECT_EQ(size_at(score, 0, 3), 3);
  EXPECT_EQ(size_at(score, 0, 0), 1) << "an expert has a neuron";
  EXPECT_EQ(size_at(score, 1, 5), 5);
  EXPECT_EQ(size_at(score, 0.5, 99), 5);
  EXPECT_EQ(size_at(std::vector<double>(6, 0.0), 0.5, 2), 2) << "an expert emptied keeps the minimum";
}

TEST(ScoreShare, ShareOneKeepsPositiveScoresThatTheSumSwallows) {
  const std::vector<double> score{1e-30, 1, 0, 1e-20};
  EXPECT_EQ(size_at(score, 1.0, 1), 3);
  EXPECT_EQ(size_at(score, 0.999, 1), 1);
}

TEST(ScoreShare, EqualsASlowReference) {
  RandomStream random(1, 1);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> score(30);
    for (double& s : score) s = static_cast<double>(random.below(6));
    std::sort(score.begin(), score.end(), std::greater<>());
    const double total = std::accumulate(score.begin(), score.end(), 0.0);
    for (double share = 0.05; share < 1.0; share += 0.1) {
      std::int64_t expected = 0;
      for (double held = 0; held < share * total - 1e-9;) held += score[static_cast<std::size_t>(expected++)];
      EXPECT_EQ(size_at(score, share, 1), expected);
    }
  }
}

TEST(Threshold, SpendsOnWhatIsWorthMost) {
  const std::vector<Claim> claims{{{1, 2, 3, 4}, 1.0}, {{1, 2, 3, 4}, 10.0}};
  const auto rule = make_size_rule(Budget::threshold, claims, 1);
  const auto within = [&](double budget) {
    const std::int64_t step = last_step_that_fits(
        *rule, [&](const Sizes& s) { return static_cast<double>(s[0]) + 2.0 * static_cast<double>(s[1]) <= budget; });
    return step < 0 ? Sizes{} : rule->sizes(step);
  };
  EXPECT_EQ(within(100), (Sizes{4, 4}));
  EXPECT_EQ(within(9), (Sizes{1, 4}));
  EXPECT_EQ(within(11.5), (Sizes{3, 4}));
  EXPECT_EQ(within(3), (Sizes{1, 1}));
  EXPECT_EQ(within(2.9), Sizes{}) << "even the smallest do not fit";
}

TEST(LayerShare, GivesEachLayerTheSameMeanNumberOfActiveNeurons) {
  RandomStream random(2, 2);
  std::vector<Claim> claims;
  for (std::int64_t layer = 0; layer < 3; ++layer) {
    const std::vector<double> shares{0.5, 0.3, 0.2};
    for (std::size_t e = 0; e < 3; ++e) {
      Claim claim;
      claim.layer = layer;
      claim.price = shares[e];
      for (int j = 0; j < 40; ++j) claim.worth.push_back(random.uniform() * (layer == 1 ? 1000 : 1));
      std::sort(claim.worth.begin(), claim.worth.end());
      claims.push_back(std::move(claim));
    }
  }
  const auto rule = make_size_rule(Budget::layer_share, claims, 1);
  for (const std::int64_t mean : {5, 17, 30, 40}) {
    const Sizes sizes = rule->sizes(mean);
    for (std::size_t layer = 0; layer < 3; ++layer) {
      double active = 0;
      for (std::size_t e = 0; e < 3; ++e)
        active += claims[layer * 3 + e].price * static_cast<double>(sizes[layer * 3 + e]);
      EXPECT_LE(active, static_cast<double>(mean) + 1e-9);
      EXPECT_GT(active, static_cast<double>(mean) - 1) << "whatever the scale of its scores";
    }
  }
}

TEST(EveryRule, GrowsFromTheMinimumToAllNeurons) {
  RandomStream random(3, 3);
  std::vector<Claim> claims;
  for (std::int64_t i = 0; i < 6; ++i) {
    Claim claim;
    claim.layer = i / 2;
    claim.factor = 1 + random.uniform();
    claim.price = 0.5;
    for (int j = 0; j < 20; ++j) claim.worth.push_back(static_cast<double>(random.below(8)));
    std::sort(claim.worth.begin(), claim.worth.end());
    claims.push_back(std::move(claim));
  }
  for (const Budget budget : {Budget::score_share, Budget::threshold, Budget::layer_share, Budget::sensitivity}) {
    const auto rule = make_size_rule(budget, claims, 2);
    EXPECT_EQ(rule->sizes(0), Sizes(6, 2));
    EXPECT_EQ(rule->sizes(rule->steps() - 1), Sizes(6, 20));
    Sizes before(6, 0);
    for (int i = 0; i <= 50; ++i) {
      const Sizes now = rule->sizes((rule->steps() - 1) / 50 * i);
      for (std::size_t e = 0; e < 6; ++e) EXPECT_GE(now[e], before[e]);
      before = now;
    }
  }
}

}  // namespace
}  // namespace moextract::moe
