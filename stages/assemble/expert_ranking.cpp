#include "stages/assemble/expert_ranking.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "model/index_tensor.h"
#include "moe/elimination.h"
#include "moe/neuron_score.h"
#include "moe/ridge.h"

namespace moextract::stages {

at::Tensor pooled_covariance(const LayerMoments& moments) {
  const at::NoGradGuard no_grad;
  at::Tensor sum = at::zeros_like(moments.experts.front().covariance);
  double weight = 0;
  for (const moe::SecondMoments& expert : moments.experts) {
    if (!(expert.weight > 0)) continue;
    sum.add_(expert.covariance, expert.weight);
    weight += expert.weight;
  }
  return weight > 0 ? sum.div_(weight) : sum;
}

moe::SecondMoments pooled_moments(const LayerMoments& moments) {
  const at::NoGradGuard no_grad;
  moe::SecondMoments pooled;
  pooled.mean = at::zeros_like(moments.experts.front().mean);
  pooled.variance = at::zeros_like(moments.experts.front().mean);
  for (const moe::SecondMoments& expert : moments.experts) {
    if (!(expert.weight > 0)) continue;
    pooled.count += expert.count;
    pooled.weight += expert.weight;
    pooled.mean.add_(expert.mean, expert.weight);
    pooled.variance.add_(expert.variance, expert.weight);
  }
  if (pooled.weight > 0) pooled.mean.div_(pooled.weight), pooled.variance.div_(pooled.weight);
  if (moments.experts.front().covariance.defined()) pooled.covariance = pooled_covariance(moments);
  return pooled;
}

LayerMoments as_one_expert(const LayerMoments& moments) {
  const at::NoGradGuard no_grad;
  const std::int64_t k = moments.k();
  LayerMoments one = moments;
  one.agreement = -1;
  one.router = {};
  one.router.keys = at::zeros({1, moments.router.width()});
  moe::SecondMoments all = moments.experts.front();
  for (std::int64_t e = 1; e < k; ++e) all = moe::unite_moments(all, moments.experts[static_cast<std::size_t>(e)]);
  const double prefix = moments.prefix_apart ? moments.token_share.back() : 0.0;
  one.experts = {std::move(all)};
  one.token_share = {1.0 - prefix};  // also where a token went to several experts
  if (moments.directions.defined()) {
    at::Tensor sum = at::zeros_like(moments.directions[0]);
    for (std::int64_t e = 0; e < k; ++e)
      sum.add_(moments.directions[e], moments.experts[static_cast<std::size_t>(e)].weight);
    if (one.experts.front().weight > 0) sum.div_(one.experts.front().weight);
    one.directions = sum.unsqueeze(0);
  }
  if (moments.prefix_apart) {
    one.experts.push_back(moments.experts.back());
    one.token_share.push_back(prefix);
    if (moments.directions.defined()) one.directions = at::cat({one.directions, moments.directions.narrow(0, k, 1)});
  }
  return one;
}

at::Tensor pooled_directions(const LayerMoments& moments) {
  if (!moments.directions.defined()) return {};
  const at::NoGradGuard no_grad;
  at::Tensor sum = at::zeros_like(moments.directions[0]);
  double weight = 0;
  for (std::size_t e = 0; e < moments.experts.size(); ++e) {
    sum.add_(moments.directions[static_cast<std::int64_t>(e)], moments.experts[e].weight);
    weight += moments.experts[e].weight;
  }
  return weight > 0 ? sum / weight : sum;
}

std::int64_t pool_covariances(LayerMoments& moments, double pooled_tokens, std::int64_t min_tokens) {
  const bool short_of_tokens = std::any_of(moments.experts.begin(), moments.experts.end(),
                                           [&](const moe::SecondMoments& expert) { return expert.count < min_tokens; });
  if (!(pooled_tokens > 0) && !short_of_tokens) return 0;
  const at::NoGradGuard no_grad;
  const moe::SecondMoments pooled = pooled_moments(moments);
  std::int64_t replaced = 0;
  for (moe::SecondMoments& expert : moments.experts) {
    const double n = static_cast<double>(expert.count);
    const bool too_few = expert.count < min_tokens;
    const double own = too_few ? 0.0 : n / (n + pooled_tokens);
    if (too_few) {
      ++replaced;
      if (!(expert.weight > 0)) expert.mean = pooled.mean;
      expert.weight = std::max(expert.weight, 1.0);  // an expert without tokens is fitted to the layer's
    }
    if (expert.covariance.defined()) expert.covariance = expert.covariance * own + pooled.covariance * (1.0 - own);
    expert.variance = expert.variance * own + pooled.variance * (1.0 - own);
  }
  return replaced;
}

at::Tensor in_output_metric(const at::Tensor& w, const at::Tensor& directions, double fisher) {
  if (!directions.defined() || !(fisher > 0)) return w;
  const at::NoGradGuard no_grad;
  const std::int64_t d = w.size(0);
  at::Tensor metric = directions * (fisher * static_cast<double>(d));
  // A hair of the identity keeps the factor positive definite where all gradients lie in a subspace.
  const at::Tensor factor =
      moe::ridge_factor(metric, std::max(1.0 - fisher, 1e-6), "the second moments of a layer's gradients");
  return at::mm(factor.t(), w);
}

ExpertRanking rank_experts(const AssembleParams& params, std::int64_t layer, const LayerMoments& moments,
                           const at::Tensor& w, std::span<const std::int64_t> unite, bool ranks_prefix,
                           Workers& workers) {
  const at::NoGradGuard no_grad;
  const auto experts = static_cast<std::int64_t>(moments.experts.size());
  ExpertRanking ranking;
  ranking.k = moments.k();
  ranking.mean_gradient = moments.mean_gradient;
  ranking.agreement = moments.agreement;
  ranking.router_macs = moe::router_macs(moments.router);
  ranking.router_parameters = moe::router_parameters(moments.router);
  ranking.temperature = moments.router.temperature;
  const std::int64_t ranked = moments.prefix_apart && ranks_prefix ? experts : moments.k();
  const std::int64_t neurons = unite.empty() ? w.size(1) : static_cast<std::int64_t>(unite.size());
  ranking.order = at::empty({ranked, neurons}, at::kLong);
  ranking.cost = at::zeros({ranked, neurons}, at::kDouble);
  ranking.count = at::empty({experts}, at::kDouble);
  ranking.weight = at::empty({experts}, at::kDouble);
  ranking.share = at::empty({experts}, at::kDouble);
  for (std::int64_t e = 0; e < experts; ++e) {
    ranking.count[e] = static_cast<double>(moments.experts[static_cast<std::size_t>(e)].count);
    ranking.weight[e] = moments.experts[static_cast<std::size_t>(e)].weight;
    ranking.share[e] = moments.token_share[static_cast<std::size_t>(e)];
  }
  const bool eliminates = params.score == moe::Score::elimination;
  workers.for_each(ranked, [&](std::int64_t e, int) {
    const at::NoGradGuard worker_no_grad;
    moe::SecondMoments m = moments.experts[static_cast<std::size_t>(e)];
    at::Tensor own = w;
    if (!unite.empty()) {
      const at::Tensor left = model::index_tensor({unite.begin(), unite.end()});
      if (params.compensation == moe::Compensation::least_squares) {
        own = moe::refit(w, m.covariance, unite, params.ridge);
      } else {
        own = w.index_select(1, left);
      }
      if (m.covariance.defined()) m.covariance = m.covariance.index_select(0, left).index_select(1, left);
      m.mean = m.mean.index_select(0, left);
      m.variance = m.variance.index_select(0, left);
    }
    if (eliminates && moments.directions.defined())
      own = in_output_metric(own, moments.directions.select(0, e), params.fisher);
    const moe::EliminationOrder result = moe::score_neurons(params.score, m, own, params.ridge, params.seed,
                                                            static_cast<std::uint64_t>(layer << 20 | e));
    std::int64_t* order = ranking.order.data_ptr<std::int64_t>() + e * neurons;
    for (std::size_t j = 0; j < result.neurons.size(); ++j) {
      const std::int64_t neuron = result.neurons[j];
      order[j] = unite.empty() ? neuron : unite[static_cast<std::size_t>(neuron)];
    }
    if (m.weight > 0) std::copy(result.cost.begin(), result.cost.end(), ranking.cost.data_ptr<double>() + e * neurons);
  });
  return ranking;
}

}  // namespace moextract::stages
