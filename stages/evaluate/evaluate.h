// Stage evaluate: exact top-1 and top-5, MACs, parameters, token shares, and measured speed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kEvaluateVersion = 1;

struct EvaluateInputs {
  const moe::LoadedModel& model;
  const data::ImageSet& images;
  std::int64_t micro_batch = 8;
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
};

inline constexpr const char* kEvaluationFile =
    "evaluation.json";                                     ///< counts: the same on any number of ranks and threads
inline constexpr const char* kTimingFile = "timing.json";  ///< measured here and now

/// Collective. Images are dealt over the ranks by micro-batches; a rank may get none. The number of images that were
/// counted is asserted to be all of them. A picture is right (top-n) if fewer than n classes have a larger logit than
/// its label, equal logits counting for the class with the lower index. Throws UserError (numerics) if a logit is not
/// finite.
nlohmann::json evaluate(const EvaluateInputs& inputs, run::Context& context, const std::filesystem::path& folder);

}  // namespace moextract::stages
