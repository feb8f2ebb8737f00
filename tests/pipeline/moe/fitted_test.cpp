// Second moments, backward elimination, least squares, allocation and importance, against slow references.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "comm/backends.h"
#include "core/workers.h"
#include "model/index_tensor.h"
#include "model/vit.h"
#include "moe/elimination.h"
#include "moe/fitted_layer.h"
#include "moe/importance.h"
#include "moe/neuron_score.h"
#include "moe/second_moments.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

/// Correlated hidden values [n, H], float32.
at::Tensor correlated_rows(const std::string& name, std::int64_t n, std::int64_t hidden) {
  const at::Tensor mix = random_tensor(name + ".mix", {hidden, hidden});
  return at::mm(random_tensor(name, {n, hidden}), mix) + random_tensor(name + ".mean", {hidden});
}

at::Tensor covariance_of(const at::Tensor& rows) {
  const at::Tensor centred = rows.to(at::kDouble) - rows.to(at::kDouble).mean(0);
  return at::mm(centred.t(), centred) / static_cast<double>(rows.size(0));
}

TEST(SecondMoments, AreThoseOfTheWeightedRowsOfEachExpert) {
  const std::int64_t n = 300, hidden = 7, experts = 3;
  const at::Tensor h = correlated_rows("h", n, hidden), weight = random_tensor("w", {n}).abs() + 0.1;
  at::Tensor expert = at::arange(n, at::kLong).remainder(experts + 1) - 1;  // -1: left out
  SecondMomentSums sums(experts, hidden);
  sums.add(h, expert, weight);
  for (std::int64_t e = 0; e < experts; ++e) {
    const at::Tensor index = (expert == e).nonzero().squeeze(1);
    const at::Tensor rows = h.index_select(0, index).to(at::kDouble), w = weight.index_select(0, index).to(at::kDouble);
    const at::Tensor mean = (rows * w.unsqueeze(1)).sum(0) / w.sum();
    const at::Tensor covariance = at::mm(((rows - mean) * w.unsqueeze(1)).t(), rows - mean) / w.sum();
    const SecondMoments m = sums.moments(e);
    EXPECT_EQ(m.count, index.numel());
    EXPECT_NEAR(m.weight, w.sum().item<double>(), 1e-5);
    EXPECT_LT((m.mean - mean).abs().max().item<double>(), 1e-5);
    EXPECT_LT((m.covariance - covariance).abs().max().item<double>(), 1e-4);
  }
}

TEST(SecondMoments, AreTheSameBitsInAnyOrderAndOnAnyRanks) {
  const std::int64_t parts = 12, n = 20, hidden = 6;
  const auto add_part = [&](SecondMomentSums& sums, std::int64_t p) {
    sums.add(correlated_rows("part" + std::to_string(p), n, hidden), at::arange(n, at::kLong).remainder(2),
             at::ones({n}));
  };
  SecondMomentSums forward(2, hidden), backward(2, hidden);
  for (std::int64_t p = 0; p < parts; ++p) add_part(forward, p);
  Workers workers(2, {});
  workers.for_each(parts, [&](std::int64_t p, int) { add_part(backward, parts - 1 - p); });
  const SecondMoments expected = forward.moments(1);
  EXPECT_TRUE(at::equal(backward.moments(1).covariance, expected.covariance));
  for (const int ranks : {2, 3, 4}) {
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      SecondMomentSums sums(2, hidden);
      for (std::int64_t p = comm.rank(); p < parts; p += comm.size()) add_part(sums, p);
      sums.all_reduce(comm);
      EXPECT_TRUE(at::equal(sums.moments(1).covariance, expected.covariance));
      EXPECT_TRUE(at::equal(sums.moments(1).mean, expected.mean));
    });
  }
}

TEST(SecondMoments, OfTheDiagonalAloneAreTheSameMeansAndVariances) {
  const std::int64_t n = 200, hidden = 9;
  const at::Tensor h = correlated_rows("h", n, hidden), weight = random_tensor("w", {n}).abs() + 0.1,
                   expert = at::arange(n, at::kLong).remainder(2);
  SecondMomentSums full(2, hidden), diagonal(2, hidden, Extent::diagonal);
  full.add(h, expert, weight);
  diagonal.add(h, expert, weight);
  for (std::int64_t e = 0; e < 2; ++e) {
    const SecondMoments a = full.moments(e), b = diagonal.moments(e);
    EXPECT_FALSE(b.covariance.defined());
    EXPECT_EQ(a.count, b.count);
    EXPECT_TRUE(at::equal(a.mean, b.mean));
    EXPECT_LT((a.variance - b.variance).abs().max().item<double>(), 1e-4) << "float32 products in another order";
  }
}

TEST(Scores, AreWhatTheirNamesSay) {
  SecondMoments m;
  m.weight = 1;
  m.mean = at::tensor({3.0, -2.0, 0.5}, at::kDouble);
  m.variance = at::tensor({0.5, 1.0, 2.0}, at::kDouble);
  const at::Tensor w = at::tensor({4.0, 1.0, 0.1}, at::kDouble).reshape({1, 3});
  const auto worth = [&](Score score) {
    const EliminationOrder order = score_neurons(score, m, w, 1e-3, 1, 0);
    std::vector<double> of(3);
    for (std::size_t i = 0; i < 3; ++i) of[static_cast<std::size_t>(order.neurons[i])] = order.cost[i];
    EXPECT_TRUE(std::is_sorted(order.cost.begin(), order.cost.end()));
    return of;
  };
  const auto near = [&](Score score, const std::vector<double>& expected) {
    const std::vector<double> got = worth(score);
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(got[i], expected[i], 1e-12);
  };
  near(Score::variance, {0.5, 1.0, 2.0});
  near(Score::second_moment, {9.5, 5.0, 2.25});
  near(Score::mean, {3.0, 2.0, 0.5});
  near(Score::weighted_variance, {8.0, 1.0, 0.02});
  EXPECT_EQ(worth(Score::random), worth(Score::random));
  EXPECT_NE(score_neurons(Score::random, m, w, 1e-3, 1, 0).cost, score_neurons(Score::random, m, w, 1e-3, 1, 1).cost);
}

TEST(SecondMoments, RefuseValuesThatAreNotFinite) {
  SecondMomentSums sums(1, 2);
  at::Tensor h = at::ones({3, 2});
  h[1][1] = std::numeric_limits<float>::infinity();
  expect_error(ExitCode::numerics, {"second moment"}, [&] { sums.add(h, at::zeros({3}, at::kLong), at::ones({3})); });
}

TEST(SecondMoments, RefuseSumsThatDoNotFit) {
  SecondMomentSums sums(1, 2);
  const at::Tensor h = at::full({1, 2}, 2.4e5);  // each square fits by itself
  expect_error(ExitCode::numerics, {"sum of second moments", "fewer calibration images"}, [&] {
    for (int i = 0; i < 10; ++i) sums.add(h, at::zeros({1}, at::kLong), at::ones({1}));
  });
  // On several ranks it is the sum over all that has to fit.
  comm::run_threads(4, [&](comm::Communicator& comm) {
    SecondMomentSums part(1, 2);
    for (int i = 0; i < 3; ++i) part.add(h, at::zeros({1}, at::kLong), at::ones({1}));
    EXPECT_THROW(part.all_reduce(comm), UserError);
  });
}

TEST(Refit, IsTheBestLinearCompensation) {
  const std::int64_t hidden = 9, d = 4;
  const at::Tensor w = random_tensor("w2", {d, hidden}).to(at::kDouble),
                   c = covariance_of(correlated_rows("rows", 500, hidden));
  const std::vector<std::int64_t> kept{0, 2, 3, 7, 8};
  const at::Tensor fitted = refit(w, c, kept, 1e-12);
  const double best = output_error(w, c, kept, fitted);
  EXPECT_LT(best, output_error(w, c, kept, w.index_select(1, model::index_tensor(kept))));
  for (int i = 0; i < 20; ++i) {
    const at::Tensor nearby = fitted + 1e-3 * random_tensor("step" + std::to_string(i), {d, 5}).to(at::kDouble);
    EXPECT_GT(output_error(w, c, kept, nearby), best);
  }
  // Nothing dropped: nothing changes, whatever the ridge.
  std::vector<std::int64_t> all(hidden);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_LT((refit(w, c, all, 0.1) - w).abs().max().item<double>(), 1e-12);
}

TEST(Eliminate, OneByOneIsTheGreedyOrderOfTheRefittedError) {
  const std::int64_t hidden = 8, d = 3;
  const at::Tensor w = random_tensor("w2", {d, hidden}).to(at::kDouble),
                   c = covariance_of(correlated_rows("rows", 400, hidden));
  const double ridge = 1e-9;
  const EliminationOrder order = eliminate(w, c, {.ridge = ridge, .block = 1});
  ASSERT_EQ(order.neurons.size(), 8u);
  std::vector<std::int64_t> kept(hidden);
  std::iota(kept.begin(), kept.end(), 0);
  double error = 0;
  for (std::size_t step = 0; step + 1 < order.neurons.size(); ++step) {
    double best = std::numeric_limits<double>::infinity();
    std::int64_t choice = -1;
    for (const std::int64_t candidate : kept) {
      std::vector<std::int64_t> rest;
      std::copy_if(kept.begin(), kept.end(), std::back_inserter(rest), [&](std::int64_t j) { return j != candidate; });
      const double e = output_error(w, c, rest, refit(w, c, rest, ridge));
      if (e < best) best = e, choice = candidate;
    }
    EXPECT_EQ(order.neurons[step], choice) << "step " << step;
    EXPECT_GE(order.cost[step], best - error - 1e-6);
    kept.erase(std::find(kept.begin(), kept.end(), choice));
    error = best;
  }
}

TEST(Eliminate, ReturnsEveryNeuronOnceWithCostsThatDoNotFall) {
  const std::int64_t hidden = 100;
  const at::Tensor w = random_tensor("w2", {5, hidden}).to(at::kDouble);
  at::Tensor rows = correlated_rows("rows", 300, hidden);
  rows.select(1, 42).fill_(0.5);  // a dead neuron
  const EliminationOrder order = eliminate(w, covariance_of(rows), {});
  EXPECT_EQ(std::set<std::int64_t>(order.neurons.begin(), order.neurons.end()).size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.cost.begin(), order.cost.end()));
  EXPECT_LT(std::find(order.neurons.begin(), order.neurons.end(), 42) - order.neurons.begin(), 16)
      << "the dead go in the first block";
}

TEST(Eliminate, GoesOnByTheSameRuleAfterManyNeurons) {
  // What they take off the inverse is put together once more than 256 are gone.
  const std::int64_t hidden = 300, d = 4;
  const at::Tensor w = random_tensor("w2", {d, hidden}).to(at::kDouble),
                   c = covariance_of(correlated_rows("rows", 900, hidden));
  const double ridge = 1e-2, r = ridge * c.diagonal().mean().item<double>();
  const EliminationOrder order = eliminate(w, c, {.ridge = ridge, .block = 1});
  for (const std::size_t step : {100u, 255u, 256u, 257u, 270u, 290u}) {
    std::vector<std::int64_t> kept(order.neurons.begin() + static_cast<std::ptrdiff_t>(step), order.neurons.end());
    std::sort(kept.begin(), kept.end());
    const at::Tensor index = model::index_tensor(kept), c_ss = c.index_select(0, index).index_select(1, index);
    const at::Tensor p = at::inverse(c_ss + r * at::eye(c_ss.size(0), at::kDouble));
    const at::Tensor cost = refit(w, c, kept, ridge).square().sum(0) / p.diagonal();
    EXPECT_EQ(kept[static_cast<std::size_t>(cost.argmin().item<std::int64_t>())], order.neurons[step]) << step;
  }
}

TEST(Eliminate, TokensThatAreOneOrAlikeAreNoError) {
  // Their covariance is what the sums were rounded by, and that may be negative.
  const std::int64_t hidden = 96;
  const at::Tensor one = correlated_rows("one", 1, hidden), w = random_tensor("w2", {5, hidden}).to(at::kDouble);
  for (const std::int64_t n : {1, 3}) {
    SecondMomentSums sums(1, hidden);
    sums.add(one.expand({n, hidden}).contiguous(), at::zeros({n}, at::kLong), at::full({n}, 0.37));
    const SecondMoments m = sums.moments(0);
    ASSERT_LT(std::get<0>(at::linalg_eigh(m.covariance))[0].item<double>(), 0) << "else this test shows nothing";
    const EliminationOrder order = eliminate(w, m.covariance, {});
    EXPECT_EQ(std::set<std::int64_t>(order.neurons.begin(), order.neurons.end()).size(), 96u);
    const at::Tensor fitted = refit(w, m.covariance, std::vector<std::int64_t>{1, 5, 90}, 1e-3);
    EXPECT_TRUE(at::isfinite(fitted).all().item<bool>());
  }
}

TEST(Eliminate, ValuesThatAreNotFiniteAreRefused) {
  at::Tensor c = at::eye(4, at::kDouble);
  c[1][2] = c[2][1] = std::numeric_limits<double>::quiet_NaN();
  expect_error(ExitCode::numerics, {"second moments of an expert", "not finite"}, [&] {
    eliminate(at::ones({2, 4}, at::kDouble), c, {});
  });
}

TEST(Eliminate, AClusterWithoutVarianceIsNoError) {
  EXPECT_EQ(eliminate(at::ones({2, 5}, at::kDouble), at::zeros({5, 5}, at::kDouble), {}).neurons.size(), 5u);
}

TEST(Importance, GradientsAreThoseOfFiniteDifferences) {
  const model::VitParams vit{
      .image_size = 4, .patch_size = 2, .channels = 1, .width = 8, .depth = 2, .heads = 2, .hidden = 12, .classes = 3};
  const model::TensorMap tensors = model::initial_vit_tensors(vit, 1);
  const model::Vit network(vit, tensors);
  const at::Tensor images = random_tensor("images", {2, 1, 4, 4});
  const std::vector<std::string> ids{"a", "b"};
  const auto traces = trace_network(network, images, ids, true, 7);
  ASSERT_EQ(traces.size(), 2u);
  EXPECT_EQ(traces[0].g().sizes(), at::IntArrayRef({2, 5}));
  // In the last block only the class token reaches the head.
  EXPECT_EQ(traces[1].g().narrow(1, 1, 4).abs().max().item<double>(), 0);
  EXPECT_GT(traces[0].g().narrow(1, 1, 4).min().item<double>(), 0)
      << "patches of the first block do, through attention";
  // The MLP's bias moves the outputs of all tokens alike: the gradient with respect to it is the sum over tokens.
  for (const std::int64_t layer : {0, 1}) {
    constexpr double kStep = 1e-2;
    at::Tensor slope = at::zeros({vit.width, 2, vit.classes});
    for (std::int64_t j = 0; j < vit.width; ++j) {
      const auto log_likelihood = [&](double step) {
        const at::NoGradGuard no_grad;
        model::TensorMap moved = tensors;
        at::Tensor& bias = moved[model::mlp_prefix(layer) + "fc2.bias"];
        bias = bias.clone();
        bias[j] += step;
        return at::log_softmax(model::Vit(vit, moved).logits(images), 1);
      };
      slope[j] = (log_likelihood(kStep) - log_likelihood(-kStep)) / (2 * kStep);
    }
    const at::Tensor gradient = traces[static_cast<std::size_t>(layer)].gradient.sum(1);  // [image, width]
    for (std::int64_t image = 0; image < 2; ++image) {
      double nearest = std::numeric_limits<double>::infinity();  // the class is drawn
      for (std::int64_t y = 0; y < vit.classes; ++y) {
        const at::Tensor expected = slope.select(1, image).select(1, y);
        nearest = std::min(nearest, ((gradient[image] - expected).norm() / expected.norm()).item<double>());
      }
      EXPECT_LT(nearest, 1e-2) << "layer " << layer << ", image " << image;
    }
  }
  const auto again = trace_network(network, images, ids, true, 7);
  EXPECT_TRUE(at::equal(traces[0].gradient, again[0].gradient)) << "drawn from seed and name alone";
  const auto without = trace_network(network, images, ids, false, 7);
  EXPECT_FALSE(without[0].g().defined());
  EXPECT_LT((without[0].h - traces[0].h).abs().max().item<double>(), 1e-5) << "other products, the same values";
}

TEST(Importance, WeightsHaveMeanOneOverPatchesAndAFloor) {
  at::Tensor g = random_tensor("g", {3, 9}).square();
  g.select(0, 2).fill_(0);
  const at::Tensor w = importance_weights(g, 1);
  EXPECT_LT((w.narrow(1, 1, 8).mean(1) - 1).abs().max().item<double>(), 1e-6);
  EXPECT_TRUE(at::equal(w.select(0, 2), at::ones({9}))) << "no gradient: all alike";
  EXPECT_GT(w.min().item<double>(), 0);
}

class FittedLayer : public testing::TestWithParam<Storage> {
 protected:
  std::vector<SecondMoments> moments(const at::Tensor& x, std::int64_t experts) {
    const TensorMap t = dense_tensors();
    const at::Tensor h = at::gelu(at::linear(x, t.at(kPrefix + "fc1.weight"), t.at(kPrefix + "fc1.bias")));
    SecondMomentSums sums(experts, kHidden);
    sums.add(h, at::arange(x.size(0), at::kLong).remainder(experts), at::ones({x.size(0)}));
    std::vector<SecondMoments> list;
    for (std::int64_t e = 0; e < experts; ++e) list.push_back(sums.moments(e));
    return list;
  }
  FittedLayerSpec spec(const Sets& sets) {
    FittedLayerSpec s;
    s.router.keys = random_tensor("keys", {static_cast<std::int64_t>(sets.size()), kWidth});
    s.router.bias = random_tensor("bias", {static_cast<std::int64_t>(sets.size())});
    s.neurons = sets;
    s.prefix_tokens = 1;
    s.prefix = PrefixExpert::dense;
    s.storage = GetParam();
    s.compensation = Compensation::least_squares;
    s.rank = 2;
    return s;
  }
  static bool one_matrix() { return GetParam() == Storage::shared || GetParam() == Storage::low_rank; }
};

TEST_P(FittedLayer, WithAllNeuronsIsTheDenseMlp) {
  TensorMap tensors = dense_tensors();
  const at::Tensor x = random_tensor("x", {4, 5, kWidth});
  fit_layer(spec(all_neurons(3)), moments(x.reshape({-1, kWidth}), 4), tensors);
  const ExpertMlp mlp(0, tensors);
  EXPECT_EQ(mlp.experts(), 4);
  model::MlpTrace trace;
  EXPECT_LT(largest_difference(mlp.forward(x, &trace), dense_answer(x)), 1e-4);
  for (std::int64_t image = 0; image < 4; ++image)
    EXPECT_EQ(trace.expert[image * 5].item<std::int64_t>(), 3) << "class tokens have their own";
}

TEST_P(FittedLayer, RoutesToTheLargestBiasedProductAndCountsItsCost) {
  TensorMap tensors = dense_tensors();
  const at::Tensor x = random_tensor("x", {4, 5, kWidth});
  const FittedLayerSpec s = spec(kSets);
  const std::vector<double> errors = fit_layer(s, moments(x.reshape({-1, kWidth}), 4), tensors);
  EXPECT_EQ(errors.size(), 3u);
  for (const double error : errors) EXPECT_GE(error, 0);
  const ExpertMlp mlp(0, tensors);
  model::MlpTrace trace;
  mlp.forward(x, &trace);
  const at::Tensor scores = at::linear(x.reshape({-1, kWidth}), s.router.keys, s.router.bias);
  for (std::int64_t i = 0; i < 20; ++i) {
    const std::int64_t expected = i % 5 == 0 ? 3 : scores[i].argmax().item<std::int64_t>();
    EXPECT_EQ(trace.expert[i].item<std::int64_t>(), expected);
  }
  const std::vector<double> share{0.3, 0.3, 0.2, 0.2};
  const double prefix_size = one_matrix() ? 8 : kHidden;
  const double active = 0.3 * 4 + 0.3 * 1 + 0.2 * 5 + 0.2 * prefix_size;
  EXPECT_NEAR(mlp.active_neurons(share), active, 1e-9);
  EXPECT_NEAR(mlp.macs_per_token(share), 2 * kWidth * active + 0.8 * 3 * kWidth, 1e-9) << "class tokens are not routed";
}

TEST_P(FittedLayer, MeetsTheMeanOutputOfEachExpertsTokens) {
  TensorMap tensors = dense_tensors();
  const at::Tensor x = random_tensor("x", {60, 1, kWidth});
  FittedLayerSpec s = spec({{0, 3, 4, 9}});
  s.prefix = PrefixExpert::none;
  fit_layer(s, moments(x.reshape({-1, kWidth}), 1), tensors);
  EXPECT_FALSE(tensors.contains(kPrefix + "router.weight")) << "one expert is a pruned MLP";
  EXPECT_LT(largest_difference(make_mlp(0, tensors)->forward(x, nullptr).mean(0), dense_answer(x).mean(0)), 1e-4);
}

TEST_P(FittedLayer, CountsItsParametersBeforeItIsMade) {
  for (const PrefixExpert prefix : {PrefixExpert::none, PrefixExpert::dense, PrefixExpert::cut}) {
    for (const Compensation compensation : {Compensation::mean_shift, Compensation::least_squares}) {
      if (compensation == Compensation::mean_shift && GetParam() == Storage::low_rank) continue;
      TensorMap tensors = dense_tensors();
      FittedLayerSpec s = spec(kSets);
      s.prefix = prefix;
      s.compensation = compensation;
      if (prefix == PrefixExpert::cut) s.neurons.push_back({1, 2});
      const at::Tensor x = random_tensor("x", {40, kWidth});
      fit_layer(s, moments(x, prefix == PrefixExpert::none ? 3 : 4), tensors);
      const LayerSummary made = summarise_layer(0, tensors);
      EXPECT_EQ(layer_parameters(s, made.sizes, made.union_size, kWidth, router_parameters(s.router)),
                model::count_parameters(tensors));
    }
  }
}

TEST_P(FittedLayer, AClassTokenMayHaveAnExpertThatIsCutLikeTheOthers) {
  TensorMap tensors = dense_tensors();
  FittedLayerSpec s = spec(kSets);
  s.prefix = PrefixExpert::cut;
  s.neurons.push_back({1, 8});
  const at::Tensor x = random_tensor("x", {4, 5, kWidth});
  fit_layer(s, moments(x.reshape({-1, kWidth}), 4), tensors);
  const ExpertMlp mlp(0, tensors);
  EXPECT_EQ(mlp.expert_size(3), 2);
  model::MlpTrace trace;
  mlp.forward(x, &trace);
  for (std::int64_t image = 0; image < 4; ++image) EXPECT_EQ(trace.expert[image * 5].item<std::int64_t>(), 3);
}

TEST(LowRank, CorrectionsGoFromTheJointFitToEachExpertsOwn) {
  const at::Tensor x = random_tensor("x", {240, kWidth});
  const TensorMap dense = dense_tensors();
  const at::Tensor h = at::gelu(at::linear(x, dense.at(kPrefix + "fc1.weight"), dense.at(kPrefix + "fc1.bias")));
  SecondMomentSums sums(3, kHidden);
  sums.add(h, at::arange(240, at::kLong).remainder(3), at::ones({240}));
  const std::vector<SecondMoments> moments{sums.moments(0), sums.moments(1), sums.moments(2)};
  FittedLayerSpec s;
  s.router.keys = random_tensor("keys", {3, kWidth});
  s.neurons = kSets;
  s.compensation = Compensation::least_squares;
  const auto errors = [&](Storage storage, std::int64_t rank) {
    s.storage = storage;
    s.rank = rank;
    TensorMap tensors = dense;
    double sum = 0;
    for (const double error : fit_layer(s, moments, tensors)) sum += error;
    return sum;
  };
  const double joint = errors(Storage::shared, 0), own = errors(Storage::own_output, 0);
  double before = joint;
  for (std::int64_t rank = 1; rank <= 5; ++rank) {
    const double now = errors(Storage::low_rank, rank);
    EXPECT_LE(now, before * (1 + 1e-9)) << rank;
    EXPECT_GE(now, own * (1 - 1e-9)) << rank;
    before = now;
  }
  EXPECT_GT(joint, own * 1.01);
  EXPECT_NEAR(before, own, 1e-6 * own) << "full rank is the own fit";
}

INSTANTIATE_TEST_SUITE_P(Storages, FittedLayer,
                         testing::Values(Storage::own_output, Storage::shared, Storage::low_rank, Storage::separate));

}  // namespace
}  // namespace moextract::moe::test
