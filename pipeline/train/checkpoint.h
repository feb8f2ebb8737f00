// What training needs to go on after an interruption.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "model/weights.h"
#include "train/trainer.h"

namespace moextract::train {

struct Checkpoint {
  std::string key;        ///< of the run
  std::int64_t step = 0;  ///< steps done
  std::int64_t skipped_images = 0;
  model::TensorMap tensors, first_moments, second_moments;
  std::vector<TrainingRecord> history;
};

/// Atomic: an interrupted save leaves the one before.
void save_checkpoint(const std::filesystem::path& path, const Checkpoint& checkpoint);

/// Empty if there is no file. A checkpoint that is damaged (input) or of another run (conflict) is an error that says
/// to delete it.
std::optional<Checkpoint> load_checkpoint(const std::filesystem::path& path, const std::string& key);

}  // namespace moextract::train
