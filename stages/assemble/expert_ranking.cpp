#include "stages/assemble/expert_ranking.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "moe/elimination.h"
#include "moe/index_tensor.h"

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

void pool_covariances(LayerMoments& moments, double pooled_tokens) {
  if (!(pooled_tokens > 0)) return;
  const at::NoGradGuard no_grad;
  const at::Tensor pooled = pooled_covariance(moments);
  for (moe::SecondMoments& expert : moments.experts) {
    const double n = static_cast<double>(expert.count), own = n / (n + pooled_tokens);
    expert.covariance = expert.covariance * own + pooled * (1.0 - own);
  }
}

at::Tensor in_output_metric(const at::Tensor& w, const at::Tensor& directions, double fisher) {
  if (!directions.defined() || !(fisher > 0)) return w;
  const at::NoGradGuard no_grad;
  const std::int64_t d = w.size(0);
  at::Tensor metric = directions * (fisher * static_cast<double>(d));
  // A hair of the identity keeps the factor positive definite where all gradients lie in a subspace.
  metric.diagonal().add_(std::max(1.0 - fisher, 1e-6));
  const auto [factor, info] = at::linalg_cholesky_ex(metric);
  if (info.item<std::int64_t>() != 0) {
    fail(ExitCode::numerics,
         "the second moments of a layer's gradients are not positive definite: lower assemble.fisher");
  }
  return at::mm(factor.t(), w);
}

ExpertRanking rank_experts(const AssembleParams& params, const LayerMoments& moments, const at::Tensor& w,
                           std::span<const std::int64_t> unite, Workers& workers) {
  const at::NoGradGuard no_grad;
  ExpertRanking ranking;
  ranking.k = static_cast<std::int64_t>(moments.experts.size()) - 1;
  ranking.mean_gradient = moments.mean_gradient;
  const std::int64_t neurons = unite.empty() ? w.size(1) : static_cast<std::int64_t>(unite.size());
  ranking.order = at::empty({ranking.k, neurons}, at::kLong);
  ranking.cost = at::zeros({ranking.k, neurons}, at::kDouble);
  ranking.count = at::empty({ranking.k + 1}, at::kDouble);
  ranking.weight = at::empty({ranking.k + 1}, at::kDouble);
  for (std::int64_t e = 0; e <= ranking.k; ++e) {
    ranking.count[e] = static_cast<double>(moments.experts[static_cast<std::size_t>(e)].count);
    ranking.weight[e] = moments.experts[static_cast<std::size_t>(e)].weight;
  }
  workers.for_each(ranking.k, [&](std::int64_t e, int) {
    const at::NoGradGuard worker_no_grad;
    const moe::SecondMoments& m = moments.experts[static_cast<std::size_t>(e)];
    at::Tensor own = w, covariance = m.covariance;
    if (!unite.empty()) {
      own = moe::refit(w, covariance, unite, params.ridge);
      const at::Tensor left = moe::index_tensor({unite.begin(), unite.end()});
      covariance = covariance.index_select(0, left).index_select(1, left);
    }
    if (moments.directions.defined()) own = in_output_metric(own, moments.directions.select(0, e), params.fisher);
    const moe::EliminationOrder result = moe::eliminate(own, covariance, {.ridge = params.ridge});
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
