// Stage moments: second moments of the hidden values of what the router sends to each expert, over ALL tokens of all
// calibration images, in one more pass without storing activations.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/model_file.h"
#include "moe/second_moments.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kMomentsVersion = 4;

struct MomentsParams {
  bool importance = true;         ///< weigh tokens by how much the model's answer depends on them
  bool flip = false;              ///< add each image mirrored, too
  std::int64_t micro_batch = 20;  ///< images that one thread computes at once
  double memory_gb = 4.0;         ///< of a rank, for the sums; more layers than fit take another pass over the images
  std::uint64_t seed = 1;         ///< of the classes drawn from the model's own softmax
};
void describe(config::Section section, MomentsParams& params);

struct MomentsInputs {
  const moe::LoadedModel& model;
  const data::ImageSet& images;
  std::filesystem::path clusters;  ///< folder of a cluster stage on tap x: the router is the nearest centroid
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
};

/// What the stage leaves of one layer.
struct LayerMoments {
  at::Tensor keys, key_bias;                ///< the router: [k, d], [k] float32
  std::vector<moe::SecondMoments> experts;  ///< k routed experts, then the prefix tokens (class token)
  at::Tensor directions;     ///< [k + 1, d, d] double: second moments of the gradients' directions, of each
                             ///< expert's tokens, trace 1; undefined without importance
  double mean_gradient = 0;  ///< mean over patch tokens of |d log p(y) / d y_l|^2; 0 without importance
};
/// Throws UserError (input) if the file is damaged.
LayerMoments load_layer_moments(const std::filesystem::path& folder, std::int64_t layer);

/// Bytes of the sums of one layer: of `hidden` values, and of gradients of `width`.
double moment_bytes(std::int64_t k, std::int64_t hidden, std::int64_t width);

/// Collective. Micro-batches are dealt over the ranks; sums are integers, so the files' bytes do not depend on ranks or
/// threads. Finished layers that are found are kept. Layers whose MLP sees prefix tokens alone have no file.
nlohmann::json gather_moments(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context,
                              const std::filesystem::path& folder);

}  // namespace moextract::stages
