// LibTorch's side of a device: how many there are, when they are done, and the scope in which a thread computes on one.
// No header of LibTorch is needed here; model/device_tensors.h has what deals in tensors.
#pragma once

#include <memory>

#include "core/device.h"

namespace moextract::model {

/// GPUs that LibTorch can use in this process; 0 where it has no CUDA half, or there is no driver or no GPU.
int visible_cuda_devices();

/// Once a process, before the first tensor is put on `device`: makes LibTorch take algorithms that give the same bits
/// again, and float32 products of full width. Does nothing for the CPU.
void prepare_device(const Device& device);

/// Returns when all that this process has put on the device is done; at once for the CPU. For measuring time: copies to
/// the host wait by themselves.
void synchronize(const Device& device);

/// While it lives, this thread computes on `device`: a GPU is its current one, and where device.by_tensors() LibTorch's
/// operators stand in for packed products and for loops over the host's memory, on the CPU too. Threads that this one
/// hands work to need a scope of their own. Scopes nest.
class DeviceScope {
 public:
  explicit DeviceScope(const Device& device);
  ~DeviceScope();
  DeviceScope(const DeviceScope&) = delete;
  DeviceScope& operator=(const DeviceScope&) = delete;

 private:
  struct Current;
  std::unique_ptr<Current> current_;
  bool before_;
};

/// Whether a scope of this thread asks for LibTorch's operators.
bool computes_by_tensors();

}  // namespace moextract::model
