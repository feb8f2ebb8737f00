// What a rank computes models on. The noun alone, without LibTorch or CUDA: see model/device.h for what can be done
// with one.
#pragma once

#include <string>
#include <string_view>

namespace moextract {

enum class DeviceKind {
  cpu,           ///< packed products of ours and loops over the host's memory
  libtorch_cpu,  ///< the path of a GPU, operator by operator, on LibTorch's CPU: for tests
  cuda           ///< a GPU, by LibTorch's operators
};

constexpr std::string_view name_of(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::libtorch_cpu:
      return "libtorch_cpu";
    case DeviceKind::cuda:
      return "cuda";
    case DeviceKind::cpu:
      break;
  }
  return "cpu";
}

/// A device of this process.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;  ///< of a GPU, as this process numbers them

  /// Whether models are computed by LibTorch's operators, on tensors that may not be the host's to read.
  constexpr bool by_tensors() const { return kind != DeviceKind::cpu; }
  /// "cpu", "cuda:1"
  std::string text() const {
    return std::string(name_of(kind)) + (kind == DeviceKind::cuda ? ":" + std::to_string(index) : "");
  }
  friend constexpr bool operator==(const Device&, const Device&) = default;
};

}  // namespace moextract
