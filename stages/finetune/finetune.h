// Stage finetune: recovers accuracy of an assembled model by distillation from the dense one.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"
#include "train/trainer.h"

namespace moextract::stages {

inline constexpr int kFinetuneVersion = 2;

struct FinetuneParams {
  bool enabled = true;
  bool baseline = true;  ///< fine-tune the VBP baseline too, with the same recipe
  train::TrainerParams trainer;
};
void describe(config::Section section, FinetuneParams& params);

struct FinetuneInputs {
  const moe::LoadedModel& dense;  ///< the teacher
  const moe::LoadedModel& start;  ///< what is fine-tuned
  const data::ImageSet& images;
  model::BadImages bad_images = model::BadImages::stop;
};

/// Collective. Writes model.safetensors and training.json. Routing keys are not trained: a top-1 choice has no
/// gradient.
nlohmann::json finetune(const FinetuneParams& params, const FinetuneInputs& inputs, run::Context& context,
                        const std::filesystem::path& folder);

}  // namespace moextract::stages
