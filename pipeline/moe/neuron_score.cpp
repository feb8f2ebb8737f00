#include "moe/neuron_score.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"

namespace moextract::moe {

bool needs_covariance(Score score) {
  return score == Score::elimination;
}

EliminationOrder score_neurons(Score score, const SecondMoments& moments, const at::Tensor& w, double ridge,
                               std::uint64_t seed, std::uint64_t stream) {
  const at::NoGradGuard no_grad;
  MOEX_ASSERT(score != Score::automatic, "the score is settled before it is used");
  if (score == Score::elimination) return eliminate(w, moments.covariance, {.ridge = ridge});
  at::Tensor worth = moments.variance;
  if (score == Score::second_moment) worth = moments.variance + moments.mean.square();
  if (score == Score::mean) worth = moments.mean.abs();
  if (score == Score::weighted_variance) worth = moments.variance * w.square().sum(0);
  if (score == Score::random) {
    RandomStream random(seed, hash64("random score"), stream);
    worth = at::empty({w.size(1)}, at::kDouble);
    for (std::int64_t j = 0; j < worth.numel(); ++j) worth.data_ptr<double>()[j] = random.uniform();
  }
  worth = worth.contiguous();
  const double* value = worth.const_data_ptr<double>();
  EliminationOrder order;
  order.neurons.resize(static_cast<std::size_t>(worth.numel()));
  std::iota(order.neurons.begin(), order.neurons.end(), 0);
  std::sort(order.neurons.begin(), order.neurons.end(),
            [&](std::int64_t a, std::int64_t b) { return value[a] != value[b] ? value[a] < value[b] : a > b; });
  for (const std::int64_t j : order.neurons) order.cost.push_back(value[j]);
  return order;
}

}  // namespace moextract::moe
