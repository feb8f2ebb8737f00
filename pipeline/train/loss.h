// The training loss of one micro-batch.
#pragma once

#include <ATen/core/Tensor.h>

namespace moextract::train {

struct LossParams {
  double distill_weight = 1.0, temperature = 1.0, label_smoothing = 0.0;
};

/// Sum over the samples of weight[i] * ((1 - w) cross-entropy(labels) + w T^2 KL(softmax(teacher / T) ||
/// softmax(student / T))). student, teacher [n, classes] (teacher may be undefined: w = 0), labels [n] int64, weight
/// [n]. Scalar tensor. Distillation: Hinton et al. 2015.
at::Tensor training_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& labels,
                         const at::Tensor& weight, const LossParams& params);

}  // namespace moextract::train
