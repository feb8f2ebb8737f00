// The ridge that keeps least squares from learning noise, and their systems solvable.
#pragma once

#include <ATen/core/Tensor.h>

#include <string_view>

namespace moextract::moe {

/// r of the ridge: `share` of the mean diagonal of a covariance [n, n]. Of one without any variance 1: nothing is then
/// worth keeping, and nothing is singular.
double absolute_ridge(const at::Tensor& covariance, double share);

/// Lower Cholesky factor of A + r I, A [n, n] double and symmetric, positive semi-definite but for rounding. Where r is
/// less than that rounding (the tokens of an expert are one, or all the same) with ten, a hundred, ... times r; r may be
/// 0. Throws UserError (numerics) that names `what` if its values are not finite.
at::Tensor ridge_factor(const at::Tensor& a, double r, std::string_view what);

}  // namespace moextract::moe
