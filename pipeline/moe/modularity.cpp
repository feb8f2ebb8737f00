#include "moe/modularity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <vector>

#include "core/error.h"

namespace moextract::moe {

double modularity(const at::Tensor& weights, std::span<const std::int64_t> group) {
  const at::NoGradGuard no_grad;
  const std::int64_t n = weights.size(0);
  MOEX_ASSERT(static_cast<std::int64_t>(group.size()) == n, "a group for each node");
  at::Tensor own = weights.to(at::kDouble).contiguous().clone();
  own.diagonal().zero_();
  const double* w = own.const_data_ptr<double>();
  const std::int64_t groups = n > 0 ? *std::max_element(group.begin(), group.end()) + 1 : 0;
  std::vector<double> inside(static_cast<std::size_t>(groups), 0), degree(static_cast<std::size_t>(groups), 0);
  double total = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto g = static_cast<std::size_t>(group[static_cast<std::size_t>(i)]);
    for (std::int64_t j = 0; j < n; ++j) {
      const double edge = w[i * n + j];
      total += edge;
      degree[g] += edge;
      if (group[static_cast<std::size_t>(j)] == group[static_cast<std::size_t>(i)]) inside[g] += edge;
    }
  }
  if (!(total > 0)) return 0;
  double q = 0;
  for (std::size_t g = 0; g < inside.size(); ++g) q += inside[g] / total - (degree[g] / total) * (degree[g] / total);
  return q;
}

double coactivation_modularity(const at::Tensor& covariance, std::span<const std::int64_t> group) {
  const at::NoGradGuard no_grad;
  const at::Tensor deviation = covariance.diagonal().clamp_min(0).sqrt();
  const at::Tensor inverse = at::where(deviation > 0, deviation.reciprocal(), at::zeros_like(deviation));
  return modularity((covariance * at::outer(inverse, inverse)).abs(), group);
}

}  // namespace moextract::moe
