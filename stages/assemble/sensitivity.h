// What compressing one layer alone does to the model's answers, measured.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "data/image_set.h"
#include "model/weights.h"
#include "moe/model_file.h"
#include "run/stage_graph.h"

namespace moextract::stages {

/// Collective. For each layer the mean over the first `images` images of the divergence KL(dense || model in which this
/// layer's MLP alone is replaced), in nats. `trial`: tensors of all trial layers by their names in the model. Images
/// are dealt over the ranks; sums are taken in their order, so that results do not depend on ranks.
std::vector<double> measure_divergence(const moe::LoadedModel& model, std::span<const std::int64_t> layers,
                                       const model::TensorMap& trial, const data::ImageSet& set, std::int64_t images,
                                       std::int64_t micro_batch, run::Context& context);

}  // namespace moextract::stages
