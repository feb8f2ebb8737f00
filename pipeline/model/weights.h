// Named tensors in memory and on disk.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace moextract::model {

/// Tensors by the names of timm's state dict.
using TensorMap = std::map<std::string, at::Tensor>;
using Metadata = std::map<std::string, std::string>;

struct WeightsFile {
  TensorMap tensors;  ///< float tensors as float32; integer tensors as they are; own memory, on the CPU
  Metadata metadata;
};

/// Reads a safetensors file whole. Throws UserError (input) for a malformed file, (numerics) naming the tensor if a
/// value is NaN or infinite.
/// `keep_double`: float64 tensors stay float64 (statistics) instead of becoming float32 (weights).
WeightsFile load_weights(const std::filesystem::path& path, bool keep_double = false);

/// Writes tensors (CPU, float32 or integer) atomically; the same tensors and metadata give the same bytes. `checksum`:
/// see store::with_checksum().
void save_weights(const std::filesystem::path& path, const TensorMap& tensors, const Metadata& metadata,
                  bool checksum = false);

/// Sum of elements of all floating-point tensors. Buffers that hold positions (integer tensors) are not parameters.
std::int64_t count_parameters(const TensorMap& tensors);

}  // namespace moextract::model
