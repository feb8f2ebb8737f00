#include "moe/ridge.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/error.h"

namespace moextract::moe {

double absolute_ridge(const at::Tensor& covariance, double share) {
  const double mean = covariance.diagonal().mean().item<double>();
  return mean > 0 ? share * mean : 1.0;
}

at::Tensor ridge_factor(const at::Tensor& a, double r, std::string_view what) {
  const at::NoGradGuard no_grad;
  while (true) {
    at::Tensor sum = a.clone();
    sum.diagonal().add_(r);
    const auto [factor, info] = at::linalg_cholesky_ex(sum);
    if (info.item<std::int64_t>() == 0) return factor;
    // With so much on its diagonal any finite matrix is positive definite.
    const double most = 2 * static_cast<double>(a.size(0)) * a.abs().max().item<double>();
    if (!(r <= most && most > 0)) {
      fail(ExitCode::numerics, "{} are not finite: check the weights and the preprocessing", what);
    }
    r = r > 0 ? 10 * r : 1e-16 * most;
  }
}

}  // namespace moextract::moe
