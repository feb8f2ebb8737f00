// Output weights that repair what compressed layers before have done to the residual stream.
//
// With everything before a layer compressed and the layer itself still dense, the stream that leaves it deviates from
// the dense model's by e. Its experts are fitted to the trained MLP's output plus e, "dense residual stream minus the
// compressed one": the least-squares weights of y + e are those of y plus those of e, so the second can have a ridge
// of their own. Earlier errors are only partly a function of the hidden values, and a weak ridge would learn the
// calibration images by heart. For the same reason e is first fitted as one map of all hidden values over the tokens of
// all experts, which stands beside the trained output weights in the fit of each; what is left is each expert's own.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/workers.h"
#include "moe/fitted_layer.h"
#include "moe/second_moments.h"

namespace moextract::moe {

/// Of one expert's tokens, weighted as their moments are.
struct Deviation {
  at::Tensor mean;    ///< [d] double: of e
  at::Tensor cross;   ///< [d, H] double: mean of (e - mean)(h - mean)^T
  double square = 0;  ///< mean of |e - mean|^2
};

/// Moments of (h, e), [H + d], as those of h and what e adds to them.
std::pair<SecondMoments, Deviation> split_moments(const SecondMoments& joint, std::int64_t hidden);

/// Sums of a ridge regression of e on h.
struct NormalEquations {
  at::Tensor a;  ///< [n, n] covariance of the n hidden values
  at::Tensor b;  ///< [d, n] of e with them
};
/// M [d, n] with M (a + r I) = b, r = ridge x the mean diagonal of a; zeros for an infinite ridge.
/// Throws UserError (numerics) if a + r I is not positive definite.
at::Tensor solve(const NormalEquations& equations, double ridge);
/// The ridge whose M, fitted to either half, leaves the least squared error on the other; of several shares of the mean
/// diagonal between 1e-3 and 30, and infinity (no repair).
double choose_ridge(const NormalEquations& first, const NormalEquations& second);

/// What the deviations of a layer's experts (the prefix expert's last) tell. Two halves of the tokens to choose ridges
/// by, or a ridge.
struct DeviationMoments {
  struct Part {
    std::vector<SecondMoments> moments;  ///< of h
    std::vector<Deviation> deviations;
  };
  Part all;
  std::vector<Part> halves;     ///< two, or none
  std::optional<double> ridge;  ///< must be given without halves
};

/// What the fit of `spec` has to add: a map for the routed experts with a ridge of its own, then weights with one ridge
/// an expert, or one where all experts share an output matrix.
/// `repairs_prefix`: of a prefix expert with all neurons and output weights of its own the weights, too. Independent
/// experts are dealt to the workers.
OutputRepair fit_repair(const FittedLayerSpec& spec, const DeviationMoments& moments, bool repairs_prefix,
                        Workers& workers);

}  // namespace moextract::moe
