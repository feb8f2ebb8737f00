// Stage moments: streaming statistics of the hidden values of what the router sends to each expert, over ALL tokens of
// all calibration images, in one more pass without storing activations: counts, means, variances and, if asked, the
// full second moments.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "config/field_list.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "moe/model_file.h"
#include "moe/router_fit.h"
#include "run/stage_graph.h"
#include "stages/moments/layer_moments.h"

namespace moextract::stages {

inline constexpr int kMomentsVersion = 5;

/// Which products are summed.
enum class Products { automatic, full, diagonal };

struct MomentsParams {
  Products products = Products::automatic;  ///< automatic: full where the choice of neurons or the fit needs it
  bool inputs = false;                      ///< second moments of x, too
  bool importance = true;                   ///< weigh tokens by how much the model's answer depends on them
  bool flip = false;                        ///< add each image mirrored, too
  std::int64_t shifts = 0;                  ///< add so many copies of each image, shifted by up to half a patch
  std::int64_t micro_batch = 20;            ///< images that one thread computes at once
  double memory_gb = 4.0;  ///< of a rank, for the sums; more layers than fit take another pass over the images
  std::uint64_t seed = 1;  ///< of the classes drawn from the model's own softmax
};
void describe(config::Section section, MomentsParams& params);

struct MomentsInputs {
  const moe::LoadedModel& model;
  const data::ImageSet& images;
  std::filesystem::path clusters;             ///< folder of the cluster stage
  std::vector<std::filesystem::path> shards;  ///< what it read: routers are fitted to it
  moe::RouterParams router;                   ///< kind settled
  bool class_token_apart = true;              ///< prefix tokens have statistics of their own and are not routed
  std::string identity;                       ///< of the model: stands in the files
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
};

/// Bytes of the sums of one layer of k experts and the prefix tokens: of `hidden` values, and of gradients (and inputs)
/// of `width`.
double moment_bytes(const MomentsParams& params, std::int64_t k, std::int64_t hidden, std::int64_t width);

/// Whether a layer has statistics: not if its MLP sees prefix tokens alone.
bool has_moments(const model::VitParams& vit, std::int64_t layer);

/// Collective. Micro-batches are dealt over the ranks; sums are integers, so the files' bytes do not depend on ranks or
/// threads. Layers go in groups that fit into memory_gb, one pass over the images each. Finished layers that are found
/// are kept. Layers whose MLP sees prefix tokens alone have no file.
nlohmann::json gather_moments(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context,
                              const std::filesystem::path& folder);

}  // namespace moextract::stages
