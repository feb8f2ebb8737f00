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
#include "moe/second_moments.h"
#include "run/stage_graph.h"

namespace moextract::stages {

inline constexpr int kMomentsVersion = 5;

/// Which products are summed.
enum class Products { automatic, full, diagonal };

struct MomentsParams {
  Products products = Products::automatic;  ///< automatic: full where the choice of neurons or the fit needs it
  bool inputs = false;                      ///< second moments of x, too
  bool importance = true;                   ///< weigh tokens by how much the model's answer depends on them
  bool flip = false;                        ///< add each image mirrored, too
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

/// Statistics of one layer, streamed or recorded.
struct LayerMoments {
  moe::RouterWeights router;
  std::vector<moe::SecondMoments>
      experts;  ///< k routed experts, then the prefix tokens (class token) if they are apart
  bool prefix_apart = false;
  std::vector<double> token_share;  ///< [experts] share of the layer's tokens that each gets; of the prefix tokens too
  double agreement = -1;            ///< of router and clusters, negative: unknown
  at::Tensor directions;            ///< [experts, d, d] double: second moments of the gradients' directions, of each
                                    ///< expert's tokens, trace 1; undefined without importance
  double mean_gradient = 0;         ///< mean over patch tokens of |d log p(y) / d y_l|^2; 0 without importance
  std::string identity, tap;        ///< of the model, and of what was clustered; empty: not said

  std::int64_t k() const { return router.experts(); }
};
/// Throws UserError (input) if the file is damaged.
LayerMoments load_layer_moments(const std::filesystem::path& folder, std::int64_t layer);

/// Bytes of the sums of one layer of k experts and the prefix tokens: of `hidden` values, and of gradients (and inputs)
/// of `width`.
double moment_bytes(const MomentsParams& params, std::int64_t k, std::int64_t hidden, std::int64_t width);

/// Collective. Micro-batches are dealt over the ranks; sums are integers, so the files' bytes do not depend on ranks or
/// threads. Layers go in groups that fit into memory_gb, one pass over the images each. Finished layers that are found
/// are kept. Layers whose MLP sees prefix tokens alone have no file.
nlohmann::json gather_moments(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context,
                              const std::filesystem::path& folder);

}  // namespace moextract::stages
