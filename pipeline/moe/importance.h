// How much the model's answer depends on each token's MLP output: weights for the second moments.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/network.h"

namespace moextract::moe {

/// One micro-batch seen by the calibration pass.
struct CalibrationTrace {
  at::Tensor x;         ///< [images, tokens, d] float32
  at::Tensor h;         ///< [images, tokens, H] float32
  at::Tensor gradient;  ///< [images, tokens, d] d log p(y) / d y_l, y_l the MLP's output; undefined without importance

  /// [images, tokens] |d log p(y) / d y_l|^2; undefined without importance.
  at::Tensor g() const;
};

/// Runs the network on images and returns each layer's trace. With `importance`, y is drawn from the model's own
/// softmax, by `seed` and the image's name alone, and one backward pass gives the gradients: their second moments are
/// the Fisher information.
std::vector<CalibrationTrace> trace_network(const model::Network& network, const at::Tensor& images,
                                            std::span<const std::string> image_ids, bool importance,
                                            std::uint64_t seed);

/// Weight of each token, [images, tokens]: 0.1 + 0.9 sqrt(g / mean of g over the image's patch tokens), clamped at 100
/// and scaled to mean 1 over the image's patch tokens. The first `prefix` tokens are weighed by the same scale but are
/// no part of the means. An image without any gradient has ones.
at::Tensor importance_weights(const at::Tensor& g, std::int64_t prefix);

/// The gradients' directions: rows of unit length, zero where there is no gradient. Their weighted second moments say
/// which directions of an MLP's output the answer depends on.
at::Tensor gradient_directions(const at::Tensor& gradient);

}  // namespace moextract::moe
