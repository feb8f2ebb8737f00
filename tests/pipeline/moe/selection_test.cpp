// Which neurons are kept: cuts of a ranking, the largest share within a budget.
#include "moe/selection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"

namespace moextract::moe {
namespace {

using Neurons = std::vector<std::int64_t>;

TEST(NeuronRanking, TakesTheSmallestSetThatHoldsTheShare) {
  const std::vector<double> score{1, 4, 0, 3, 2};  // of 10, in order 1 3 4 0 2: 4, 7, 9, 10, 10
  const NeuronRanking ranking(score);
  EXPECT_EQ(ranking.take(0.05, 1), (Neurons{1}));
  EXPECT_EQ(ranking.take(0.4, 1), (Neurons{1}));
  EXPECT_EQ(ranking.take(0.41, 1), (Neurons{1, 3}));
  EXPECT_EQ(ranking.take(0.7, 1), (Neurons{1, 3}));
  EXPECT_EQ(ranking.take(0.9, 1), (Neurons{1, 3, 4}));
  EXPECT_EQ(ranking.take(1.0, 1), (Neurons{0, 1, 3, 4}));
}

TEST(NeuronRanking, TiesFallToTheLowerIndex) {
  const NeuronRanking ranking(std::vector<double>{2, 1, 2, 2, 1});
  EXPECT_EQ(ranking.take(0.25, 1), (Neurons{0}));
  EXPECT_EQ(ranking.take(0.5, 1), (Neurons{0, 2}));
  EXPECT_EQ(ranking.take(0.75, 1), (Neurons{0, 2, 3}));
  EXPECT_EQ(ranking.take(0.8, 1), (Neurons{0, 1, 2, 3}));
  EXPECT_EQ(ranking.take(1.0, 1), (Neurons{0, 1, 2, 3, 4}));
}

TEST(NeuronRanking, MinimumHoldsAndNeverExceedsWhatThereIs) {
  const NeuronRanking ranking(std::vector<double>{1, 4, 0, 3, 2});
  EXPECT_EQ(ranking.size_at(0, 3), 3);
  EXPECT_EQ(ranking.take(0, 3), (Neurons{1, 3, 4}));
  EXPECT_EQ(ranking.size_at(0, 0), 1);  // an expert has a neuron
  EXPECT_EQ(ranking.size_at(0, -5), 1);
  EXPECT_EQ(ranking.size_at(1, 5), 5);
  EXPECT_EQ(ranking.size_at(0.5, 99), 5);
}

TEST(NeuronRanking, ZeroScoresKeepTheMinimum) {
  const NeuronRanking ranking(std::vector<double>(6, 0.0));
  EXPECT_EQ(ranking.size_at(0.5, 2), 2);
  EXPECT_EQ(ranking.take(1.0, 2), (Neurons{0, 1}));
}

TEST(NeuronRanking, ShareOneKeepsPositiveScoresThatTheSumSwallows) {
  const NeuronRanking ranking(std::vector<double>{1e-30, 1, 0, 1e-20});
  EXPECT_EQ(ranking.take(1.0, 1), (Neurons{0, 1, 3}));
  EXPECT_EQ(ranking.take(0.999, 1), (Neurons{1}));
}

TEST(NeuronRanking, EqualsASlowReference) {
  RandomStream random(1, 1);
  for (int round = 0; round < 50; ++round) {
    std::vector<double> score(30);
    for (double& s : score) s = static_cast<double>(random.below(6));
    const NeuronRanking ranking(score);
    std::int64_t before = 0;
    for (double share = 0.05; share < 1.0; share += 0.1) {
      const Neurons set = ranking.take(share, 1);
      EXPECT_TRUE(std::is_sorted(set.begin(), set.end()));
      double held = 0, total = 0, smallest = 1e9;
      for (const double s : score) total += s;
      for (const std::int64_t j : set) {
        held += score[static_cast<std::size_t>(j)];
        smallest = std::min(smallest, score[static_cast<std::size_t>(j)]);
      }
      EXPECT_GE(held, share * total - 1e-9);
      EXPECT_LT(held - smallest, share * total + 1e-9) << "one neuron less would do";
      for (std::int64_t j = 0; j < 30; ++j) {
        const bool left_out = std::find(set.begin(), set.end(), j) == set.end();
        EXPECT_TRUE(!left_out || score[static_cast<std::size_t>(j)] <= smallest) << j;
      }
      EXPECT_GE(static_cast<std::int64_t>(set.size()), before);
      before = static_cast<std::int64_t>(set.size());
    }
  }
}

TEST(LargestShare, FindsTheStepOfAMonotoneCost) {
  const auto steps = [](double share) { return std::floor(share * 10) * 100; };
  const double share = largest_share_within(500, steps, "assemble.budget");
  EXPECT_LE(steps(share), 500);
  EXPECT_NEAR(share, 0.6, 1e-12);
  EXPECT_GT(steps(share + 1e-12), 500);
  EXPECT_EQ(largest_share_within(499.9, steps, "k"), largest_share_within(400, steps, "k"));
  EXPECT_EQ(largest_share_within(1000, steps, "k"), 1.0);
  EXPECT_EQ(largest_share_within(1e9, steps, "k"), 1.0);
  EXPECT_NEAR(largest_share_within(0, steps, "k"), 0.1, 1e-12);
}

TEST(LargestShare, FindsStepsCloseToTheEnds) {
  EXPECT_NEAR(largest_share_within(
                  0, [](double p) { return p > 1e-9 ? 1.0 : 0.0; }, "k"),
              1e-9, 1e-15);
  EXPECT_NEAR(largest_share_within(
                  0, [](double p) { return p > 1 - 1e-9 ? 1.0 : 0.0; }, "k"),
              1 - 1e-9, 1e-15);
  EXPECT_EQ(largest_share_within(
                0, [](double p) { return p > 0 ? 1.0 : 0.0; }, "k"),
            0.0);
}

TEST(LargestShare, SaysWhatCanBeHad) {
  try {
    largest_share_within(
        0.25, [](double p) { return 0.375 + p; }, "assemble.budget");
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::config);
    const std::string message = error.what();
    for (const char* part : {"assemble.budget", "0.25", "0.375"})
      EXPECT_NE(message.find(part), message.npos) << message;
  }
}

}  // namespace
}  // namespace moextract::moe
