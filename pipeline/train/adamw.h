// AdamW (Loshchilov and Hutter 2019) over named tensors.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/workers.h"
#include "model/weights.h"

namespace moextract::train {

struct AdamWParams {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
  double weight_decay = 0.01;  ///< decoupled; not applied to vectors (biases, norms), positions and class tokens
};

class AdamW {
 public:
  /// `tensors`: float32, contiguous, changed in place by step(). Moments start at zero.
  AdamW(const AdamWParams& params, model::TensorMap tensors);
  /// One update with the gradients of all tensors, in the map's order, one after the other; `scale` multiplies them
  /// (clipping). `step` counts from 1. Element-wise in float32, so the result does not depend on threads.
  void step(std::int64_t step, double learning_rate, std::span<const float> gradient, float scale, Workers& workers);

  /// The same by LibTorch's operators, for tensors in a device's memory; gradient [length] float32 beside them.
  void step(std::int64_t step, double learning_rate, const at::Tensor& gradient, float scale);

  const model::TensorMap& first_moments() const { return first_; }
  const model::TensorMap& second_moments() const { return second_; }

 private:
  /// What a step multiplies by; `rate` and `correction` make up for moments that started at zero.
  struct Factors {
    float beta1, beta2, rate, correction, epsilon;
  };
  Factors factors(std::int64_t step, double learning_rate) const;
  float decay_of(const std::string& name, const at::Tensor& tensor, double learning_rate) const;

  AdamWParams params_;
  model::TensorMap tensors_, first_, second_;
};

}  // namespace moextract::train
