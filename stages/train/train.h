// Stage train: a Vision Transformer from scratch, with the trainer that fine-tuning uses.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/description.h"
#include "model/input_batch.h"
#include "run/stage_graph.h"
#include "train/trainer.h"

namespace moextract::stages {

inline constexpr int kTrainVersion = 1;

/// Fields of the trainer that both train and finetune have. `distilled`: those of the distillation too.
void describe_trainer(config::Section& section, train::TrainerParams& params, bool distilled);

struct TrainParams {
  train::TrainerParams trainer;
  TrainParams();
};
void describe(config::Section section, TrainParams& params);

struct TrainInputs {
  const model::ModelDescription& description;
  const data::ImageSet& images;
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
};

/// Runs the trainer with a progress line, a checkpoint in `folder` that is removed in the end, training.json (loss and
/// learning rate of each step) and the run's stop flag. Collective.
train::TrainingOutcome run_trainer(train::TrainingTask task, const train::TrainerParams& params,
                                   const std::string& label, run::Context& context,
                                   const std::filesystem::path& folder);

inline constexpr const char* kTrainingFile = "training.json";

/// Collective. Writes model.safetensors and training.json.
nlohmann::json train_model(const TrainParams& params, const TrainInputs& inputs, run::Context& context,
                           const std::filesystem::path& folder);

}  // namespace moextract::stages
