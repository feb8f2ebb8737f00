// The pass over the rows by LibTorch's operations: assignment and update of k-means on a GPU. Labels, centroids and
// inertia have the processor's bits: what the device's product cannot prove is decided on the host by exact arithmetic,
// and sums are integers.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

#include "cluster/lloyd_pass.h"

namespace moextract::cluster {

struct TensorPassSettings {
  at::Device device = at::kCPU;
  /// The words of a pass are reduced where they are, over NCCL, if the communicator reaches devices. Set for a GPU; a
  /// test whose "GPU memory" is the host's sets it for the CPU.
  bool as_device_memory = false;
  std::int64_t rows_bytes = std::int64_t{8} << 30;     ///< rows stay on the device if they are no larger
  std::int64_t scratch_bytes = std::int64_t{1} << 29;  ///< about what the products of a piece of the rows may take

  static TensorPassSettings of(const at::Device& device) {
    return {.device = device, .as_device_memory = !device.is_cpu()};
  }
};

/// For KMeansHooks::make_pass. Memory on the device: the rows if they are kept, 4 bytes a row for labels, the scratch,
/// and 8 bytes a centroid's value (16 for large values, exact_sums.h). No distance bounds are kept: each pass computes
/// all products. A pass throws what LibTorch throws when the device fails or its memory does not suffice.
MakePass make_tensor_passes(const TensorPassSettings& settings);

}  // namespace moextract::cluster
