// Tensors and devices.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/device.h"

namespace moextract::model {

/// LibTorch's name of the memory that `device` computes in.
inline at::Device memory_of(const Device& device) {
  return device.kind == DeviceKind::cuda ? at::Device(at::kCUDA, static_cast<at::DeviceIndex>(device.index))
                                         : at::Device(at::kCPU);
}

/// The tensor in the device's memory; itself if it is there already.
inline at::Tensor to_device(const at::Tensor& tensor, const Device& device) {
  return tensor.defined() ? tensor.to(memory_of(device)) : tensor;
}

/// Whether `x` is to be computed on by LibTorch's operators alone: it is not in the host's memory, or this thread's
/// scope asks for them. Whoever loops over a tensor's values asks first.
inline bool by_tensors(const at::Tensor& x) {
  return !x.device().is_cpu() || computes_by_tensors();
}

}  // namespace moextract::model
