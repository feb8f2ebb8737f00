#include "stages/train/train.h"

#include "core/error.h"
#include "core/file.h"
#include "model/vit.h"
#include "moe/device_model.h"
#include "moe/model_file.h"
#include "run/progress.h"
#include "stages/assemble/assemble.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;

void describe_trainer(config::Section& section, train::TrainerParams& p, bool distilled) {
  section.add("steps", &p.steps, "Optimiser steps; 0: from epochs").at_least(0).in("steps");
  section.add("epochs", &p.epochs, "Passes over the training images, where steps is 0").at_least(0).in("epochs");
  section.add("batch", &p.batch, "Images of a step, over all ranks").at_least(1).in("images");
  section.add("micro_batch", &p.micro_batch, "Images that one thread computes at once; part of the result's last bits")
      .at_least(1)
      .in("images");
  section.add("learning_rate", &p.learning_rate, "Peak learning rate of AdamW").at_least(0);
  section.add("warmup_share", &p.warmup_share, "Share of the steps in which the rate rises linearly")
      .at_least(0)
      .at_most(1);
  section.add("floor_share", &p.floor_share, "Final rate as a share of the peak, reached by a cosine")
      .at_least(0)
      .at_most(1);
  section.add("weight_decay", &p.weight_decay, "Decoupled; not applied to biases, norms, positions and class tokens")
      .at_least(0);
  section.add("clip_norm", &p.clip_norm, "Largest Euclidean norm of the gradient; 0: no clipping").at_least(0);
  if (distilled) {
    section
        .add("distill_weight", &p.distill_weight,
             "Weight of the divergence from the dense model; the labels have the rest")
        .at_least(0)
        .at_most(1);
    section.add("temperature", &p.temperature, "Temperature of the distillation").at_least(1e-3);
  }
  section.add("label_smoothing", &p.label_smoothing, "Share of a label's weight spread over all classes")
      .at_least(0)
      .at_most(1);
  section.add("flip", &p.augment.flip, "Mirror pictures left-right with probability one half");
  section.add("shift", &p.augment.shift, "Shift pictures by up to this much each way").at_least(0).in("pixels");
  section.add("erase", &p.augment.erase, "Probability that one rectangle of a picture is blackened")
      .at_least(0)
      .at_most(1);
  section.add("checkpoint_every", &p.checkpoint_every, "Steps between checkpoints; 0: only when asked to stop")
      .at_least(0)
      .in("steps")
      .runtime_only();
  section.add("seed", &p.seed, "Seed of weights, order and augmentation");
}

TrainParams::TrainParams() {
  trainer.epochs = 20;
  trainer.batch = 128;
  trainer.micro_batch = 32;
  trainer.learning_rate = 1e-3;
  trainer.weight_decay = 0.05;
}

void describe(config::Section section, TrainParams& params) {
  describe_trainer(section, params.trainer, false);
}

train::TrainingOutcome run_trainer(train::TrainingTask task, const train::TrainerParams& params,
                                   const std::string& label, run::Context& context, const fs::path& folder) {
  const std::int64_t steps = train::training_steps(params, task.images->size());
  run::Progress progress(context.comm.is_root() ? context.log : nullptr, label, steps, "steps");
  task.checkpoint = folder / "checkpoint.safetensors";
  task.checkpoint_key = folder.filename().string();
  task.should_stop = context.should_stop;
  task.on_step = [&](const train::TrainingRecord& record, std::int64_t) {
    progress.add(1, fmt::format("loss {:.4f}", record.loss));
  };
  train::TrainingOutcome outcome = train::train(task, params, context.comm, context.workers);
  if (outcome.resumed_from > 0) context.log->info("{}: resumed from step {}", label, outcome.resumed_from);
  context.comm.together([&] {
    if (!context.comm.is_root()) return;
    json step = json::array(), loss = json::array(), rate = json::array(), norm = json::array();
    for (const train::TrainingRecord& record : outcome.history) {
      step.push_back(record.step);
      loss.push_back(record.loss);
      rate.push_back(record.learning_rate);
      norm.push_back(record.gradient_norm);
    }
    const json training{{"step", step},
                        {"loss", loss},
                        {"learning_rate", rate},
                        {"gradient_norm", norm},
                        {"skipped_images", outcome.skipped_images}};
    write_file_atomically(folder / kTrainingFile, training.dump() + "\n");
    fs::remove(task.checkpoint);
  });
  return outcome;
}

json train_model(const TrainParams& params, const TrainInputs& inputs, run::Context& context, const fs::path& folder) {
  if (inputs.images.classes() > inputs.description.vit.classes) {
    fail(ExitCode::config, "model.classes: {}, but the training images have {} classes", inputs.description.vit.classes,
         inputs.images.classes());
  }
  train::TrainingTask task;
  task.images = &inputs.images;
  task.preprocess = inputs.description.preprocess;
  task.start = moe::to_device(model::initial_vit_tensors(inputs.description.vit, params.trainer.seed), context.device);
  task.make_network = [&](const model::TensorMap& tensors) { return moe::make_network(inputs.description, tensors); };
  task.device = context.device;
  task.skip_bad_images = inputs.bad_images == model::BadImages::skip;
  const train::TrainingOutcome outcome = run_trainer(std::move(task), params.trainer, "train", context, folder);
  context.comm.together([&] {
    if (context.comm.is_root()) moe::save_model(folder / kModelFile, inputs.description, outcome.tensors);
  });
  return {{"steps", outcome.history.size()},
          {"images", inputs.images.size()},
          {"skipped", outcome.skipped_images},
          {"final_loss", outcome.history.empty() ? 0.0 : outcome.history.back().loss}};
}

}  // namespace moextract::stages
