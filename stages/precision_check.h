// Whether a model's answers survive a reduced precision: the first images of a set, computed both ways.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"

namespace moextract::stages {

/// Images of a set that the dense model is checked on: one in 64, at least 16 and at most 64.
std::int64_t precision_sample(std::int64_t images);

struct PrecisionCheck {
  std::int64_t images = 0;
  std::int64_t agreeing = 0;  ///< the same class is the first
  std::int64_t right = 0;     ///< top-1 in the given precision
  std::int64_t right_float32 = 0;
  double largest_difference = 0;  ///< of a logit
};
nlohmann::json to_json(const PrecisionCheck& check, model::Precision precision);

/// Collective. The first `sample` images, dealt over ranks and threads by micro-batches, in `precision` and in float32;
/// pictures that cannot be decoded are left out. Logs the outcome under the name of `stage`; a warning if less than 95
/// of 100 answers agree. In float32 nothing is computed and all counts are 0.
PrecisionCheck check_precision(const moe::LoadedModel& model, model::Precision precision, const data::ImageSet& images,
                               std::int64_t micro_batch, std::int64_t sample, const char* stage, run::Context& context);

}  // namespace moextract::stages
