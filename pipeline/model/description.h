// What must be known beside the tensors to run a model: its shape and its preprocessing. Stands in the metadata of our
// own model files, under the key "moextract.model".
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "data/preprocess.h"
#include "model/vit_params.h"
#include "model/weights.h"

namespace moextract::model {

struct ModelDescription {
  std::string name;  ///< timm's name, or the user's
  VitParams vit;
  data::PreprocessParams preprocess;
};

inline constexpr const char* kDescriptionKey = "moextract.model";

nlohmann::json to_json(const ModelDescription& description);
/// Throws UserError (input) naming `origin` and the member that is missing or of the wrong kind.
ModelDescription description_from_json(const nlohmann::json& json, const std::string& origin);
/// The description in a file's metadata, if it has one.
std::optional<ModelDescription> find_description(const Metadata& metadata, const std::string& origin);

}  // namespace moextract::model
