// Fits that repair the residual stream, against ordinary least squares over the rows themselves.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>

#include "core/workers.h"
#include "model/index_tensor.h"
#include "moe/second_moments.h"
#include "moe/stream_repair.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

constexpr std::int64_t kRows = 400;

/// Hidden values, deviations that hang on them and on nothing in equal parts, and where tokens go.
struct Tokens {
  at::Tensor h, e, expert;
};

Tokens some_tokens(std::int64_t experts) {
  Tokens t;
  t.h = at::mm(random_tensor("repair.h", {kRows, kHidden}), random_tensor("repair.mix", {kHidden, kHidden})) + 0.3;
  t.e = at::mm(t.h, random_tensor("repair.map", {kHidden, kWidth})) * 0.3 +
        random_tensor("repair.noise", {kRows, kWidth}) + random_tensor("repair.shift", {kWidth});
  t.expert = at::arange(kRows, at::kLong).remainder(experts);
  return t;
}

DeviationMoments moments_of(const Tokens& t, std::int64_t experts, std::optional<double> ridge) {
  SecondMomentSums sums(2 * experts, kHidden + kWidth);
  const at::Tensor half = at::arange(kRows, at::kLong).div(experts, "floor").remainder(2);
  sums.add(at::cat({t.h, t.e}, 1), t.expert + half * experts, at::ones({kRows}));
  DeviationMoments all;
  all.ridge = ridge;
  for (std::int64_t h = 0; h < 2 && !ridge; ++h) {
    DeviationMoments::Part part;
    for (std::int64_t e = 0; e < experts; ++e) {
      auto [m, d] = split_moments(sums.moments(h * experts + e), kHidden);
      part.moments.push_back(m), part.deviations.push_back(d);
    }
    all.halves.push_back(part);
  }
  for (std::int64_t e = 0; e < experts; ++e) {
    auto [m, d] = split_moments(unite_moments(sums.moments(e), sums.moments(experts + e)), kHidden);
    all.all.moments.push_back(m), all.all.deviations.push_back(d);
  }
  return all;
}

FittedLayerSpec repair_spec(Storage storage, const Sets& sets) {
  FittedLayerSpec s;
  s.router.keys = random_tensor("keys", {static_cast<std::int64_t>(sets.size()), kWidth});
  s.neurons = sets;
  s.storage = storage;
  s.compensation = Compensation::least_squares;
  s.ridge = 1e-9;
  return s;
}

/// W h + b + e of the rows: what an expert should answer.
at::Tensor wanted(const Tokens& t) {
  const TensorMap dense = dense_tensors();
  return (at::linear(t.h, dense.at(kPrefix + "fc2.weight"), dense.at(kPrefix + "fc2.bias")) + t.e).to(at::kDouble);
}

TEST(StreamRepair, MomentsOfHalvesAreThoseOfAllTokens) {
  const Tokens t = some_tokens(3);
  const DeviationMoments m = moments_of(t, 3, std::nullopt);
  for (std::int64_t e = 0; e < 3; ++e) {
    const at::Tensor index = (t.expert == e).nonzero().squeeze(1);
    const at::Tensor h = t.h.index_select(0, index).to(at::kDouble), d = t.e.index_select(0, index).to(at::kDouble);
    const double n = static_cast<double>(index.numel());
    const at::Tensor h0 = h - h.mean(0), d0 = d - d.mean(0);
    const auto i = static_cast<std::size_t>(e);
    EXPECT_EQ(m.all.moments[i].count, index.numel());
    EXPECT_LT((m.all.moments[i].covariance - at::mm(h0.t(), h0) / n).abs().max().item<double>(), 1e-4);
    EXPECT_LT((m.all.deviations[i].cross - at::mm(d0.t(), h0) / n).abs().max().item<double>(), 1e-4);
    EXPECT_LT((m.all.deviations[i].mean - d.mean(0)).abs().max().item<double>(), 1e-5);
    EXPECT_NEAR(m.all.deviations[i].square, d0.square().sum().item<double>() / n, 1e-4);
  }
}

TEST(StreamRepair, OwnWeightsAreTheLeastSquaresOfTheRows) {
  const Tokens t = some_tokens(3);
  Workers workers(2);
  for (const Storage storage : {Storage::own_output, Storage::separate}) {
    const FittedLayerSpec spec = repair_spec(storage, kSets);
    const DeviationMoments m = moments_of(t, 3, 1e-9);
    const OutputRepair repair = fit_repair(spec, m, true, workers);
    TensorMap tensors = dense_tensors();
    const std::vector<double> errors = fit_layer(spec, m.all.moments, tensors, &repair);
    const at::Tensor weight =
        tensors.at(kPrefix + (storage == Storage::own_output ? "experts.fc2.weight" : "fc2.weight"));
    std::int64_t place = 0;
    for (std::size_t e = 0; e < 3; ++e) {
      const at::Tensor index = (t.expert == static_cast<std::int64_t>(e)).nonzero().squeeze(1);
      const at::Tensor h = t.h.index_select(0, index).index_select(1, model::index_tensor(kSets[e])).to(at::kDouble),
                       y = wanted(t).index_select(0, index);
      const at::Tensor a = at::cat({h, at::ones({h.size(0), 1}, at::kDouble)}, 1);
      const at::Tensor best = std::get<0>(at::linalg_lstsq(a, y));
      const std::int64_t n = h.size(1);
      EXPECT_LT((weight.narrow(1, place, n).to(at::kDouble) - best.narrow(0, 0, n).t()).abs().max().item<double>(),
                1e-3);
      EXPECT_LT(
          (tensors.at(kPrefix + "fc2.bias").select(0, static_cast<std::int64_t>(e)).to(at::kDouble) - best.select(0, n))
              .abs()
              .max()
              .item<double>(),
          1e-3);
      // The error that is stated is that of the rows.
      const at::Tensor w = dense_tensors().at(kPrefix + "fc2.weight").to(at::kDouble);
      const double total = (at::mm(w, m.all.moments[e].covariance) * w).sum().item<double>(),
                   left = (y - at::mm(a, best)).square().sum().item<double>() / static_cast<double>(index.numel());
      EXPECT_NEAR(errors[e], left / total, 1e-3 * left / total);
      place += n;
    }
  }
}

TEST(StreamRepair, OneMatrixIsTheLeastSquaresOfAllExpertsRowsTogether) {
  const Tokens t = some_tokens(3);
  Workers workers(1);
  const FittedLayerSpec spec = repair_spec(Storage::shared, kSets);
  const DeviationMoments m = moments_of(t, 3, 1e-9);
  const OutputRepair repair = fit_repair(spec, m, true, workers);
  TensorMap tensors = dense_tensors();
  fit_layer(spec, m.all.moments, tensors, &repair);
  // Rows see the neurons of their expert alone; each expert has a bias of its own.
  const std::vector<std::int64_t> unite{0, 2, 3, 4, 5, 6, 7, 9};
  at::Tensor a = at::zeros({kRows, static_cast<std::int64_t>(unite.size()) + 3}, at::kDouble);
  for (std::int64_t i = 0; i < kRows; ++i) {
    const auto e = static_cast<std::size_t>(i % 3);
    for (std::size_t u = 0; u < unite.size(); ++u) {
      if (std::find(kSets[e].begin(), kSets[e].end(), unite[u]) != kSets[e].end())
        a[i][static_cast<std::int64_t>(u)] = t.h[i][unite[u]];
    }
    a[i][static_cast<std::int64_t>(unite.size() + e)] = 1.0;
  }
  const at::Tensor best = std::get<0>(at::linalg_lstsq(a, wanted(t)));
  EXPECT_LT((tensors.at(kPrefix + "fc2.weight").to(at::kDouble) - best.narrow(0, 0, 8).t()).abs().max().item<double>(),
            1e-3);
  EXPECT_LT((tensors.at(kPrefix + "fc2.bias").to(at::kDouble) - best.narrow(0, 8, 3)).abs().max().item<double>(), 1e-3);
}

TEST(StreamRepair, ADenseLayerOrClassTokenIsRepairedOnlyIfAsked) {
  const Tokens t = some_tokens(4);
  Workers workers(1);
  FittedLayerSpec spec = repair_spec(Storage::own_output, kSets);
  spec.prefix = PrefixExpert::dense;
  spec.prefix_tokens = 1;
  const DeviationMoments m = moments_of(t, 4, 1e-9);
  const at::Tensor w = dense_tensors().at(kPrefix + "fc2.weight");
  for (const bool asked : {false, true}) {
    const OutputRepair repair = fit_repair(spec, m, asked, workers);
    TensorMap tensors = dense_tensors();
    fit_layer(spec, m.all.moments, tensors, &repair);
    const at::Tensor last = tensors.at(kPrefix + "experts.fc2.weight").narrow(1, 10, kHidden);
    EXPECT_EQ(at::equal(last, w), !asked);
    if (!asked) continue;
    const at::Tensor index = (t.expert == 3).nonzero().squeeze(1);
    const at::Tensor a = at::cat({t.h.index_select(0, index), at::ones({index.numel(), 1})}, 1).to(at::kDouble);
    const at::Tensor best = std::get<0>(at::linalg_lstsq(a, wanted(t).index_select(0, index)));
    EXPECT_LT((last.to(at::kDouble) - best.narrow(0, 0, kHidden).t()).abs().max().item<double>(), 1e-3);
  }
}

TEST(StreamRepair, TheRidgeIsStrongWhereHalvesDisagree) {
  const Tokens t = some_tokens(1);
  const auto equations = [&](const at::Tensor& e, std::int64_t first) {
    const at::Tensor h = t.h.narrow(0, first, 40).to(at::kDouble), d = e.narrow(0, first, 40).to(at::kDouble);
    return NormalEquations{at::mm(h.t(), h), at::mm(d.t(), h)};
  };
  const at::Tensor learnable = at::mm(t.h, random_tensor("repair.map", {kHidden, kWidth})),
                   noise = random_tensor("repair.noise", {kRows, kWidth});
  const double clean = choose_ridge(equations(learnable, 0), equations(learnable, 40)),
               mixed = choose_ridge(equations(learnable * 0.1 + noise, 0), equations(learnable * 0.1 + noise, 40)),
               opposite = choose_ridge(equations(learnable, 0), equations(-learnable, 40));
  EXPECT_EQ(clean, 1e-3);
  EXPECT_GT(mixed, clean);
  EXPECT_TRUE(std::isinf(opposite)) << "what one half teaches harms the other";
  EXPECT_EQ(solve(equations(noise, 0), opposite).abs().max().item<double>(), 0);
  // The ridge is a share of the mean diagonal.
  const NormalEquations q = equations(noise, 0);
  at::Tensor a = q.a.clone();
  a.diagonal().add_(0.5 * q.a.diagonal().mean().item<double>());
  EXPECT_LT((at::mm(solve(q, 0.5), a) - q.b).abs().max().item<double>(), 1e-8);
}

TEST(StreamRepair, WithoutDeviationsTheFitIsWhatItWas) {
  Tokens t = some_tokens(3);
  t.e = at::zeros_like(t.e);
  Workers workers(1);
  for (const Storage storage : {Storage::own_output, Storage::shared, Storage::low_rank, Storage::separate}) {
    FittedLayerSpec spec = repair_spec(storage, kSets);
    spec.rank = 2;
    const DeviationMoments m = moments_of(t, 3, std::nullopt);
    const OutputRepair repair = fit_repair(spec, m, true, workers);
    TensorMap plain = dense_tensors(), repaired = dense_tensors();
    fit_layer(spec, m.all.moments, plain);
    fit_layer(spec, m.all.moments, repaired, &repair);
    for (const auto& [name, tensor] : plain) EXPECT_TRUE(at::equal(tensor, repaired.at(name))) << name;
  }
}

}  // namespace
}  // namespace moextract::moe::test
