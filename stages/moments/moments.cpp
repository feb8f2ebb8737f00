#include "stages/moments/moments.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "moe/importance.h"
#include "moe/router.h"
#include "run/progress.h"
#include "stages/cluster/cluster.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

fs::path layer_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("layer-{:03}.safetensors", layer);
}

/// The router of a layer: nearest centroid, as products with the centroids and a bias.
struct Router {
  at::Tensor keys, bias;
};

Router nearest_centroid(const fs::path& clusters, std::int64_t layer) {
  const fs::path path = layer_clusters_path(clusters, layer);
  const model::WeightsFile file = model::load_weights(path);
  const auto centroids = file.tensors.find("centroids");
  if (centroids == file.tensors.end() || centroids->second.dim() != 2) {
    fail(ExitCode::input, "{}: is not a file of the cluster stage: run `moextract cluster` again", path.string());
  }
  at::Tensor squares = centroids->second.to(at::kDouble).square().sum(1);
  // Balanced clusters: a price for each is added to the squared distances.
  if (const auto prices = file.tensors.find("prices"); prices != file.tensors.end())
    squares = squares + prices->second.to(at::kDouble);
  return {centroids->second, (-0.5 * squares).to(at::kFloat)};
}

/// One pass over the images for a group of layers.
class Pass {
 public:
  Pass(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context, const model::Network& network,
       std::vector<std::int64_t> layers)
      : params_(params), inputs_(inputs), context_(context), network_(network), layers_(std::move(layers)) {
    const std::int64_t hidden = inputs.model.description.vit.hidden;
    for (const std::int64_t layer : layers_) {
      routers_.push_back(nearest_centroid(inputs.clusters, layer));
      const std::int64_t experts = routers_.back().keys.size(0) + 1;
      sums_.push_back(std::make_unique<moe::SecondMomentSums>(experts, hidden));
      if (params.importance) {
        directions_.push_back(std::make_unique<moe::SecondMomentSums>(experts, inputs.model.description.vit.width));
      }
      gradient_.emplace_back(static_cast<std::size_t>(inputs.images.size()), 0.0);
    }
  }

  /// Collective. Returns the number of pictures left out.
  std::int64_t run() {
    const std::int64_t total = inputs_.images.size(), batches = (total + params_.micro_batch - 1) / params_.micro_batch;
    std::vector<std::int64_t> mine;
    for (std::int64_t b = context_.comm.rank(); b < batches; b += context_.comm.size()) mine.push_back(b);
    std::vector<std::string> skipped;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "moments",
                             static_cast<std::int64_t>(mine.size()) * params_.micro_batch, "images of this rank");
      std::mutex mutex;
      context_.workers.for_each(static_cast<std::int64_t>(mine.size()), [&](std::int64_t unit, int) {
        if (context_.should_stop()) {
          fail(ExitCode::resume,
               "moments was asked to stop; finished layers are kept. Run the same command again to go on");
        }
        const std::int64_t first = mine[static_cast<std::size_t>(unit)] * params_.micro_batch;
        const std::int64_t count = std::min(params_.micro_batch, total - first);
        const std::vector<std::string> left_out = add_images(first, count);
        const std::lock_guard lock(mutex);
        skipped.insert(skipped.end(), left_out.begin(), left_out.end());
        progress.add(count);
      });
    });
    const std::int64_t skipped_total =
        context_.comm.all_reduce_value(static_cast<std::int64_t>(skipped.size()), comm::Reduction::sum);
    model::check_skipped(skipped, skipped_total, total, inputs_.max_bad_share);
    for (const auto& sums : sums_) sums->all_reduce(context_.comm);
    for (const auto& sums : directions_) sums->all_reduce(context_.comm);
    // Every picture's number stands on one rank, zero elsewhere: the sum over ranks is exact.
    for (std::vector<double>& gradient : gradient_)
      context_.comm.all_reduce(std::span<double>(gradient), comm::Reduction::sum);
    return skipped_total;
  }

  /// On one rank.
  void save(const fs::path& folder) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      std::vector<at::Tensor> means, covariances;
      const std::int64_t experts = sums_[i]->experts();
      at::Tensor count = at::empty({experts}, at::kLong), weight = at::empty({experts}, at::kDouble);
      for (std::int64_t e = 0; e < experts; ++e) {
        const moe::SecondMoments m = sums_[i]->moments(e);
        count.data_ptr<std::int64_t>()[e] = m.count;
        weight.data_ptr<double>()[e] = m.weight;
        means.push_back(m.mean);
        covariances.push_back(m.covariance);
      }
      const std::int64_t views = params_.flip ? 2 : 1;
      double gradient = 0;
      for (const double g : gradient_[i]) gradient += g;
      std::vector<at::Tensor> directions;
      for (std::int64_t e = 0; e < experts && !directions_.empty(); ++e) {
        const moe::SecondMoments m = directions_[i]->moments(e);
        directions.push_back(m.covariance + at::outer(m.mean, m.mean));  // the mean counts: a raw second moment
      }
      at::Tensor mean_gradient = at::full(
          {1}, gradient / static_cast<double>(std::max<std::int64_t>(inputs_.images.size(), 1) * views), at::kDouble);
      model::TensorMap tensors{{"router.weight", routers_[i].keys},
                               {"router.bias", routers_[i].bias},
                               {"count", count},
                               {"weight", weight},
                               {"mean", at::stack(means)},
                               {"covariance", at::stack(covariances)},
                               {"mean_gradient", mean_gradient}};
      if (!directions.empty()) tensors.emplace("gradient_directions", at::stack(directions));
      model::save_weights(layer_path(folder, layers_[i]), tensors, {});
    }
  }

 private:
  std::vector<std::string> add_images(std::int64_t first, std::int64_t count) {
    const model::ModelDescription& description = inputs_.model.description;
    const std::int64_t prefix = description.vit.prefix_tokens();
    const model::InputBatch batch =
        model::load_batch(inputs_.images, description.preprocess, first, count, inputs_.bad_images);
    if (batch.index.empty()) return batch.skipped;
    std::vector<std::string> ids;
    for (const std::int64_t i : batch.index) ids.push_back(inputs_.images.id(i));
    add_views(batch.images, batch.index, ids, prefix);
    if (params_.flip) {
      for (std::string& id : ids) id += " mirrored";  // a class of its own is drawn
      add_views(batch.images.flip({3}), batch.index, ids, prefix);
    }
    return batch.skipped;
  }

  /// The images [n, channels, height, width] as the model is to see them; index: their places in the set.
  void add_views(const at::Tensor& images, std::span<const std::int64_t> index, std::span<const std::string> ids,
                 std::int64_t prefix) {
    const std::vector<moe::CalibrationTrace> traces =
        moe::trace_network(network_, images, ids, params_.importance, params_.seed);
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const moe::CalibrationTrace& trace = traces[static_cast<std::size_t>(layers_[i])];
      const std::int64_t tokens = trace.x.size(1), d = trace.x.size(2);
      const at::Tensor expert = moe::route_linear(trace.x.reshape({-1, d}), routers_[i].keys, routers_[i].bias);
      expert.view({-1, tokens}).narrow(1, 0, prefix).fill_(routers_[i].keys.size(0));
      at::Tensor weight = at::ones({trace.x.size(0), tokens});
      if (trace.gradient.defined()) {
        const at::Tensor g = trace.g();
        weight = moe::importance_weights(g, prefix);
        const at::Tensor mean = g.narrow(1, prefix, tokens - prefix).to(at::kDouble).mean(1).contiguous();
        for (std::size_t n = 0; n < index.size(); ++n) {
          gradient_[i][static_cast<std::size_t>(index[n])] += mean.const_data_ptr<double>()[n];
        }
        directions_[i]->add(moe::gradient_directions(trace.gradient).reshape({-1, d}), expert, weight.reshape(-1));
      }
      sums_[i]->add(trace.h.reshape({-1, trace.h.size(2)}), expert, weight.reshape(-1));
    }
  }

  const MomentsParams& params_;
  const MomentsInputs& inputs_;
  run::Context& context_;
  const model::Network& network_;
  std::vector<std::int64_t> layers_;
  std::vector<Router> routers_;
  std::vector<std::unique_ptr<moe::SecondMomentSums>> sums_, directions_;  // of hidden values; of gradients
  std::vector<std::vector<double>> gradient_;                              // [layer][image]
};

}  // namespace

void describe(config::Section section, MomentsParams& p) {
  section.add("importance", &p.importance,
              "Weigh each token by the gradient of the model's own log-likelihood with respect to the MLP's output");
  section.add("flip", &p.flip, "Use each image mirrored, too: twice the tokens for twice the time");
  section.add("micro_batch", &p.micro_batch, "Images that one thread computes at once; part of the result's last bits")
      .at_least(1)
      .in("images");
  section
      .add("memory_gb", &p.memory_gb,
           "Memory of a rank for the sums; layers that do not fit take another pass over the images")
      .at_least(0.01)
      .in("GB")
      .runtime_only();
  section.add("seed", &p.seed, "Seed of the classes drawn from the model's softmax");
}

double moment_bytes(std::int64_t k, std::int64_t hidden, std::int64_t width) {
  const auto sums = [](double n) { return n * (n + 1) / 2 + n + 2; };
  return static_cast<double>(k + 1) * (sums(static_cast<double>(hidden)) + sums(static_cast<double>(width))) * 8.0;
}

LayerMoments load_layer_moments(const fs::path& folder, std::int64_t layer) {
  const fs::path path = layer_path(folder, layer);
  const model::WeightsFile file = model::load_weights(path, /*keep_double=*/true);
  const auto get = [&](const char* name) {
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end())
      fail(ExitCode::input, "{}: is not a file of the moments stage: run it again", path.string());
    return found->second;
  };
  LayerMoments moments;
  moments.keys = get("router.weight");
  moments.key_bias = get("router.bias");
  moments.mean_gradient = get("mean_gradient").item<double>();
  const at::Tensor count = get("count"), weight = get("weight"), mean = get("mean"), covariance = get("covariance");
  if (count.numel() != moments.keys.size(0) + 1 || covariance.dim() != 3 || covariance.size(0) != count.numel()) {
    fail(ExitCode::input, "{}: its tensors do not fit together: run the moments stage again", path.string());
  }
  for (std::int64_t e = 0; e < count.numel(); ++e) {
    moments.experts.push_back({count[e].item<std::int64_t>(), weight[e].item<double>(), mean[e].to(at::kDouble),
                               covariance[e].to(at::kDouble)});
  }
  if (const auto found = file.tensors.find("gradient_directions"); found != file.tensors.end()) {
    moments.directions = found->second.to(at::kDouble);
    if (moments.directions.dim() != 3 || moments.directions.size(0) != count.numel()) {
      fail(ExitCode::input, "{}: its tensors do not fit together: run the moments stage again", path.string());
    }
  }
  return moments;
}

json gather_moments(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context,
                    const fs::path& folder) {
  const model::VitParams& vit = inputs.model.description.vit;
  const auto network = moe::make_network(inputs.model.description, inputs.model.tensors);
  std::vector<std::int64_t> missing;
  std::int64_t found = 0;
  context.comm.together([&] {
    for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
      if (network->mlp_tokens(layer) == vit.prefix_tokens()) continue;
      if (fs::exists(layer_path(folder, layer))) {
        ++found;
      } else {
        missing.push_back(layer);
      }
    }
  });
  // Rank 0's view counts, should a file system show another rank an older one.
  std::int64_t count = static_cast<std::int64_t>(missing.size());
  context.comm.broadcast(std::span<std::int64_t>(&count, 1));
  missing.resize(static_cast<std::size_t>(count));
  context.comm.broadcast(std::span<std::int64_t>(missing));
  std::int64_t k = 0;  // the largest: a layer's k may be its own
  context.comm.together([&] {
    for (const std::int64_t layer : missing) k = std::max(k, load_layer_clusters(inputs.clusters, layer).k);
  });
  const auto per_pass = static_cast<std::size_t>(
      std::max(1.0, std::floor(params.memory_gb * 1e9 / moment_bytes(k, vit.hidden, vit.width))));
  std::int64_t passes = 0, skipped = 0;
  for (std::size_t first = 0; first < missing.size(); first += per_pass, ++passes) {
    const std::size_t last = std::min(missing.size(), first + per_pass);
    std::optional<Pass> pass;
    context.comm.together([&] {
      pass.emplace(params, inputs, context, *network,
                   std::vector<std::int64_t>(missing.begin() + static_cast<std::ptrdiff_t>(first),
                                             missing.begin() + static_cast<std::ptrdiff_t>(last)));
    });
    skipped = pass->run();
    context.comm.together([&] {
      if (context.comm.is_root()) pass->save(folder);
    });
  }
  return {{"images", inputs.images.size()}, {"skipped", skipped}, {"passes", passes}, {"layers_found", found}};
}

}  // namespace moextract::stages
