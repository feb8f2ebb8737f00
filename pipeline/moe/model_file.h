// A model, dense, pruned or with experts, from one safetensors file.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "model/description.h"
#include "model/network.h"
#include "model/vit.h"

namespace moextract::moe {

struct LoadedModel {
  model::ModelDescription description;
  model::TensorMap tensors;
  model::Metadata metadata;
  std::filesystem::path path;
};

/// Reads and checks a model file. `wanted`: the configuration's description, used for a foreign file (one without ours
/// in its metadata); our own files bring theirs. Throws UserError (input, model, numerics) naming file, tensor and both
/// shapes.
LoadedModel load_model(const std::filesystem::path& path, const std::optional<model::ModelDescription>& wanted);

/// Writes a file that holds all that is needed to run the model again.
void save_model(const std::filesystem::path& path, const model::ModelDescription& description,
                const model::TensorMap& tensors, model::Metadata metadata = {});

/// The network these tensors describe; `precision` is that of inference on a CPU.
std::unique_ptr<model::Network> make_network(const model::ModelDescription& description,
                                             const model::TensorMap& tensors,
                                             model::Precision precision = model::Precision::float32);

}  // namespace moextract::moe
