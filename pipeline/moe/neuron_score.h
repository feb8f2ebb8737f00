// What each neuron of an expert is worth, and in which order neurons would be removed.
#pragma once

#include <cstdint>

#include "moe/elimination.h"
#include "moe/second_moments.h"

namespace moextract::moe {

enum class Score {
  automatic,          ///< variance for MoEE, elimination for least squares
  variance,           ///< of h over the expert's tokens (MoEE, arXiv 2505.15414; VBP, arXiv 2507.12988)
  second_moment,      ///< mean of h^2
  mean,               ///< |mean of h|
  weighted_variance,  ///< variance x |column of W2|^2: expected squared output error of dropping it alone
  elimination,        ///< backward elimination by expected output error (optimal brain surgeon order)
  random              ///< control
};

/// Whether a score needs the full covariance.
bool needs_covariance(Score score);

/// Order of removal and worth of each neuron: the lowest score first, the higher index on ties. `w` [d, H] double: the
/// output weights, in the metric in which errors count. `random` is uniform, drawn from `seed` and `stream`.
EliminationOrder score_neurons(Score score, const SecondMoments& moments, const at::Tensor& w, double ridge,
                               std::uint64_t seed, std::uint64_t stream);

}  // namespace moextract::moe
