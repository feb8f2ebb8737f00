#include "stages/collect/collect.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <future>
#include <memory>
#include <numeric>

#include "core/error.h"
#include "core/float16.h"
#include "core/hash.h"
#include "core/random.h"
#include "run/progress.h"
#include "store/activation_shard.h"

namespace moextract::stages {
namespace fs = std::filesystem;
namespace {

std::int64_t shard_count(std::int64_t images, const CollectParams& params) {
  return (images + params.images_per_shard - 1) / params.images_per_shard;
}

/// What one micro-batch adds to a shard.
struct Recorded {
  std::vector<store::ShardImage> images;
  std::vector<std::vector<std::uint16_t>> rows;  // [2 * layer + tap]
  std::vector<std::string> skipped;
};

/// Rows `index` of [images, tokens, width] activations as float16.
std::vector<std::uint16_t> take_rows(const at::Tensor& activations, const at::Tensor& index) {
  const at::Tensor rows = activations.reshape({-1, activations.size(-1)}).index_select(0, index).contiguous();
  std::vector<std::uint16_t> half(static_cast<std::size_t>(rows.numel()));
  to_float16({rows.const_data_ptr<float>(), half.size()}, half);
  return half;
}

class Collector {
 public:
  Collector(const CollectParams& params, const CollectInputs& inputs, run::Context& context, const fs::path& folder)
      : params_(params),
        inputs_(inputs),
        context_(context),
        network_(moe::make_network(inputs.model.description, inputs.model.tensors)),
        paths_(shard_paths(folder, inputs.images.size(), params)) {}

  nlohmann::json run() {
    std::vector<std::int64_t> mine;
    const auto shards = static_cast<std::int64_t>(paths_.size());
    for (std::int64_t s = context_.comm.rank(); s < shards; s += context_.comm.size()) mine.push_back(s);
    const std::int64_t my_images =
        std::accumulate(mine.begin(), mine.end(), std::int64_t{0},
                        [&](std::int64_t sum, std::int64_t s) { return sum + info(s).image_count; });
    enum Count { images, skipped, rows, found, count };
    std::vector<std::int64_t> counts(Count::count, 0);
    std::vector<std::string> skipped_messages;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "collect", my_images,
                             "images of this rank");
      std::vector<std::int64_t> missing;
      for (const std::int64_t s : mine) {
        if (!is_finished(s)) {
          missing.push_back(s);
          continue;
        }
        const store::ShardReader shard(paths_[static_cast<std::size_t>(s)]);
        ++counts[found];
        const auto recorded = static_cast<std::int64_t>(shard.images().size());
        counts[images] += recorded;
        counts[skipped] += shard.info().image_count - recorded;
        counts[rows] += shard.rows();
      }
      // A shard is written while the next one is computed. HDF5 is used by one thread at a time: nothing here reads
      // shards from now on, and a write ends before the next begins. On an exception the last write is waited for, so
      // its shard is kept.
      std::future<void> writing;
      for (const std::int64_t s : missing) {
        if (context_.should_stop()) {
          fail(ExitCode::resume,
               "collect was asked to stop; finished shards are kept. Run the same command again to go on");
        }
        auto recorded = std::make_shared<std::vector<Recorded>>(compute_shard(s, progress));
        for (const Recorded& part : *recorded) {
          counts[images] += static_cast<std::int64_t>(part.images.size());
          counts[skipped] += static_cast<std::int64_t>(part.skipped.size());
          for (const store::ShardImage& image : part.images)
            counts[rows] += static_cast<std::int64_t>(image.tokens.size());
          for (const std::string& message : part.skipped) {
            context_.log->warn("left out: {}", message);
            skipped_messages.push_back(message);
          }
        }
        if (writing.valid()) writing.get();
        writing = std::async(std::launch::async, [this, s, recorded] { write_shard(s, *recorded); });
      }
      if (writing.valid()) writing.get();
    });
    context_.comm.all_reduce(std::span<std::int64_t>(counts), comm::Reduction::sum);
    model::check_skipped(skipped_messages, counts[skipped], inputs_.images.size(), inputs_.max_bad_share);
    MOEX_ASSERT(counts[images] + counts[skipped] == inputs_.images.size(), "images lost between ranks");
    return {{"images", counts[images]},
            {"skipped", counts[skipped]},
            {"rows", counts[rows]},
            {"shards", shards},
            {"shards_found", counts[found]}};
  }

 private:
  store::ShardInfo info(std::int64_t shard) const {
    store::ShardInfo info;
    info.model_hash = inputs_.model_hash;
    info.data_fingerprint = inputs_.images.fingerprint();
    info.seed = params_.seed;
    info.first_image = shard * params_.images_per_shard;
    info.image_count = std::min(params_.images_per_shard, inputs_.images.size() - info.first_image);
    const model::VitParams& vit = inputs_.model.description.vit;
    for (std::int64_t layer = 0; layer < network_->layers(); ++layer)
      info.layers.push_back({layer, vit.width, vit.hidden});
    return info;
  }

  /// A shard that an earlier, interrupted run left; one that cannot be read or is of something else is made again.
  bool is_finished(std::int64_t shard) const {
    const fs::path& path = paths_[static_cast<std::size_t>(shard)];
    if (!fs::exists(path)) return false;
    try {
      const store::ShardInfo there = store::ShardReader(path).info(), wanted = info(shard);
      return there.model_hash == wanted.model_hash && there.data_fingerprint == wanted.data_fingerprint &&
             there.seed == wanted.seed && there.first_image == wanted.first_image &&
             there.image_count == wanted.image_count;
    } catch (const UserError& error) {
      context_.log->warn("{}; the shard is made again", error.what());
      return false;
    }
  }

  std::vector<Recorded> compute_shard(std::int64_t shard, run::Progress& progress) {
    const store::ShardInfo shard_info = info(shard);
    const std::int64_t batches = (shard_info.image_count + inputs_.micro_batch - 1) / inputs_.micro_batch;
    std::vector<Recorded> recorded(static_cast<std::size_t>(batches));
    context_.workers.for_each(batches, [&](std::int64_t batch, int) {
      const std::int64_t first = batch * inputs_.micro_batch;
      const std::int64_t count = std::min(inputs_.micro_batch, shard_info.image_count - first);
      recorded[static_cast<std::size_t>(batch)] = record(shard_info.first_image + first, count);
      progress.add(count);
    });
    return recorded;
  }

  void write_shard(std::int64_t shard, std::vector<Recorded>& recorded) const {
    store::ShardWriter writer(paths_[static_cast<std::size_t>(shard)], info(shard));
    for (Recorded& part : recorded) {
      if (!part.images.empty()) writer.append(part.images, part.rows);
      part = {};  // frees the rows
    }
    writer.finish();
  }

  Recorded record(std::int64_t first, std::int64_t count) const {
    const at::NoGradGuard no_grad;
    const model::ModelDescription& description = inputs_.model.description;
    model::InputBatch batch =
        model::load_batch(inputs_.images, description.preprocess, first, count, inputs_.bad_images);
    Recorded recorded;
    recorded.skipped = std::move(batch.skipped);
    if (batch.index.empty()) return recorded;
    std::vector<std::int64_t> chosen;  // rows of the flattened [images, tokens]
    for (std::size_t i = 0; i < batch.index.size(); ++i) {
      const std::string& id = inputs_.images.id(batch.index[i]);
      store::ShardImage image{batch.index[i], id, inputs_.images.label(batch.index[i]),
                              choose_tokens(params_, description.vit, id)};
      for (const std::int32_t token : image.tokens)
        chosen.push_back(static_cast<std::int64_t>(i) * network_->tokens() + token);
      recorded.images.push_back(std::move(image));
    }
    const at::Tensor index = at::tensor(chosen, at::kLong);
    network_->logits(batch.images, [&](std::int64_t, const model::MlpTrace& trace) {
      recorded.rows.push_back(take_rows(trace.x, index));
      recorded.rows.push_back(take_rows(trace.h, index));
    });
    return recorded;
  }

  const CollectParams& params_;
  const CollectInputs& inputs_;
  run::Context& context_;
  std::unique_ptr<model::Network> network_;
  std::vector<fs::path> paths_;
};

}  // namespace

void describe(config::Section section, CollectParams& p) {
  section
      .add("tokens_per_image", &p.tokens_per_image,
           "Tokens recorded of each image, drawn from the seed and the image's name; 0: all")
      .at_least(0)
      .in("tokens");
  section.add_enum<ClassToken>("class_token", p.class_token,
                               {{"sampled", ClassToken::sampled, "drawn like any other token"},
                                {"always", ClassToken::always, "recorded of every image"},
                                {"never", ClassToken::never, "left out"}},
                               "Whether the class token is among the recorded tokens");
  section.add("images_per_shard", &p.images_per_shard, "Calibration images in one HDF5 file").at_least(1).in("images");
  section.add("seed", &p.seed, "Seed of the choice of tokens");
}

std::vector<std::int32_t> choose_tokens(const CollectParams& params, const model::VitParams& vit,
                                        const std::string& image_id) {
  const std::int64_t prefix = params.class_token == ClassToken::sampled ? 0 : vit.prefix_tokens();
  const std::int64_t candidates = vit.tokens() - prefix;
  const std::int64_t wanted = params.tokens_per_image == 0 ? candidates : params.tokens_per_image;
  std::vector<std::int32_t> tokens;
  if (params.class_token == ClassToken::always) {
    for (std::int64_t t = 0; t < prefix; ++t) tokens.push_back(static_cast<std::int32_t>(t));
  }
  RandomStream stream(params.seed, hash64("tokens"), hash64(image_id));
  for (const std::int64_t t : stream.sample(wanted, candidates))
    tokens.push_back(static_cast<std::int32_t>(prefix + t));
  return tokens;
}

std::vector<fs::path> shard_paths(const fs::path& folder, std::int64_t images, const CollectParams& params) {
  std::vector<fs::path> paths;
  for (std::int64_t s = 0; s < shard_count(images, params); ++s)
    paths.push_back(folder / fmt::format("shard-{:06}.h5", s));
  return paths;
}

std::int64_t collect_bytes(const CollectParams& params, const model::VitParams& vit, std::int64_t images) {
  const auto tokens = static_cast<std::int64_t>(choose_tokens(params, vit, "").size());
  return images * tokens * (vit.depth * (vit.width + vit.hidden) * 2 + 12);
}

nlohmann::json collect(const CollectParams& params, const CollectInputs& inputs, run::Context& context,
                       const fs::path& folder) {
  return Collector(params, inputs, context, folder).run();
}

}  // namespace moextract::stages
