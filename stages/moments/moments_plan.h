// What a moments run will take: passes over the images, time and memory, from the configuration alone.
#pragma once

#include <cstdint>
#include <optional>

#include "model/vit_params.h"
#include "stages/moments/moments.h"

namespace moextract::stages {

struct MomentsScale {
  std::int64_t images = 0;
  int ranks = 1, threads = 1;                      ///< threads of a rank
  std::optional<double> rank_rate = std::nullopt;  ///< images a second of ONE rank in one pass, measured
};

struct MomentsPlan {
  std::int64_t layers = 0;        ///< that have statistics
  std::int64_t passes = 0;        ///< over the images
  std::int64_t rank_images = 0;   ///< of the busiest rank in one pass: whole micro-batches
  std::optional<double> seconds;  ///< of the busiest rank in all passes, routers' fit left out; needs a rate
  // Memory of a rank.
  double weights = 0;    ///< and their copy laid out for our products
  double sums = 0;       ///< of the layers of one pass, and a number for each of these and image
  double traces = 0;     ///< micro-batches on each thread, with the graph of the gradients: an estimate
  double root_file = 0;  ///< of rank 0 besides, while it writes a layer
  double memory() const { return weights + sums + traces; }
};

/// `params.products` settled; `k`: routed experts of a layer.
MomentsPlan plan_moments(const MomentsParams& params, const model::VitParams& vit, std::int64_t k,
                         const MomentsScale& scale);

}  // namespace moextract::stages
