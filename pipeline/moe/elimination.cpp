#include "moe/elimination.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "moe/index_tensor.h"

namespace moextract::moe {
namespace {

/// r of the ridge. A layer without any variance gets a unit ridge: nothing is then worth keeping, and nothing is
/// singular.
double absolute_ridge(const at::Tensor& covariance, double share) {
  const double mean = covariance.diagonal().mean().item<double>();
  return mean > 0 ? share * mean : 1.0;
}

at::Tensor with_ridge(const at::Tensor& matrix, double r) {
  at::Tensor sum = matrix.clone();
  sum.diagonal().add_(r);
  return sum;
}

at::Tensor lower_factor(const at::Tensor& matrix) {
  const auto [factor, info] = at::linalg_cholesky_ex(matrix);
  if (info.item<std::int64_t>() != 0) {
    fail(ExitCode::numerics,
         "the second moments of an expert are not positive definite even with the ridge: raise assemble.ridge, or "
         "calibrate with more images");
  }
  return factor;
}

}  // namespace

EliminationOrder eliminate(const at::Tensor& weights, const at::Tensor& covariance, const EliminationParams& params) {
  const at::NoGradGuard no_grad;
  const std::int64_t hidden = weights.size(1);
  EliminationOrder order;
  at::Tensor p = at::cholesky_inverse(lower_factor(with_ridge(covariance, absolute_ridge(covariance, params.ridge))));
  at::Tensor w = weights.clone();
  std::vector<std::int64_t> alive(static_cast<std::size_t>(hidden));
  std::iota(alive.begin(), alive.end(), 0);
  double floor = 0;
  while (!alive.empty()) {
    const auto n = static_cast<std::int64_t>(alive.size());
    const at::Tensor saliency = (w.square().sum(0) / p.diagonal()).contiguous();
    const double* s = saliency.const_data_ptr<double>();
    std::vector<std::int64_t> by_cost(alive.size());
    std::iota(by_cost.begin(), by_cost.end(), 0);
    const std::int64_t block = std::min(n, std::max<std::int64_t>(1, std::min(params.block, n / 8 + 1)));
    std::partial_sort(by_cost.begin(), by_cost.begin() + block, by_cost.end(),
                      [&](std::int64_t a, std::int64_t b) { return s[a] != s[b] ? s[a] < s[b] : a < b; });
    std::vector<std::int64_t> gone(by_cost.begin(), by_cost.begin() + block);
    for (const std::int64_t j : gone) {
      floor = std::max(floor, s[j]);
      order.neurons.push_back(alive[static_cast<std::size_t>(j)]);
      order.cost.push_back(floor);
    }
    if (block == n) break;
    std::sort(gone.begin(), gone.end());
    std::vector<std::int64_t> rest, rest_alive;
    for (std::int64_t j = 0, g = 0; j < n; ++j) {
      if (g < block && gone[static_cast<std::size_t>(g)] == j) {
        ++g;
        continue;
      }
      rest.push_back(j);
      rest_alive.push_back(alive[static_cast<std::size_t>(j)]);
    }
    const at::Tensor b = index_tensor(gone), r = index_tensor(rest);
    const at::Tensor p_b = p.index_select(0, b);  // [block, n]
    const at::Tensor p_br = p_b.index_select(1, r);
    const at::Tensor solved = at::cholesky_solve(p_br, lower_factor(p_b.index_select(1, b)));  // P_BB^-1 P_BR
    w = w.index_select(1, r) - at::mm(w.index_select(1, b), solved);
    p = p.index_select(0, r).index_select(1, r) - at::mm(p_br.t(), solved);
    alive = std::move(rest_alive);
  }
  return order;
}

at::Tensor refit(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept, double ridge) {
  const at::NoGradGuard no_grad;
  const at::Tensor s = index_tensor(kept), c_s = covariance.index_select(0, s);
  const at::Tensor kept_weights = w.index_select(1, s);
  // The error of dropping what is not kept, seen by the kept: W_B C_BS = W C_:S - W_S C_SS.
  const at::Tensor c_ss = c_s.index_select(1, s);
  const at::Tensor target = at::mm(w, c_s.t()) - at::mm(kept_weights, c_ss);
  const at::Tensor factor = lower_factor(with_ridge(c_ss, absolute_ridge(covariance, ridge)));
  return kept_weights + at::cholesky_solve(target.t().contiguous(), factor).t();
}

double output_error(const at::Tensor& w, const at::Tensor& covariance, std::span<const std::int64_t> kept,
                    const at::Tensor& refitted) {
  const at::NoGradGuard no_grad;
  at::Tensor difference = w.clone();
  difference.index_add_(1, index_tensor(kept), refitted, -1);
  return (at::mm(difference, covariance) * difference).sum().item<double>();
}

}  // namespace moextract::moe
