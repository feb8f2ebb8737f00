// What a collect run will take: bytes, files, time and memory, from the configuration alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "model/description.h"
#include "stages/collect/collect.h"

namespace moextract::stages {

/// What the plan is made for; the defaults are this configuration's.
struct CollectScale {
  std::int64_t images = 0;
  int ranks = 1, threads = 1;                      ///< threads of a rank
  std::optional<double> rank_rate = std::nullopt;  ///< images a second of ONE rank, measured
  double image_bytes = 0;                          ///< of a picture's file, on average
};

struct CollectPlan {
  std::int64_t rows = 0;          ///< of each layer and tap
  std::int64_t files = 0;         ///< shards
  double bytes = 0;               ///< of all shards, without HDF5's own (below a thousandth)
  std::int64_t rank_images = 0;   ///< of the busiest rank: whole shards
  std::optional<double> seconds;  ///< of the busiest rank, model loading left out; needs a rate
  // Memory of a rank.
  double weights = 0;      ///< and their copy laid out for our products
  double underway = 0;     ///< micro-batches between file and shard, at most
  double activations = 0;  ///< of a forward pass on each thread: an estimate
  double buffers = 0;      ///< chunks that fill up before they are written
  double memory() const { return weights + underway + activations + buffers; }
};

CollectPlan plan_collect(const CollectParams& params, const model::ModelDescription& model, std::int64_t micro_batch,
                         const CollectScale& scale);

/// Bytes of the float32 weights of the encoder, the embedding and the head; biases and norms are left out.
double weight_bytes(const model::VitParams& vit);

/// Bytes of one micro-batch's files (of image_bytes each, on average), decoded images and recorded rows.
double micro_batch_bytes(const CollectParams& params, const model::ModelDescription& model, std::int64_t micro_batch,
                         double image_bytes);

/// How many micro-batches a rank has underway at most: what collect.memory_gb allows, but more than threads and no more
/// than four for each.
std::int64_t micro_batches_underway(const CollectParams& params, const model::ModelDescription& model,
                                    std::int64_t micro_batch, double image_bytes, int threads);

}  // namespace moextract::stages
