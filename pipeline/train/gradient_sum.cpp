#include "train/gradient_sum.h"

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace moextract::train {
namespace {

constexpr double kUnits = 0x1.0p52;  // integers a unit; sums stay below 2^63 for magnitudes below 2^11

/// Until what was put on the device's current stream is done.
void wait_for(const at::Device& device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

}  // namespace

GradientSum::GradientSum(std::int64_t length, std::int64_t scalars, std::int64_t parts, GradientPlace place)
    : length_(length),
      limit_(static_cast<float>(0x1.0p10 / static_cast<double>(std::max<std::int64_t>(parts, 1)))),
      place_(place),
      sums_(at::zeros({length + scalars}, at::TensorOptions(at::kLong).device(place.device))),
      scalars_(static_cast<std::size_t>(scalars), 0) {}

void GradientSum::clear() {
  sums_.zero_();
  std::fill(scalars_.begin(), scalars_.end(), 0);
}

bool GradientSum::add(std::int64_t offset, std::span<const float> values) {
  MOEX_ASSERT(!by_tensors(), "values of the host for a sum on a device");
  float largest = 0;
  bool ordered = true;
  for (const float value : values) {
    largest = std::max(largest, std::fabs(value));
    ordered = ordered && value == value;
  }
  if (!ordered || !(largest < limit_)) return false;
  std::int64_t* sums = data() + offset;
  for (std::size_t i = 0; i < values.size(); ++i) sums[i] += std::llrint(static_cast<double>(values[i]) * kUnits);
  return true;
}

bool GradientSum::add(std::int64_t offset, const at::Tensor& values) {
  const at::Tensor flat = values.detach().contiguous().view(-1);
  if (!by_tensors()) {
    return add(offset, std::span<const float>(flat.const_data_ptr<float>(), static_cast<std::size_t>(flat.numel())));
  }
  // NaN is less than nothing.
  if (!flat.abs().lt(limit_).all().item<bool>()) return false;
  // Both round halves to even; the product by a power of two is exact.
  sums_.narrow(0, offset, flat.numel()).add_(flat.to(at::kDouble).mul_(kUnits).round_().to(at::kLong));
  return true;
}

void GradientSum::merge(const GradientSum& other) {
  MOEX_ASSERT(other.sums_.numel() == sums_.numel() && other.scalars_.size() == scalars_.size(),
              "gradient sums of different models");
  if (by_tensors()) {
    sums_.add_(other.sums_);
  } else {
    for (std::int64_t i = 0; i < length_; ++i) data()[i] += other.data()[i];
  }
  for (std::size_t i = 0; i < scalars_.size(); ++i) scalars_[i] += other.scalars_[i];
}

void GradientSum::all_reduce(comm::Communicator& comm) {
  const auto count = static_cast<std::int64_t>(scalars_.size());
  at::Tensor travelling = sums_.narrow(0, length_, count);
  const at::Tensor here = at::from_blob(scalars_.data(), {count}, at::TensorOptions(at::kLong));
  travelling.copy_(here);
  const auto length = static_cast<std::size_t>(sums_.numel());
  if (place_.as_device_memory) {
    wait_for(place_.device);
    comm.all_reduce(comm::DeviceSpan<std::int64_t>{data(), length}, comm::Reduction::sum);
  } else {
    const at::Tensor host = sums_.cpu();  // itself, if it is there
    comm.all_reduce(std::span<std::int64_t>(host.data_ptr<std::int64_t>(), length), comm::Reduction::sum);
    if (!host.is_same(sums_)) sums_.copy_(host);
  }
  at::Tensor(here).copy_(travelling);
}

at::Tensor GradientSum::values(std::int64_t offset, std::int64_t count) const {
  return sums_.narrow(0, offset, count).to(at::kDouble).div_(kUnits).to(at::kFloat);
}

void GradientSum::read(std::int64_t offset, std::span<float> values) const {
  if (by_tensors()) {
    const at::Tensor found = this->values(offset, static_cast<std::int64_t>(values.size())).cpu();
    std::copy_n(found.const_data_ptr<float>(), values.size(), values.begin());
    return;
  }
  const std::int64_t* sums = data() + offset;
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(static_cast<double>(sums[i]) / kUnits);
}

}  // namespace moextract::train
