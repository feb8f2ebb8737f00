#include "moe/device_model.h"

#include "model/device_tensors.h"

namespace moextract::moe {

model::TensorMap to_device(const model::TensorMap& tensors, const Device& device) {
  model::TensorMap there;
  for (const auto& [name, tensor] : tensors) {
    const bool moves = tensor.is_floating_point() || name.ends_with(".experts.rows");
    there.emplace(name, moves ? model::to_device(tensor, device) : tensor);
  }
  return there;
}

LoadedModel to_device(const LoadedModel& model, const Device& device) {
  return {model.description, to_device(model.tensors, device), model.metadata, model.path};
}

}  // namespace moextract::moe
