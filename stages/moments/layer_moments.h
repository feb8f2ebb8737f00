// Statistics of one layer, streamed or recorded: what assemble reads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "moe/expert_router.h"
#include "moe/second_moments.h"

namespace moextract::stages {

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

std::filesystem::path layer_moments_path(const std::filesystem::path& folder, std::int64_t layer);
/// In the file's metadata: JSON of the model's identity and the tap.
inline constexpr const char* kMomentsIdentityKey = "moextract.moments";

/// Throws UserError (input) if the file is damaged or its tensors do not fit together, (numerics) if they hold NaN or
/// infinity.
LayerMoments load_layer_moments(const std::filesystem::path& folder, std::int64_t layer);

}  // namespace moextract::stages
