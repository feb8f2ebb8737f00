#include "stages/collect/collect.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "comm/watched.h"
#include "core/error.h"
#include "core/file.h"
#include "core/float16.h"
#include "core/hash.h"
#include "core/json_text.h"
#include "core/random.h"
#include "model/device_tensors.h"
#include "moe/device_model.h"
#include "run/progress.h"
#include "stages/collect/collect_plan.h"
#include "stages/collect/flow.h"
#include "store/activation_shard.h"
#include "store/shard_rows.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

std::int64_t shard_count(std::int64_t images, const CollectParams& params) {
  return (images + params.images_per_shard - 1) / params.images_per_shard;
}

/// What a shard says of where it comes from, but for its layers.
store::ShardInfo origin_of(std::int64_t shard, const std::string& model_hash, const data::ImageSet& images,
                           const CollectParams& params) {
  store::ShardInfo info;
  info.model_hash = model_hash;
  info.data_fingerprint = images.fingerprint();
  info.seed = params.seed;
  info.first_image = shard * params.images_per_shard;
  info.image_count = std::min(params.images_per_shard, images.size() - info.first_image);
  return info;
}

/// What differs, in words, or nothing.
std::string difference_of(const store::ShardInfo& a, const store::ShardInfo& b) {
  const bool same_images = a.first_image == b.first_image && a.image_count == b.image_count;
  const std::string difference = store::difference(a, b);
  return difference.empty() && !same_images ? "images of the set" : difference;
}

using Bits = std::vector<std::uint16_t>;

/// A picture that was left out.
struct BadImage {
  std::int64_t index;
  std::string message;
};

/// What one micro-batch adds to a shard.
struct Recorded {
  std::vector<store::ShardImage> images;
  std::vector<Bits> rows;  // [2 * layer + tap], empty where the tap is not recorded
  std::vector<BadImage> skipped;
};

/// Values as float16.
Bits half_of(const at::Tensor& values) {
  const at::Tensor all = values.contiguous();
  Bits half(static_cast<std::size_t>(all.numel()));
  to_float16({all.const_data_ptr<float>(), half.size()}, half);
  return half;
}

Bits bits_of(const at::Tensor& half) {
  const at::Tensor here = half.cpu().contiguous();
  Bits bits(static_cast<std::size_t>(here.numel()));
  if (!bits.empty()) std::memcpy(bits.data(), here.const_data_ptr(), here.nbytes());
  return bits;
}

/// A message without the place of the set, which is no part of what determines an artefact.
std::string reason_of(const std::string& message, const std::string& name) {
  const std::size_t at = message.find(name + ": ");
  return at == message.npos ? message : message.substr(at + name.size() + 2);
}

json to_json(const FlowTimes& times) {
  return {{"decode", times.prepare},
          {"forward", times.compute},
          {"wait_for_reading", times.wait_read},
          {"wait_for_writing", times.wait_write},
          {"wait_for_each_other", times.wait_unit},
          {"read", times.read},
          {"write", times.write}};
}

/// One rank's shards, made in micro-batches that are read, decoded, computed and written at the same time.
class Collector {
 public:
  Collector(const CollectParams& params, const CollectInputs& inputs, run::Context& context, const fs::path& folder)
      : params_(params),
        inputs_(inputs),
        context_(context),
        network_(moe::make_network(inputs.model.description, moe::to_device(inputs.model.tensors, context.device),
                                   inputs.precision)),
        folder_(folder),
        paths_(shard_paths(folder, inputs.images.size(), params)) {}

  json run() {
    context_.comm.together([&] { make_shards(); });
    context_.comm.all_reduce(std::span<std::int64_t>(counts_), comm::Reduction::sum);
    gather_bad_images();
    for (double* seconds : {&times_.prepare, &times_.compute, &times_.wait_read, &times_.wait_write, &times_.wait_unit,
                            &times_.read, &times_.write})
      *seconds = context_.comm.all_reduce_value(*seconds, comm::Reduction::sum);
    MOEX_ASSERT(counts_[images] + counts_[skipped] == inputs_.images.size(), "images lost between ranks");
    return {{"images", counts_[images]}, {"skipped", counts_[skipped]},    {"rows", counts_[rows]},
            {"shards", paths_.size()},   {"shards_found", counts_[found]}, {"thread_seconds", to_json(times_)}};
  }

 private:
  enum Count { images, skipped, rows, found, count };

  /// A micro-batch of a shard that is missing.
  struct Unit {
    std::int64_t shard, first, count;
    bool first_of_shard, last_of_shard;
    std::unique_ptr<model::BatchLoader> loader;  ///< while it is decoded
    Recorded recorded;                           ///< between forward pass and writing
  };

  void make_shards() {
    const auto shards = static_cast<std::int64_t>(paths_.size());
    std::int64_t missing_images = 0;
    // HDF5 is used by one thread at a time: here before the flow begins, then by its writer.
    for (std::int64_t s = context_.comm.rank(); s < shards; s += context_.comm.size()) {
      if (count_finished(s)) continue;
      missing_images += info(s).image_count;
      add_units(s);
    }
    run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "collect", missing_images,
                           "images of this rank");
    const auto start = std::chrono::steady_clock::now();
    FlowLimits limits;
    limits.window = micro_batches_underway(params_, inputs_.model.description, inputs_.micro_batch,
                                           inputs_.images.mean_stored_bytes(), context_.workers.size());
    limits.preparers = static_cast<int>(params_.decode_threads);
    limits.readers = params_.read_threads > 0 ? static_cast<int>(params_.read_threads) : context_.workers.size();
    Flow* running = nullptr;
    FlowWork work;
    work.units = static_cast<std::int64_t>(units_.size());
    work.may_begin = [this](std::int64_t u) { return !unit(u).first_of_shard || !context_.should_stop(); };
    work.pieces = [this](std::int64_t u) {
      unit(u).loader = std::make_unique<model::BatchLoader>(inputs_.images, inputs_.model.description.preprocess,
                                                            unit(u).first, unit(u).count, inputs_.bad_images);
      return unit(u).count;
    };
    work.read = [this](std::int64_t u, std::int64_t image) { unit(u).loader->read(image); };
    work.prepare = [this](std::int64_t u, std::int64_t image) { unit(u).loader->decode(image); };
    work.compute = [&, this](std::int64_t u) {
      unit(u).recorded = record(unit(u).loader->finish());
      unit(u).loader.reset();
      progress.add(unit(u).count, flow_text(running->times()));
    };
    work.write = [this](std::int64_t u) { write(unit(u)); };
    Flow flow(std::move(work), limits, context_.workers.size());
    running = &flow;
    const std::int64_t written = flow.run(context_.workers);
    writer_.reset();
    times_ = flow.times();
    if (written < static_cast<std::int64_t>(units_.size())) {
      fail(ExitCode::resume,
           "collect was asked to stop; finished shards are kept. Run the same command again to go on");
    }
    if (context_.comm.is_root() && missing_images > 0) {
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      context_.log->info("collect: {} images of this rank in {}, {:.1f} a second; {}", missing_images,
                         run::duration_text(seconds), static_cast<double>(missing_images) / seconds, flow_text(times_));
    }
  }

  /// Collective. Names every picture that was left out in a file, then sees whether they are too many.
  void gather_bad_images() {
    if (counts_[skipped] == 0) return;
    json mine = json::array();
    for (const BadImage& bad : bad_images_) mine.push_back({bad.index, bad.message});
    const std::vector<std::string> all = context_.comm.all_gather_text(json_text(mine));
    std::vector<BadImage> bad;
    for (const std::string& text : all) {
      for (const json& entry : json::parse(text)) bad.push_back({entry[0], entry[1]});
    }
    std::sort(bad.begin(), bad.end(), [](const BadImage& a, const BadImage& b) { return a.index < b.index; });
    std::vector<std::string> messages;
    json named = json::array();
    for (const BadImage& b : bad) {
      messages.push_back(b.message);
      const std::string name = json::parse(json_text(inputs_.images.id(b.index)));  // as it stands in the message
      named.push_back({{"index", b.index}, {"name", name}, {"why", reason_of(b.message, name)}});
    }
    const fs::path list = folder_ / kBadImagesFile;
    context_.comm.together([&] {
      if (context_.comm.is_root()) write_file_atomically(list, json_text({{"images", std::move(named)}}) + "\n");
    });
    model::check_skipped(messages, counts_[skipped], inputs_.images.size(), inputs_.max_bad_share, list);
  }

  Unit& unit(std::int64_t u) { return units_[static_cast<std::size_t>(u)]; }

  void add_units(std::int64_t shard) {
    const store::ShardInfo shard_info = info(shard);
    for (std::int64_t first = 0; first < shard_info.image_count; first += inputs_.micro_batch) {
      const std::int64_t size = std::min(inputs_.micro_batch, shard_info.image_count - first);
      units_.push_back({shard,
                        shard_info.first_image + first,
                        size,
                        first == 0,
                        first + size == shard_info.image_count,
                        nullptr,
                        {}});
    }
  }

  store::ShardInfo info(std::int64_t shard) const {
    store::ShardInfo info = origin_of(shard, inputs_.model_hash, inputs_.images, params_);
    const model::VitParams& vit = inputs_.model.description.vit;
    for (std::int64_t layer = 0; layer < network_->layers(); ++layer) {
      info.layers.push_back(
          {layer, records(params_, store::Tap::x) ? vit.width : 0, records(params_, store::Tap::h) ? vit.hidden : 0});
    }
    return info;
  }

  /// Counts a shard that an earlier, interrupted run left. False if there is none; one that is damaged or of something
  /// else is named, and made again.
  bool count_finished(std::int64_t shard) {
    const fs::path& path = paths_[static_cast<std::size_t>(shard)];
    if (!fs::exists(path)) return false;
    try {
      const store::ShardReader reader(path);
      const store::ShardInfo& there = reader.info();
      const store::ShardInfo wanted = info(shard);
      if (const std::string difference = difference_of(there, wanted); !difference.empty()) {
        context_.log->warn("{}: was recorded with other {}; the shard is made again", path.string(), difference);
        return false;
      }
      reader.verify();  // nobody has vouched for it: the artefact was not finished
      comm::note_progress();
      const auto recorded = static_cast<std::int64_t>(reader.images().size());
      ++counts_[found];
      counts_[images] += recorded;
      counts_[skipped] += reader.info().image_count - recorded;
      note_bad_images_of(reader);
      counts_[rows] += reader.rows();
      return true;
    } catch (const UserError& error) {
      context_.log->warn("{}; the shard is made again", error.what());
      return false;
    }
  }

  /// Those that a finished shard lacks: why, they say once more.
  void note_bad_images_of(const store::ShardReader& reader) {
    std::int64_t next = reader.info().first_image;
    const auto note_until = [&](std::int64_t end) {
      for (; next < end; ++next) {
        std::string why = inputs_.images.id(next) + ": could not be decoded when its shard was recorded";
        try {
          model::InputBatch batch =
              model::load_batch(inputs_.images, inputs_.model.description.preprocess, next, 1, inputs_.bad_images);
          for (std::string& message : batch.skipped) why = std::move(message);
        } catch (const UserError& error) {
          context_.log->warn("{}", error.what());
        }
        bad_images_.push_back({next, std::move(why)});
      }
      ++next;
    };
    for (const store::ShardImage& image : reader.images()) note_until(image.index);
    note_until(reader.info().first_image + reader.info().image_count);
  }

  Recorded record(model::InputBatch batch) const {
    const at::NoGradGuard no_grad;
    Recorded recorded;
    for (std::size_t i = 0; i < batch.skipped.size(); ++i)
      recorded.skipped.push_back({batch.skipped_index[i], std::move(batch.skipped[i])});
    if (batch.index.empty()) return recorded;
    std::vector<std::int64_t> chosen;  // rows of the flattened [images, tokens]
    for (std::size_t i = 0; i < batch.index.size(); ++i) {
      const std::string& id = inputs_.images.id(batch.index[i]);
      store::ShardImage image{batch.index[i], id, inputs_.images.label(batch.index[i]),
                              choose_tokens(params_, inputs_.model.description.vit, id)};
      for (const std::int32_t token : image.tokens)
        chosen.push_back(static_cast<std::int64_t>(i) * network_->tokens() + token);
      recorded.images.push_back(std::move(image));
    }
    const bool there = context_.device.by_tensors();
    const model::DeviceScope scope(context_.device);
    // What a device recorded comes to the host when all of the pass is under way, so that no layer waits for it.
    std::vector<at::Tensor> left_there;
    const auto take = [&](std::int64_t, const at::Tensor& x, const at::Tensor& h) {
      for (const store::Tap tap : {store::Tap::x, store::Tap::h}) {
        const at::Tensor rows = records(params_, tap) ? (tap == store::Tap::x ? x : h) : at::Tensor();
        if (there) {
          left_there.push_back(rows.defined() ? rows.to(at::kHalf) : rows);
        } else {
          recorded.rows.push_back(rows.defined() ? half_of(rows) : Bits());
        }
      }
    };
    network_->record(model::to_device(batch.images, context_.device), chosen, records(params_, store::Tap::h), take);
    for (const at::Tensor& half : left_there) recorded.rows.push_back(half.defined() ? bits_of(half) : Bits());
    return recorded;
  }

  /// Called by the writer alone.
  void write(Unit& unit) {
    Recorded part = std::move(unit.recorded);
    unit.recorded = {};
    if (unit.first_of_shard) {
      writer_ = std::make_unique<store::ShardWriter>(paths_[static_cast<std::size_t>(unit.shard)], info(unit.shard),
                                                     params_.compression);
    }
    if (!part.images.empty()) writer_->append(part.images, part.rows);
    if (unit.last_of_shard) {
      writer_->finish();
      writer_.reset();
    }
    counts_[images] += static_cast<std::int64_t>(part.images.size());
    counts_[skipped] += static_cast<std::int64_t>(part.skipped.size());
    for (const store::ShardImage& image : part.images) counts_[rows] += static_cast<std::int64_t>(image.tokens.size());
    for (BadImage& bad : part.skipped) {
      context_.log->warn("left out: {}", bad.message);
      bad_images_.push_back(std::move(bad));
    }
  }

  const CollectParams& params_;
  const CollectInputs& inputs_;
  run::Context& context_;
  std::unique_ptr<model::Network> network_;
  fs::path folder_;
  std::vector<fs::path> paths_;
  std::vector<Unit> units_;
  std::unique_ptr<store::ShardWriter> writer_;  ///< of the shard that is being written
  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(Count::count, 0);
  std::vector<BadImage> bad_images_;
  FlowTimes times_;
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
  section.add_enum<CollectTaps>("taps", p.taps,
                                {{"both", CollectTaps::both, "x and h; assemble needs both"},
                                 {"x", CollectTaps::x, "input of the MLP alone"},
                                 {"h", CollectTaps::h, "hidden values after the GELU alone"}},
                                "Which activations are recorded");
  section.add("images_per_shard", &p.images_per_shard, "Calibration images in one HDF5 file").at_least(1).in("images");
  section.add_enum<store::Compression>(
      "compression", p.compression,
      {{"none", store::Compression::none, "as fast as the disk; activations hardly shrink"},
       {"deflate", store::Compression::deflate, "HDF5's shuffle and zlib, read by h5py as it is"}},
      "How shards are stored");
  section.add("seed", &p.seed, "Seed of the choice of tokens");
  section
      .add("read_threads", &p.read_threads,
           "Threads of a rank that read pictures' files ahead of those that decode, besides the others: more of them "
           "help where a file system answers late; 0: as many as the rank has threads")
      .at_least(0)
      .at_most(256)
      .runtime_only();
  section
      .add("decode_threads", &p.decode_threads,
           "Threads of a rank that decode, while the others compute; 0: each does what is needed most")
      .at_least(0)
      .runtime_only();
  section
      .add("memory_gb", &p.memory_gb,
           "Most memory of a rank for micro-batches on their way from the disk to a shard, of which there are always "
           "more than threads and at most four for each")
      .at_least(0)
      .in("GB")
      .runtime_only();
}

bool records(const CollectParams& params, store::Tap tap) {
  return params.taps == CollectTaps::both || params.taps == (tap == store::Tap::x ? CollectTaps::x : CollectTaps::h);
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

void check_shards(std::span<const fs::path> paths, const std::string& model_hash, const data::ImageSet& images,
                  const CollectParams& params) {
  for (std::size_t s = 0; s < paths.size(); ++s) {
    const store::ShardInfo there = store::ShardReader(paths[s]).info();
    store::ShardInfo wanted = origin_of(static_cast<std::int64_t>(s), model_hash, images, params);
    wanted.layers = there.layers;  // whether they have what is needed, their readers see
    if (const std::string difference = difference_of(there, wanted); !difference.empty()) {
      fail(ExitCode::input,
           "{}: was recorded with other {}: it does not belong here. Remove it and run `moextract collect` again: this "
           "shard alone is then made again",
           paths[s].string(), difference);
    }
  }
}

void check_bad_share(const json& counts, double max_bad_share, const fs::path& folder) {
  const auto images = counts.value("images", std::int64_t{0}), skipped = counts.value("skipped", std::int64_t{0});
  if (skipped == 0) return;
  const fs::path list = folder / kBadImagesFile;
  std::vector<std::string> messages;
  if (fs::exists(list)) {  // an artefact of an earlier version has none
    try {
      const json named = parse_json(read_text_file(list));
      for (const json& image : named.at("images"))
        messages.push_back(image.value("name", std::string()) + ": " + image.value("why", std::string()));
    } catch (const json::exception& error) {
      fail(ExitCode::input, "{}: is not a list of pictures that were left out ({}): remove it", list.string(),
           error.what());
    }
  }
  model::check_skipped(messages, skipped, images + skipped, max_bad_share, messages.empty() ? fs::path() : list);
}

json collect(const CollectParams& params, const CollectInputs& inputs, run::Context& context, const fs::path& folder) {
  return Collector(params, inputs, context, folder).run();
}

}  // namespace moextract::stages
