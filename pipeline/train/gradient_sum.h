// Sums of gradients that do not depend on who computed which part: every micro-batch's gradient is turned into integers
// (units of 2^-52), and integers add up to the same number in any order, on any number of threads and ranks.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "comm/communicator.h"
#include "model/device_tensors.h"

namespace moextract::train {

/// Where the sums are kept and how they travel between ranks.
struct GradientPlace {
  at::Device device = at::kCPU;
  /// By Communicator::all_reduce(DeviceSpan), over NCCL. Set for a GPU; a test whose "GPU memory" is the host's sets it
  /// for the CPU.
  bool as_device_memory = false;
  /// Computed by LibTorch's operators; so is all that is in a GPU's memory. Without as_device_memory sums travel
  /// through a copy in host memory.
  bool by_tensors = false;

  /// Of weights on `device`, which ranks of `comm` reach in its memory or through the host's.
  static GradientPlace of(const Device& device, const comm::Communicator& comm) {
    return {model::memory_of(device), device.kind == DeviceKind::cuda && comm.reaches_devices(), device.by_tensors()};
  }
};

class GradientSum {
 public:
  /// `length` gradient values plus `scalars` extra integers that travel in the same reduction; `parts` = number of
  /// micro-batches of the whole step over all ranks, which bounds what a part may hold. Memory: 8 bytes a value.
  GradientSum(std::int64_t length, std::int64_t scalars, std::int64_t parts, GradientPlace place = {});
  GradientSum(GradientSum&&) noexcept = default;
  GradientSum& operator=(GradientSum&&) noexcept = default;

  void clear();
  /// Adds values at `offset`. Returns false, adding nothing, if one is NaN or too large to be summed without overflow
  /// (magnitude 2^10 / parts and more: training has diverged).
  bool add(std::int64_t offset, std::span<const float> values);
  /// The same for a float32 tensor on the sum's device; computed there.
  bool add(std::int64_t offset, const at::Tensor& values);
  void add_scalar(std::int64_t index, std::int64_t value) { scalars_[static_cast<std::size_t>(index)] += value; }
  /// Adds another thread's sums, on the same device.
  void merge(const GradientSum& other);
  /// Collective: one all-reduce of 64-bit integers, where they are.
  void all_reduce(comm::Communicator& comm);

  /// The sums as float32 (one rounding), [length], where they are.
  at::Tensor values() const { return values(0, length_); }
  /// The same, in host memory.
  void read(std::int64_t offset, std::span<float> values) const;
  std::int64_t scalar(std::int64_t index) const { return scalars_[static_cast<std::size_t>(index)]; }

 private:
  at::Tensor values(std::int64_t offset, std::int64_t count) const;
  /// Computed with tensor operations; on the CPU plain loops are quicker and take no thread of LibTorch's own.
  bool by_tensors() const { return place_.as_device_memory || place_.by_tensors; }
  std::int64_t* data() const { return sums_.data_ptr<std::int64_t>(); }

  std::int64_t length_;
  float limit_;
  GradientPlace place_;
  at::Tensor sums_;                    ///< int64 [length + scalars]; the scalars' part is used while they travel
  std::vector<std::int64_t> scalars_;  ///< in host memory: they are added to one by one
};

}  // namespace moextract::train
