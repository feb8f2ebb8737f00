#include "train/adamw.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

namespace moextract::train {
namespace {

bool decays(const std::string& name, const at::Tensor& tensor) {
  return tensor.dim() >= 2 && name != "pos_embed" && name != "cls_token" && name != "dist_token" &&
         !name.ends_with(".bias");
}

}  // namespace

AdamW::AdamW(const AdamWParams& params, model::TensorMap tensors) : params_(params), tensors_(std::move(tensors)) {
  for (const auto& [name, tensor] : tensors_) {
    first_.emplace(name, at::zeros_like(tensor));
    second_.emplace(name, at::zeros_like(tensor));
  }
}

AdamW::Factors AdamW::factors(std::int64_t step, double learning_rate) const {
  const double count = static_cast<double>(step);
  return {static_cast<float>(params_.beta1), static_cast<float>(params_.beta2),
          static_cast<float>(learning_rate / (1.0 - std::pow(params_.beta1, count))),
          static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(params_.beta2, count))),
          static_cast<float>(params_.epsilon)};
}

float AdamW::decay_of(const std::string& name, const at::Tensor& tensor, double learning_rate) const {
  return static_cast<float>(1.0 - learning_rate * (decays(name, tensor) ? params_.weight_decay : 0.0));
}

void AdamW::step(std::int64_t step, double learning_rate, std::span<const float> gradient, float scale,
                 Workers& workers) {
  struct Piece {
    float *weight, *first, *second;
    const float* gradient;
    std::int64_t count;
    float decay;
  };
  std::vector<Piece> pieces;
  const float* next = gradient.data();
  for (const auto& [name, tensor] : tensors_) {
    pieces.push_back({tensor.data_ptr<float>(), first_.at(name).data_ptr<float>(), second_.at(name).data_ptr<float>(),
                      next, tensor.numel(), decay_of(name, tensor, learning_rate)});
    next += tensor.numel();
  }
  const Factors f = factors(step, learning_rate);
  workers.for_each(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t unit, int) {
    const Piece& p = pieces[static_cast<std::size_t>(unit)];
    for (std::int64_t i = 0; i < p.count; ++i) {
      const float g = p.gradient[i] * scale;
      p.first[i] = f.beta1 * p.first[i] + (1 - f.beta1) * g;
      p.second[i] = f.beta2 * p.second[i] + (1 - f.beta2) * g * g;
      p.weight[i] = p.weight[i] * p.decay - f.rate * p.first[i] / (std::sqrt(p.second[i]) * f.correction + f.epsilon);
    }
  });
}

void AdamW::step(std::int64_t step, double learning_rate, const at::Tensor& gradient, float scale) {
  const at::NoGradGuard no_grad;
  const Factors f = factors(step, learning_rate);
  std::int64_t next = 0;
  for (const auto& [name, tensor] : tensors_) {
    at::Tensor weight = tensor, first = first_.at(name), second = second_.at(name);
    const at::Tensor g = gradient.narrow(0, next, tensor.numel()).view(tensor.sizes()) * scale;
    next += tensor.numel();
    first.mul_(f.beta1).add_(g, 1 - f.beta1);
    second.mul_(f.beta2).addcmul_(g, g, 1 - f.beta2);
    weight.mul_(decay_of(name, tensor, learning_rate));
    weight.addcdiv_(first, second.sqrt().mul_(f.correction).add_(f.epsilon), -f.rate);
  }
}

}  // namespace moextract::train
