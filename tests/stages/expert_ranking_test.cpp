// What decides which neurons go: the metric of the output error, pooled moments, and a static cut before.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"
#include "model/index_tensor.h"
#include "model/vit.h"
#include "moe/elimination.h"
#include "stages/assemble/expert_budget.h"
#include "stages/assemble/expert_ranking.h"

namespace moextract::stages::test {
namespace {

constexpr std::int64_t kHidden = 24, kWidth = 5, kExperts = 3;

/// Rows whose values depend on the seed alone.
at::Tensor rows_of(std::int64_t n, std::int64_t columns, double seed) {
  const at::Tensor i = at::arange(n * columns, at::kDouble) + 1.0;
  return (i * (12.9898 + seed)).sin().mul(43758.5453).frac().reshape({n, columns});
}

LayerMoments example() {
  LayerMoments moments;
  moments.router.keys = at::zeros({kExperts, kWidth});
  moments.prefix_apart = true;
  std::vector<at::Tensor> directions;
  for (std::int64_t e = 0; e <= kExperts; ++e) {
    const at::Tensor rows = at::mm(rows_of(200, kHidden, static_cast<double>(e)), rows_of(kHidden, kHidden, 77.0 + e));
    const at::Tensor centred = rows - rows.mean(0);
    const at::Tensor covariance = at::mm(centred.t(), centred) / 200;
    moments.experts.push_back(
        {100 * (e + 1), 90.0 * (static_cast<double>(e) + 1), rows.mean(0), covariance, covariance.diagonal().clone()});
    moments.token_share.push_back(0.1 * static_cast<double>(e + 1));
    at::Tensor g = rows_of(50, kWidth, 5.0 + static_cast<double>(e));
    g = g / g.square().sum(1, true).sqrt();
    directions.push_back(at::mm(g.t(), g) / 50);
  }
  moments.directions = at::stack(directions);
  moments.mean_gradient = 1;
  return moments;
}

TEST(OutputMetric, IsTheExpectedSquareOfTheErrorSeenByTheGradients) {
  const at::Tensor w = rows_of(kWidth, kHidden, 3), g = example().directions.select(0, 1);
  const double share = 0.7;
  const at::Tensor expected = (w * at::mm((1 - share) * at::eye(kWidth, at::kDouble) + share * kWidth * g, w)).sum(0);
  EXPECT_LT((in_output_metric(w, g, share).square().sum(0) - expected).abs().max().item<double>(), 1e-9);
  EXPECT_TRUE(at::equal(in_output_metric(w, g, 0), w));
  EXPECT_TRUE(at::equal(in_output_metric(w, {}, share), w)) << "without gradients all directions count alike";
}

TEST(OutputMetric, TakesGradientsOfLowRank) {
  const at::Tensor w = rows_of(kWidth, kHidden, 3);
  at::Tensor g = at::zeros({kWidth, kWidth}, at::kDouble);
  g[2][2] = 1.0;  // only one output matters
  const at::Tensor cost = in_output_metric(w, g, 1.0).square().sum(0);
  EXPECT_LT((cost - kWidth * w.select(0, 2).square()).abs().max().item<double>(), 1e-4);
}

TEST(OutputMetric, TakesGradientsWhoseRoundingIsMoreThanTheHair) {
  at::Tensor g = at::outer(at::arange(kWidth, at::kDouble), at::arange(kWidth, at::kDouble));
  g.diagonal().sub_(1e-6);  // as rounding may leave it
  EXPECT_TRUE(at::isfinite(in_output_metric(rows_of(kWidth, kHidden, 3), g, 1.0)).all().item<bool>());
}

TEST(PooledMoments, KeepTheOwnShareByTokens) {
  const LayerMoments before = example();
  LayerMoments after = example();
  pool_covariances(after, 300);
  const at::Tensor pooled = pooled_covariance(before);
  for (std::size_t e = 0; e < before.experts.size(); ++e) {
    const double own =
        static_cast<double>(before.experts[e].count) / (static_cast<double>(before.experts[e].count) + 300);
    const at::Tensor expected = own * before.experts[e].covariance + (1 - own) * pooled;
    EXPECT_LT((after.experts[e].covariance - expected).abs().max().item<double>(), 1e-12);
    EXPECT_TRUE(at::equal(after.experts[e].mean, before.experts[e].mean));
  }
  LayerMoments same = example();
  pool_covariances(same, 0);
  EXPECT_TRUE(at::equal(same.experts[0].covariance, before.experts[0].covariance));
}

TEST(PooledMoments, StandInForExpertsWithTooFewTokens) {
  const LayerMoments before = example();
  LayerMoments after = example();
  EXPECT_EQ(pool_covariances(after, 0, 150), 1) << "the first expert has 100";
  const moe::SecondMoments pooled = pooled_moments(before);
  EXPECT_LT((after.experts[0].covariance - pooled.covariance).abs().max().item<double>(), 1e-12);
  EXPECT_LT((after.experts[0].variance - pooled.variance).abs().max().item<double>(), 1e-12);
  EXPECT_TRUE(at::equal(after.experts[0].mean, before.experts[0].mean)) << "its own tokens still say where it is";
  EXPECT_TRUE(at::equal(after.experts[1].covariance, before.experts[1].covariance));
}

TEST(Budget, IsMetByEveryRuleAndStorageAsTheSlowCountSaysIt) {
  const model::VitParams vit{.image_size = 8,
                             .patch_size = 2,
                             .channels = 1,
                             .width = kWidth,
                             .depth = 3,
                             .heads = 1,
                             .hidden = kHidden,
                             .classes = 4};
  const model::Vit dense(vit, model::initial_vit_tensors(vit, 1));
  const at::Tensor w = rows_of(kWidth, kHidden, 3);
  Workers workers(1, {});
  for (const moe::Storage storage : {moe::Storage::shared, moe::Storage::own_output, moe::Storage::separate}) {
    for (const moe::Budget rule : {moe::Budget::score_share, moe::Budget::threshold, moe::Budget::layer_share}) {
      AssembleParams params;
      params.method = Method::least_squares;
      params.storage = storage;
      params.budget = rule;
      params.target_active = 0.7;
      params.min_neurons = 1;
      const AssemblyChoices choices = settle(params, {}, true);
      const std::vector<std::int64_t> layers{0, 2};
      std::vector<ExpertRanking> rankings;
      for (const std::int64_t layer : layers) {
        LayerMoments moments = example();
        for (moe::SecondMoments& m : moments.experts) m.covariance = m.covariance * static_cast<double>(layer + 1);
        rankings.push_back(rank_experts(choices.params, layer, moments, w, {}, false, workers));
      }
      ExpertBudget budget(choices, vit, dense, model::count_parameters(model::initial_vit_tensors(vit, 1)), layers,
                          rankings, {});
      const std::vector<LayerSizes> sizes = budget.choose();
      double macs = dense.other_macs() + 17 * 2.0 * kWidth * kHidden;  // the layer between stays dense
      for (std::size_t i = 0; i < 2; ++i) {
        std::set<std::int64_t> unite;
        for (const auto& set : budget.neurons(i, sizes[i])) unite.insert(set.begin(), set.end());
        const std::vector<double> share{0.1, 0.2, 0.3, 0.4};
        const double prefix = storage == moe::Storage::shared ? static_cast<double>(unite.size()) : kHidden;
        double active = share[3] * prefix;
        for (std::size_t e = 0; e < 3; ++e) active += share[e] * static_cast<double>(sizes[i][e]);
        macs += 17 * (2.0 * kWidth * active + 0.6 * 3 * kWidth);
      }
      EXPECT_NEAR(budget.macs(sizes), macs, 1e-6);
      EXPECT_LE(budget.active_share(sizes), 0.7 * (1 + 1e-12));
      EXPECT_GT(budget.active_share(sizes), 0.55);
    }
  }
}

TEST(RankExperts, WithoutACutIsTheEliminationOfEachExpert) {
  const LayerMoments moments = example();
  const at::Tensor w = rows_of(kWidth, kHidden, 3);
  Workers workers(2, {});
  AssembleParams params;
  params.score = moe::Score::elimination;
  params.compensation = moe::Compensation::least_squares;
  params.fisher = 0.5;
  const ExpertRanking ranking = rank_experts(params, 0, moments, w, {}, false, workers);
  ASSERT_EQ(ranking.k, kExperts);
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const moe::EliminationOrder order =
        moe::eliminate(in_output_metric(w, moments.directions.select(0, e), 0.5),
                       moments.experts[static_cast<std::size_t>(e)].covariance, {.ridge = params.ridge});
    EXPECT_TRUE(at::equal(ranking.order.select(0, e), model::index_tensor(order.neurons)));
  }
}

TEST(RankExperts, AfterACutRanksWhatIsLeftAndNothingElse) {
  const LayerMoments moments = example();
  const at::Tensor w = rows_of(kWidth, kHidden, 3);
  const std::vector<std::int64_t> unite{1, 2, 5, 8, 9, 13, 20, 23};
  Workers workers(1, {});
  AssembleParams params;
  params.score = moe::Score::elimination;
  params.compensation = moe::Compensation::least_squares;
  const ExpertRanking ranking = rank_experts(params, 0, moments, w, unite, false, workers);
  for (std::int64_t e = 0; e < kExperts; ++e) {
    const at::Tensor row = ranking.order.select(0, e).contiguous();
    std::vector<std::int64_t> left(row.const_data_ptr<std::int64_t>(),
                                   row.const_data_ptr<std::int64_t>() + row.numel());
    std::sort(left.begin(), left.end());
    EXPECT_EQ(left, unite);
    // The neuron that goes first is the one whose loss, all others refitted, costs least (up to the block's size).
    const at::Tensor cost = ranking.cost.select(0, e).contiguous();
    EXPECT_TRUE(std::is_sorted(cost.const_data_ptr<double>(), cost.const_data_ptr<double>() + cost.numel()));
    const at::Tensor& c = moments.experts[static_cast<std::size_t>(e)].covariance;
    double least = std::numeric_limits<double>::infinity();
    std::int64_t choice = -1;
    for (const std::int64_t candidate : unite) {
      std::vector<std::int64_t> rest;
      std::copy_if(unite.begin(), unite.end(), std::back_inserter(rest),
                   [&](std::int64_t j) { return j != candidate; });
      const double error = moe::output_error(w, c, rest, moe::refit(w, c, rest, 1e-3));
      if (error < least) least = error, choice = candidate;
    }
    EXPECT_EQ(ranking.order[e][0].item<std::int64_t>(), choice) << "expert " << e;
  }
}

}  // namespace
}  // namespace moextract::stages::test
