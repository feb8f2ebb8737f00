#include "stages/moments/moments_plan.h"

#include <algorithm>
#include <cmath>

#include "stages/collect/collect_plan.h"

namespace moextract::stages {

MomentsPlan plan_moments(const MomentsParams& params, const model::VitParams& vit, std::int64_t k,
                         const MomentsScale& scale) {
  MomentsPlan plan;
  for (std::int64_t layer = 0; layer < vit.depth; ++layer) plan.layers += has_moments(vit, layer) ? 1 : 0;
  const double layer_bytes = moment_bytes(params, k, vit.hidden, vit.width);
  const auto group = static_cast<std::int64_t>(
      std::clamp(std::floor(params.memory_gb * 1e9 / layer_bytes), 1.0, std::max(1.0, double(plan.layers))));
  plan.passes = (plan.layers + group - 1) / group;
  const std::int64_t batches = (scale.images + params.micro_batch - 1) / params.micro_batch;
  plan.rank_images = std::min((batches + scale.ranks - 1) / scale.ranks * params.micro_batch, scale.images);
  if (scale.rank_rate) plan.seconds = static_cast<double>(plan.passes * plan.rank_images) / *scale.rank_rate;

  const auto images = static_cast<double>(scale.images), threads = static_cast<double>(scale.threads),
             micro_batch = static_cast<double>(std::min(params.micro_batch, std::max<std::int64_t>(scale.images, 1))),
             d = static_cast<double>(vit.width), hidden = static_cast<double>(vit.hidden);
  plan.weights = 2 * weight_bytes(vit);
  plan.sums = static_cast<double>(group) * (layer_bytes + 8 * images);
  // Of all layers x and h, and with importance what the way back needs: for vit_tiny twice as much again. One layer's
  // products of one expert.
  const double values = micro_batch * static_cast<double>(vit.tokens() * vit.depth) * (d + hidden) * 4;
  const double products = params.products == Products::full ? hidden * hidden * 4 : 0;
  plan.traces = threads * (values * (params.importance ? 3 : 1) + products);
  // Covariances expert by expert, then as one tensor; of gradients and inputs, too.
  double squares = params.products == Products::full ? hidden * hidden : hidden;
  if (params.importance) squares += d * d;
  if (params.inputs) squares += d * d;
  plan.root_file = 2 * 8 * static_cast<double>(k + 1) * squares;
  return plan;
}

}  // namespace moextract::stages
