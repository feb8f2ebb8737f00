#include "stages/collect/collect_plan.h"

#include <algorithm>

namespace moextract::stages {
namespace {

constexpr double kChunkBytes = 256 * 1024;

double recorded_width(const CollectParams& params, const model::VitParams& vit) {
  return static_cast<double>((records(params, store::Tap::x) ? vit.width : 0) +
                             (records(params, store::Tap::h) ? vit.hidden : 0));
}

double tokens_of_image(const CollectParams& params, const model::VitParams& vit) {
  return static_cast<double>(choose_tokens(params, vit, "").size());
}

}  // namespace

double weight_bytes(const model::VitParams& vit) {
  const auto d = static_cast<double>(vit.width), hidden = static_cast<double>(vit.hidden);
  const auto patch = static_cast<double>(vit.channels * vit.patch_size * vit.patch_size);
  return 4 * (static_cast<double>(vit.depth) * (4 * d * d + 2 * d * hidden) +
              d * (patch + static_cast<double>(vit.tokens() + vit.classes)));
}

double micro_batch_bytes(const CollectParams& params, const model::ModelDescription& model, std::int64_t micro_batch,
                         double image_bytes) {
  const model::VitParams& vit = model.vit;
  const auto pixels = static_cast<double>(vit.channels * vit.image_size * vit.image_size);
  const double rows = tokens_of_image(params, vit) * static_cast<double>(vit.depth) * recorded_width(params, vit);
  return static_cast<double>(micro_batch) * (image_bytes + pixels * 4 + rows * 2);
}

std::int64_t micro_batches_underway(const CollectParams& params, const model::ModelDescription& model,
                                    std::int64_t micro_batch, double image_bytes, int threads) {
  const double fit = params.memory_gb * 1e9 / micro_batch_bytes(params, model, micro_batch, image_bytes);
  return static_cast<std::int64_t>(std::clamp(fit, threads + 1.0, 4.0 * threads + 1));
}

CollectPlan plan_collect(const CollectParams& params, const model::ModelDescription& model, std::int64_t micro_batch,
                         const CollectScale& scale) {
  const model::VitParams& vit = model.vit;
  CollectPlan plan;
  const double tokens = tokens_of_image(params, vit);
  plan.rows = scale.images * static_cast<std::int64_t>(tokens);
  plan.files = (scale.images + params.images_per_shard - 1) / params.images_per_shard;
  // Of a row: its values, its image (8 bytes) and its token (4).
  plan.bytes = static_cast<double>(plan.rows) * (static_cast<double>(vit.depth) * recorded_width(params, vit) * 2 + 12);
  const std::int64_t rank_shards = (plan.files + scale.ranks - 1) / scale.ranks;
  plan.rank_images = std::min(rank_shards * params.images_per_shard, scale.images);
  if (scale.rank_rate) plan.seconds = static_cast<double>(plan.rank_images) / *scale.rank_rate;
  plan.weights = 2 * weight_bytes(vit);
  plan.underway =
      static_cast<double>(micro_batches_underway(params, model, micro_batch, scale.image_bytes, scale.threads)) *
      micro_batch_bytes(params, model, micro_batch, scale.image_bytes);
  // At the widest point of a block: x, its norm, q, k and v, the mix, the hidden values, the sum.
  plan.activations = static_cast<double>(scale.threads * micro_batch * vit.tokens()) * 4 *
                     static_cast<double>(8 * vit.width + 2 * vit.hidden);
  const double taps = params.taps == CollectTaps::both ? 2 : 1;
  plan.buffers = taps * static_cast<double>(vit.depth) * kChunkBytes;
  return plan;
}

}  // namespace moextract::stages
