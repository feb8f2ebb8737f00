// Stage collect: runs the model over the calibration images and records, for a sample of tokens, the input x and the
// post-GELU h of every MLP, or one of the two.
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
#include "run/stage_graph.h"
#include "store/activation_shard.h"

namespace moextract::stages {

inline constexpr int kCollectVersion = 3;

enum class ClassToken { sampled, always, never };
enum class CollectTaps { both, x, h };

struct CollectParams {
  std::int64_t tokens_per_image = 16;            ///< recorded tokens of an image; 0: all
  ClassToken class_token = ClassToken::sampled;  ///< the class token (and DeiT's distillation token)
  CollectTaps taps = CollectTaps::both;
  std::int64_t images_per_shard = 256;
  store::Compression compression = store::Compression::none;
  std::uint64_t seed = 1;
  std::int64_t read_threads = 0;    ///< of a rank, besides its others; 0: as many as it has threads
  std::int64_t decode_threads = 0;  ///< of a rank; 0: whatever is needed
  double memory_gb = 1.0;           ///< for micro-batches underway, of a rank
};
void describe(config::Section section, CollectParams& params);

struct CollectInputs {
  const moe::LoadedModel& model;
  std::string model_hash;
  const data::ImageSet& images;
  std::int64_t micro_batch = 8;
  model::BadImages bad_images = model::BadImages::stop;
  double max_bad_share = 0.0;
  model::Precision precision = model::Precision::float32;
};

/// Whether collect.taps names this tap.
bool records(const CollectParams& params, store::Tap tap);

/// Positions recorded of an image, ascending: drawn from the seed and the image's name alone.
std::vector<std::int32_t> choose_tokens(const CollectParams& params, const model::VitParams& vit,
                                        const std::string& image_id);

/// Paths of the shards of a collect artefact, in the order of the images.
std::vector<std::filesystem::path> shard_paths(const std::filesystem::path& folder, std::int64_t images,
                                               const CollectParams& params);

/// Throws UserError (input) naming the shard and what differs if one is not what collect makes at its place: it is of
/// another model, image set or seed, or of other images of the set. Opens each.
void check_shards(std::span<const std::filesystem::path> paths, const std::string& model_hash,
                  const data::ImageSet& images, const CollectParams& params);

/// The file of a collect artefact that names every picture left out; there if there are any.
inline constexpr const char* kBadImagesFile = "bad_images.json";

/// Throws UserError (input), as collect does, if more pictures were left out than max_bad_share allows now. `counts`
/// are those of the finished artefact in `folder`.
void check_bad_share(const nlohmann::json& counts, double max_bad_share, const std::filesystem::path& folder);

/// Collective. Shards are dealt over the ranks; finished ones that are found in `folder` are checked and kept. On each
/// rank, reading, decoding, the forward pass and writing run at the same time (flow.h). The shards' bytes do not depend
/// on the number of ranks or threads. Returns counts {images, skipped, rows, shards, shards_found, thread_seconds}.
nlohmann::json collect(const CollectParams& params, const CollectInputs& inputs, run::Context& context,
                       const std::filesystem::path& folder);

}  // namespace moextract::stages
