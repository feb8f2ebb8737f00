#include "cluster_device/device_sums.h"

#include <ATen/ATen.h>

namespace moextract::cluster {

DeviceSums::DeviceSums(const PassFacts& facts, const at::Device& device)
    : k_(facts.k), split_(SumWords::needs_split(facts.total_rows, facts.largest)) {
  const auto options = at::TensorOptions(at::kLong).device(device);
  sums_ = at::zeros({split_ ? 2 : 1, k_ + 1, facts.dimension}, options);
  sizes_ = at::zeros({k_ + 1}, options);
  weights_ = at::zeros({k_ + 1}, options);
}

void DeviceSums::move(const at::Tensor& rows, const at::Tensor& from, const at::Tensor& to, const at::Tensor& weights) {
  const at::Tensor ones = at::ones_like(to);
  sizes_.index_add_(0, to, ones).index_add_(0, from, ones, -1);
  const at::Tensor& each = weights.defined() ? weights : ones;
  weights_.index_add_(0, to, each).index_add_(0, from, each, -1);
  // Products with powers of 2 are exact, and so are the conversions: a prepared value is a multiple of 2^-24.
  const at::Tensor values = rows.to(at::kFloat);
  at::Tensor fixed = values.mul(0x1.0p24).to(at::kLong);
  if (split_) {
    // The conversion cuts the fraction off, as SumWords wants it.
    const at::Tensor high = values.mul(0x1.0p4).to(at::kLong);
    fixed.sub_(high, 1 << 20);
    add(0, high, from, to, weights);
  }
  add(split_ ? 1 : 0, fixed, from, to, weights);
}

void DeviceSums::add(std::int64_t plane, const at::Tensor& values, const at::Tensor& from, const at::Tensor& to,
                     const at::Tensor& weights) {
  const at::Tensor weighted = weights.defined() ? values.mul(weights.unsqueeze(1)) : values;
  at::Tensor sums = sums_.select(0, plane);
  sums.index_add_(0, to, weighted).index_add_(0, from, weighted, -1);
}

at::Tensor DeviceSums::words() const {
  return at::cat({sums_.narrow(1, 0, k_).reshape({-1}), sizes_.narrow(0, 0, k_), weights_.narrow(0, 0, k_)});
}

}  // namespace moextract::cluster
