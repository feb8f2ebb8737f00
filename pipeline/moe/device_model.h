// A model's tensors in a device's memory.
#pragma once

#include "core/device.h"
#include "moe/model_file.h"

namespace moextract::moe {

/// Weights, and the rows that experts gather, in the device's memory; the small tables that the host reads (offsets,
/// prefix, top) stay with it. Tensors that are there already are shared.
model::TensorMap to_device(const model::TensorMap& tensors, const Device& device);
LoadedModel to_device(const LoadedModel& model, const Device& device);

}  // namespace moextract::moe
