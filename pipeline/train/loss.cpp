#include "train/loss.h"

#include <ATen/ATen.h>

namespace moextract::train {

at::Tensor training_loss(const at::Tensor& student, const at::Tensor& teacher, const at::Tensor& labels,
                         const at::Tensor& weight, const LossParams& params) {
  const double w = teacher.defined() ? params.distill_weight : 0.0;
  at::Tensor loss = at::zeros({student.size(0)}, student.options());
  if (w < 1.0) {
    const at::Tensor log_p = at::log_softmax(student, 1);
    const double smooth = params.label_smoothing;
    const at::Tensor nll = -log_p.gather(1, labels.unsqueeze(1)).squeeze(1);
    loss = loss + (1.0 - w) * ((1.0 - smooth) * nll - smooth * log_p.mean(1));
  }
  if (w > 0.0) {
    const double t = params.temperature;
    const at::Tensor log_q = at::log_softmax(teacher / t, 1);
    const at::Tensor log_p = at::log_softmax(student / t, 1);
    loss = loss + w * t * t * (log_q.exp() * (log_q - log_p)).sum(1);
  }
  return (loss * weight).sum();
}

}  // namespace moextract::train
