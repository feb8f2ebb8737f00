// Routers: what they choose, how they are fitted, and mixtures of several experts, against plain loops.
#include <algorithm>
#include <cmath>
#include <set>

#include "moe/control_routing.h"
#include "moe/mixture_mlp.h"
#include "moe/model_file.h"
#include "moe/modularity.h"
#include "moe/router_fit.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

RouterWeights example(std::int64_t k) {
  RouterWeights router;
  router.keys = random_tensor("keys", {k, kWidth});
  router.bias = random_tensor("bias", {k});
  return router;
}

TEST(ExpertRouter, TakesTheBestAndSharesByTheirProbabilities) {
  RouterWeights router = example(5);
  router.top_k = 3;
  router.temperature = 0.7;
  const at::Tensor x = random_tensor("x", {50, kWidth});
  const at::Tensor p = router_probabilities(router, x);
  for (const double tau : {1.0, 0.6, 0.0}) {
    router.tau = tau;
    const Choice choice = choose_experts(router, x);
    int more_than_one = 0;
    for (std::int64_t i = 0; i < 50; ++i) {
      std::vector<std::pair<double, std::int64_t>> order;
      for (std::int64_t e = 0; e < 5; ++e) order.emplace_back(-p[i][e].item<double>(), e);
      std::sort(order.begin(), order.end());
      double sum = 0;
      std::size_t used = 0;
      while (used < 3 && (used == 0 || -order[used].first >= (1 - tau) * -order[0].first * (1 + 1e-9)))
        sum -= order[used++].first;
      more_than_one += used > 1 ? 1 : 0;
      for (std::size_t j = 0; j < 3; ++j) {
        const std::int64_t slot = static_cast<std::int64_t>(j);
        EXPECT_EQ(choice.expert[i][slot].item<std::int64_t>(), j < used ? order[j].second : -1);
        EXPECT_NEAR(choice.gate[i][slot].item<double>(), j < used ? -order[j].first / sum : 0.0, 1e-5);
      }
    }
    EXPECT_EQ(more_than_one, tau == 1.0 ? 50 : (tau == 0.0 ? 0 : more_than_one));
  }
}

TEST(ExpertRouter, AtRandomDependsOnTheTokenAndTheSeedAlone) {
  RouterWeights router = example(4);
  router.random_seed = 0x1234567890abcdefull;
  const at::Tensor x = random_tensor("x", {400, kWidth});
  const at::Tensor all = choose_experts(router, x).expert, part = choose_experts(router, x.narrow(0, 100, 50)).expert;
  EXPECT_TRUE(at::equal(all.narrow(0, 100, 50), part));
  for (std::int64_t e = 0; e < 4; ++e) EXPECT_NEAR((all == e).sum().item<double>(), 100, 40);
  router.random_seed = 2;
  EXPECT_FALSE(at::equal(choose_experts(router, x).expert, all));
  EXPECT_EQ(router_macs(router), 0);
}

TEST(ExpertRouter, ComesBackFromTensorsAndIsCounted) {
  RouterWeights router = example(3);
  router.keys = random_tensor("keys", {3, 7});
  router.hidden_weight = random_tensor("hidden", {7, kWidth});
  router.hidden_bias = random_tensor("hidden bias", {7});
  router.top_k = 2;
  router.tau = 0.25;
  router.temperature = 1.5;
  TensorMap tensors;
  put_router(kPrefix, router, tensors);
  const RouterWeights back = get_router(kPrefix, tensors);
  const at::Tensor x = random_tensor("x", {20, kWidth});
  EXPECT_TRUE(at::equal(choose_experts(back, x).gate, choose_experts(router, x).gate));
  EXPECT_EQ(router_parameters(router), model::count_parameters(tensors));
  EXPECT_EQ(router_macs(router), 7 * kWidth + 3 * 7);
  router.random_seed = 0xfedcba9876543210ull;
  put_router(kPrefix, router, tensors);
  EXPECT_EQ(get_router(kPrefix, tensors).random_seed, router.random_seed);
}

TEST(MixtureMlp, EqualsALoopOverTokensAndExperts) {
  TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  RouterWeights router = example(3);
  router.top_k = 2;
  router.tau = 0.9;
  put_router(kPrefix, router, tensors);
  const auto mlp = make_mlp(0, tensors);
  ASSERT_NE(dynamic_cast<const MixtureMlp*>(mlp.get()), nullptr);
  const at::Tensor x = random_tensor("x", {3, 7, kWidth}), flat = x.reshape({21, kWidth});
  model::MlpTrace trace;
  const at::Tensor y = mlp->forward(x, &trace).reshape({21, kWidth});
  ASSERT_EQ(trace.expert.sizes().vec(), (std::vector<std::int64_t>{21, 2}));
  const Choice choice = choose_experts(router, flat);
  EXPECT_TRUE(at::equal(choice.expert, trace.expert));
  const std::vector<ExpertWeights> experts = load_expert_weights(0, tensors);
  std::vector<double> share(3, 0);
  for (std::int64_t i = 0; i < 21; ++i) {
    at::Tensor expected = at::zeros({kWidth});
    for (std::int64_t j = 0; j < 2; ++j) {
      const std::int64_t e = choice.expert[i][j].item<std::int64_t>();
      if (e < 0) continue;
      share[static_cast<std::size_t>(e)] += 1.0 / 21;
      const ExpertWeights& own = experts[static_cast<std::size_t>(e)];
      expected += choice.gate[i][j] *
                  at::linear(at::gelu(at::linear(flat[i], own.fc1_weight, own.fc1_bias)), own.fc2_weight, own.fc2_bias);
    }
    EXPECT_LT(largest_difference(y[i], expected), 1e-5);
  }
  const double active = share[0] * 4 + share[1] * 1 + share[2] * 5;
  EXPECT_NEAR(mlp->active_neurons(share), active, 1e-9);
  EXPECT_NEAR(mlp->macs_per_token(share), 2 * kWidth * active + 3 * kWidth, 1e-9);
}

TEST(MixtureMlp, WithOneExpertATokenIsExpertMlp) {
  const TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  const at::Tensor x = random_tensor("x", {2, 9, kWidth});
  EXPECT_LT(largest_difference(MixtureMlp(0, tensors).forward(x, nullptr), ExpertMlp(0, tensors).forward(x, nullptr)),
            1e-5);
  TensorMap prefixed = tensors;
  prefixed[kPrefix + "router.weight"] = tensors.at(kPrefix + "router.weight").narrow(0, 0, 2).clone();
  prefixed[kPrefix + "experts.prefix"] = at::tensor({2, 1}, at::kInt);
  model::MlpTrace a, b;
  EXPECT_LT(largest_difference(MixtureMlp(0, prefixed).forward(x, &a), ExpertMlp(0, prefixed).forward(x, &b)), 1e-5);
  EXPECT_TRUE(at::equal(a.expert, b.expert));
}

TEST(MixtureMlp, AChooserTakesTheRoutersPlace) {
  const TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  const MixtureMlp mlp(0, tensors, [](const at::Tensor& x) {
    return Choice{at::full({x.size(0), 1}, 2, at::kLong), at::ones({x.size(0), 1})};
  });
  model::MlpTrace trace;
  mlp.forward(random_tensor("x", {1, 4, kWidth}), &trace);
  EXPECT_TRUE((trace.expert == 2).all().item<bool>());
  EXPECT_NEAR(mlp.macs_per_token(std::vector<double>{0, 0, 1}), 2.0 * kWidth * 5, 1e-9) << "a control is not charged";
}

TEST(ControlRouting, OracleAndBestAskTheDenseMlp) {
  const TensorMap dense = dense_tensors(), tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  const at::Tensor x = random_tensor("x", {40, kWidth});
  const at::Tensor h = at::gelu(at::linear(x, dense.at(kPrefix + "fc1.weight"), dense.at(kPrefix + "fc1.bias")));
  const at::Tensor centroids = random_tensor("centroids", {3, kHidden}), inputs = random_tensor("inputs", {3, kWidth});
  const Choice of_hidden = oracle_routing(0, dense, {.rows = centroids}, "h")(x),
               of_inputs = oracle_routing(0, dense, {.rows = inputs}, "x")(x),
               best = best_routing(0, dense, tensors, 3)(x);
  const at::Tensor sides = random_tensor("sides", {3, kWidth + kHidden});
  const Choice of_outputs = oracle_routing(0, dense, {.rows = inputs}, "y")(x),
               of_both = oracle_routing(0, dense, {.rows = sides}, "both")(x);
  const std::vector<ExpertWeights> experts = load_expert_weights(0, tensors);
  for (std::int64_t i = 0; i < 40; ++i) {
    EXPECT_EQ(of_outputs.expert[i][0].item<std::int64_t>(),
              (inputs - dense_answer(x[i])).square().sum(1).argmin().item<std::int64_t>());
    EXPECT_EQ(of_both.expert[i][0].item<std::int64_t>(),
              (sides - at::cat({x[i], h[i]})).square().sum(1).argmin().item<std::int64_t>());
    EXPECT_EQ(of_hidden.expert[i][0].item<std::int64_t>(),
              (centroids - h[i]).square().sum(1).argmin().item<std::int64_t>());
    EXPECT_EQ(of_inputs.expert[i][0].item<std::int64_t>(),
              (inputs - x[i]).square().sum(1).argmin().item<std::int64_t>());
    double least = 1e30;
    std::int64_t choice = -1;
    for (std::int64_t e = 0; e < 3; ++e) {
      const ExpertWeights& own = experts[static_cast<std::size_t>(e)];
      const at::Tensor y =
          at::linear(at::gelu(at::linear(x[i], own.fc1_weight, own.fc1_bias)), own.fc2_weight, own.fc2_bias);
      const double error = (y - dense_answer(x[i])).square().sum().item<double>();
      if (error < least) least = error, choice = e;
    }
    EXPECT_EQ(best.expert[i][0].item<std::int64_t>(), choice);
  }
  EXPECT_FALSE(at::equal(random_routing(1, 0, 3)(x).expert, random_routing(1, 1, 3)(x).expert)) << "layers differ";
}

TEST(Modularity, IsThatOfTheTextbook) {
  // Two triangles joined by one edge: 7 edges, 3 inside each; degrees sum to 7 on each side. Q = 2 (3/7 - 1/4).
  at::Tensor w = at::zeros({6, 6}, at::kDouble);
  const auto edge = [&](std::int64_t a, std::int64_t b) { w[a][b] = 1.0, w[b][a] = 1.0; };
  edge(0, 1), edge(1, 2), edge(0, 2), edge(3, 4), edge(4, 5), edge(3, 5), edge(2, 3);
  w.diagonal().fill_(5);  // of no account
  EXPECT_NEAR(modularity(w, std::vector<std::int64_t>{0, 0, 0, 1, 1, 1}), 2 * (3.0 / 7 - 0.25), 1e-12);
  EXPECT_NEAR(modularity(w, std::vector<std::int64_t>(6, 0)), 0, 1e-12);
  EXPECT_LT(modularity(w, std::vector<std::int64_t>{0, 1, 0, 1, 0, 1}), 0);
  EXPECT_EQ(modularity(at::zeros({2, 2}, at::kDouble), std::vector<std::int64_t>{0, 1}), 0);
}

/// Three clusters on a line that pass into each other, of different spread in the other directions.
struct Blobs {
  at::Tensor x, label;
  explicit Blobs(std::int64_t n) {
    label = at::arange(n, at::kLong).remainder(3);
    x = random_tensor("blobs", {n, kWidth});
    x.select(1, 1).mul_(3);
    // What blurs the clusters is told by another input: distance does not see it, the covariance does.
    x.select(1, 0).mul_(0.4).add_(label.to(at::kFloat) * 2).add_(x.select(1, 1));
  }
  LabelledRows rows() const {
    return [this](const std::function<void(const at::Tensor&, const at::Tensor&)>& visit) {
      for (std::int64_t first = 0; first < x.size(0); first += 100) {
        const std::int64_t count = std::min<std::int64_t>(100, x.size(0) - first);
        visit(x.narrow(0, first, count), label.narrow(0, first, count));
      }
    };
  }
};

TEST(RouterFit, NearestAndCosineAreTheMeansOfTheClusters) {
  const Blobs blobs(600);
  RouterParams params;
  params.kind = RouterKind::nearest;
  const FittedRouter nearest = fit_router(params, 3, kWidth, {}, blobs.rows());
  params.kind = RouterKind::cosine;
  const FittedRouter cosine = fit_router(params, 3, kWidth, {}, blobs.rows());
  EXPECT_FALSE(cosine.weights.bias.defined());
  for (std::int64_t c = 0; c < 3; ++c) {
    const at::Tensor mean = blobs.x.index_select(0, (blobs.label == c).nonzero().squeeze(1)).mean(0);
    EXPECT_LT(largest_difference(nearest.weights.keys[c], mean), 1e-5);
    EXPECT_LT(largest_difference(cosine.weights.keys[c], mean / mean.norm()), 1e-5);
  }
  const Choice choice = choose_experts(nearest.weights, blobs.x);
  for (std::int64_t i = 0; i < 600; ++i) {
    const at::Tensor distance = (nearest.weights.keys - blobs.x[i]).square().sum(1);
    EXPECT_EQ(choice.expert[i][0].item<std::int64_t>(), distance.argmin().item<std::int64_t>());
  }
  EXPECT_NEAR(nearest.agreement, (choice.expert.squeeze(1) == blobs.label).to(at::kDouble).mean().item<double>(),
              1e-12);
}

TEST(RouterFit, AMapOfTheInputsIsFoldedIntoTheKeys) {
  const Blobs blobs(60);
  RouterParams params;
  params.kind = RouterKind::nearest;
  const Centroids centroids{.rows = random_tensor("centroids", {3, 5}),
                            .prices = at::tensor({0.0, 3.0, 1.0}, at::kDouble),
                            .map_weight = random_tensor("map", {5, kWidth}),
                            .map_bias = random_tensor("map bias", {5})};
  const RouterWeights router = fit_router(params, 3, kWidth, centroids, blobs.rows()).weights;
  ASSERT_EQ(router.keys.sizes(), (std::vector<std::int64_t>{3, kWidth})) << "one product an input, whatever the map";
  const at::Tensor mapped = at::linear(blobs.x, centroids.map_weight, centroids.map_bias),
                   expert = choose_experts(router, blobs.x).expert,
                   of_oracle = oracle_routing(0, dense_tensors(), centroids, "z")(blobs.x).expert;
  std::set<std::int64_t> chosen;
  for (std::int64_t i = 0; i < 60; ++i) {
    const at::Tensor distance = (centroids.rows - mapped[i]).square().sum(1).to(at::kDouble);
    EXPECT_EQ(expert[i][0].item<std::int64_t>(), (distance + centroids.prices).argmin().item<std::int64_t>());
    EXPECT_EQ(of_oracle[i][0].item<std::int64_t>(), distance.argmin().item<std::int64_t>());
    chosen.insert(expert[i][0].item<std::int64_t>());
  }
  EXPECT_GT(chosen.size(), 1u) << "or the test shows nothing";
}

TEST(RouterFit, CentroidsOfTheInputsAreTakenAsTheyAre) {
  const Blobs blobs(60);
  RouterParams params;
  params.kind = RouterKind::nearest;
  const at::Tensor centroids = random_tensor("centroids", {3, kWidth});
  EXPECT_TRUE(same_bits(fit_router(params, 3, kWidth, {.rows = centroids}, blobs.rows()).weights.keys, centroids));
  const at::Tensor prices = at::tensor({0.0, 3.0, 1.0}, at::kDouble);
  const RouterWeights priced =
      fit_router(params, 3, kWidth, {.rows = centroids, .prices = prices}, blobs.rows()).weights;
  const at::Tensor expert = choose_experts(priced, blobs.x).expert;
  for (std::int64_t i = 0; i < 60; ++i) {
    const at::Tensor cost = (centroids - blobs.x[i]).square().sum(1).to(at::kDouble) + prices;
    EXPECT_EQ(expert[i][0].item<std::int64_t>(), cost.argmin().item<std::int64_t>()) << "balanced clusters have prices";
  }
}

TEST(RouterFit, LinearAndMlpLearnWhatDistanceCannot) {
  const Blobs blobs(3000);
  RouterParams params;
  params.kind = RouterKind::nearest;
  const double nearest = fit_router(params, 3, kWidth, {}, blobs.rows()).agreement;
  params.kind = RouterKind::linear;
  const double linear = fit_router(params, 3, kWidth, {}, blobs.rows()).agreement;
  params.kind = RouterKind::mlp;
  params.hidden = 8;
  params.batch = 128;
  params.steps = 300;
  const FittedRouter mlp = fit_router(params, 3, kWidth, {}, blobs.rows());
  EXPECT_EQ(mlp.weights.hidden_weight.sizes().vec(), (std::vector<std::int64_t>{8, kWidth}));
  EXPECT_GT(linear, 0.95);
  EXPECT_GT(mlp.agreement, 0.95);
  EXPECT_LT(nearest, linear - 0.02);
  EXPECT_TRUE(same_bits(fit_router(params, 3, kWidth, {}, blobs.rows()).weights.keys, mlp.weights.keys));
}

TEST(RouterFit, RowsOfNoClusterAndClustersWithoutRowsAreNoError) {
  Blobs blobs(90);
  blobs.label = at::where(blobs.label == 1, at::full_like(blobs.label, -1), blobs.label);
  for (const RouterKind kind :
       {RouterKind::nearest, RouterKind::cosine, RouterKind::linear, RouterKind::mlp, RouterKind::random}) {
    RouterParams params;
    params.kind = kind;
    params.batch = 32;
    params.steps = 5;
    const FittedRouter fitted = fit_router(params, 3, kWidth, {}, blobs.rows());
    EXPECT_TRUE(at::isfinite(router_scores(fitted.weights, blobs.x)).all().item<bool>());
    EXPECT_GT(fitted.weights.temperature, 0);
  }
}

}  // namespace
}  // namespace moextract::moe::test
