#include "stages/finetune/finetune.h"

#include "moe/device_model.h"
#include "stages/assemble/assemble.h"
#include "stages/train/train.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;

void describe(config::Section section, FinetuneParams& p) {
  section.add("enabled", &p.enabled, "Whether there is fine-tuning at all");
  section.add("baseline", &p.baseline, "Fine-tune the VBP baseline too, with the same recipe");
  describe_trainer(section, p.trainer, true);
}

json finetune(const FinetuneParams& params, const FinetuneInputs& inputs, run::Context& context,
              const fs::path& folder) {
  const auto teacher =
      moe::make_network(inputs.dense.description, moe::to_device(inputs.dense.tensors, context.device));
  train::TrainingTask task;
  task.images = &inputs.images;
  task.preprocess = inputs.start.description.preprocess;
  task.start = moe::to_device(inputs.start.tensors, context.device);
  task.teacher = teacher.get();
  task.make_network = [&](const model::TensorMap& tensors) {
    return moe::make_network(inputs.start.description, tensors);
  };
  task.device = context.device;
  task.skip_bad_images = inputs.bad_images == model::BadImages::skip;
  const train::TrainingOutcome outcome = run_trainer(std::move(task), params.trainer, "finetune", context, folder);
  context.comm.together([&] {
    if (context.comm.is_root()) {
      moe::save_model(folder / kModelFile, inputs.start.description, outcome.tensors, inputs.start.metadata);
    }
  });
  return {{"steps", outcome.history.size()},
          {"skipped", outcome.skipped_images},
          {"final_loss", outcome.history.empty() ? 0.0 : outcome.history.back().loss}};
}

}  // namespace moextract::stages
