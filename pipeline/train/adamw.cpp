#include "train/adamw.h"

#include <ATen/ops/zeros_like.h>

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
    const double decay = decays(name, tensor) ? params_.weight_decay : 0.0;
    pieces.push_back({tensor.data_ptr<float>(), first_.at(name).data_ptr<float>(), second_.at(name).data_ptr<float>(),
                      next, tensor.numel(), static_cast<float>(1.0 - learning_rate * decay)});
    next += tensor.numel();
  }
  const auto beta1 = static_cast<float>(params_.beta1), beta2 = static_cast<float>(params_.beta2);
  const double count = static_cast<double>(step);
  const auto rate = static_cast<float>(learning_rate / (1.0 - std::pow(params_.beta1, count)));
  const auto correction = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(params_.beta2, count)));
  const auto epsilon = static_cast<float>(params_.epsilon);
  workers.for_each(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t unit, int) {
    const Piece& p = pieces[static_cast<std::size_t>(unit)];
    for (std::int64_t i = 0; i < p.count; ++i) {
      const float g = p.gradient[i] * scale;
      p.first[i] = beta1 * p.first[i] + (1 - beta1) * g;
      p.second[i] = beta2 * p.second[i] + (1 - beta2) * g * g;
      p.weight[i] = p.weight[i] * p.decay - rate * p.first[i] / (std::sqrt(p.second[i]) * correction + epsilon);
    }
  });
}

}  // namespace moextract::train
