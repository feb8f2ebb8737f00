#include "stages/moments/moments.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <optional>

#include "core/error.h"
#include "model/device_tensors.h"
#include "moe/device_model.h"
#include "moe/expert_router.h"
#include "moe/importance.h"
#include "run/progress.h"
#include "stages/cluster/cluster.h"
#include "stages/moments/image_views.h"
#include "stages/moments/layer_router.h"
#include "store/safetensors.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

moe::Extent extent_of(Products products) {
  return products == Products::diagonal ? moe::Extent::diagonal : moe::Extent::full;
}

/// Mean and covariance (or variance) of each expert, under names that end in `of`.
void put_moments(const moe::SecondMomentSums& sums, const std::string& of, model::TensorMap& tensors) {
  std::vector<at::Tensor> means, spreads;
  bool full = true;
  for (std::int64_t e = 0; e < sums.experts(); ++e) {
    const moe::SecondMoments m = sums.moments(e);
    full = m.covariance.defined();
    means.push_back(m.mean);
    spreads.push_back(full ? m.covariance : m.variance);
  }
  tensors.emplace(of + "mean", at::stack(means));
  tensors.emplace(of + (full ? "covariance" : "variance"), at::stack(spreads));
}

/// One pass over the images for a group of layers.
class Pass {
 public:
  Pass(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context, const model::Network& network,
       std::vector<std::int64_t> layers, std::vector<LayerRouter> routers)
      : params_(params),
        inputs_(inputs),
        context_(context),
        network_(network),
        layers_(std::move(layers)),
        routers_(std::move(routers)),
        choosers_(routers_.size()),
        prefix_(inputs.class_token_apart ? inputs.model.description.vit.prefix_tokens() : 0) {
    const model::VitParams& vit = inputs.model.description.vit;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      choosers_[i] = routers_[i].weights;
      for (at::Tensor* weight :
           {&choosers_[i].keys, &choosers_[i].bias, &choosers_[i].hidden_weight, &choosers_[i].hidden_bias})
        *weight = model::to_device(*weight, context.device);
      const std::int64_t experts = routers_[i].weights.experts() + (prefix_ > 0 ? 1 : 0);
      sums_.push_back(std::make_unique<moe::SecondMomentSums>(experts, vit.hidden, extent_of(params.products)));
      if (params.importance) directions_.push_back(std::make_unique<moe::SecondMomentSums>(experts, vit.width));
      if (params.inputs) input_sums_.push_back(std::make_unique<moe::SecondMomentSums>(experts, vit.width));
      routed_.push_back(std::make_unique<std::atomic<std::int64_t>>(0));
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
    for (const auto& sums : input_sums_) sums->all_reduce(context_.comm);
    for (const auto& routed : routed_) *routed = context_.comm.all_reduce_value(routed->load(), comm::Reduction::sum);
    // Every picture's number stands on one rank, zero elsewhere: the sum over ranks is exact.
    for (std::vector<double>& gradient : gradient_)
      context_.comm.all_reduce(std::span<double>(gradient), comm::Reduction::sum);
    return skipped_total;
  }

  /// On one rank.
  void save(const fs::path& folder) const {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const std::int64_t experts = sums_[i]->experts();
      at::Tensor count = at::empty({experts}, at::kLong), weight = at::empty({experts}, at::kDouble);
      for (std::int64_t e = 0; e < experts; ++e) {
        const moe::SecondMoments m = sums_[i]->moments(e);
        count.data_ptr<std::int64_t>()[e] = m.count;
        weight.data_ptr<double>()[e] = m.weight;
      }
      const std::int64_t views = view_count(params_);
      double gradient = 0;
      for (const double g : gradient_[i]) gradient += g;
      std::vector<at::Tensor> directions;
      for (std::int64_t e = 0; e < experts && !directions_.empty(); ++e) {
        const moe::SecondMoments m = directions_[i]->moments(e);
        directions.push_back(m.covariance + at::outer(m.mean, m.mean));  // the mean counts: a raw second moment
      }
      at::Tensor mean_gradient = at::full(
          {1}, gradient / static_cast<double>(std::max<std::int64_t>(inputs_.images.size(), 1) * views), at::kDouble);
      model::TensorMap tensors{{"count", count}, {"weight", weight}, {"mean_gradient", mean_gradient}};
      moe::put_router("", routers_[i].weights, tensors);
      tensors["router.facts"] = at::tensor({routers_[i].weights.temperature, routers_[i].agreement}, at::kDouble);
      tensors["routed_tokens"] = at::full({1}, routed_[i]->load(), at::kLong);
      put_moments(*sums_[i], "", tensors);
      if (!input_sums_.empty()) put_moments(*input_sums_[i], "x_", tensors);
      if (!directions.empty()) tensors.emplace("gradient_directions", at::stack(directions));
      const json said{{"model", inputs_.identity},
                      {"tap", load_layer_clusters(inputs_.clusters, layers_[i]).summary.value("tap", std::string())}};
      model::save_weights(layer_moments_path(folder, layers_[i]), tensors, {{kMomentsIdentityKey, said.dump()}},
                          /*checksum=*/true);
    }
  }

 private:
  std::vector<std::string> add_images(std::int64_t first, std::int64_t count) {
    const model::ModelDescription& description = inputs_.model.description;
    const std::int64_t prefix = description.vit.prefix_tokens();  // importance is relative to patches in any case
    const model::InputBatch batch =
        model::load_batch(inputs_.images, description.preprocess, first, count, inputs_.bad_images);
    if (batch.index.empty()) return batch.skipped;
    std::vector<std::string> ids;
    for (const std::int64_t i : batch.index) ids.push_back(inputs_.images.id(i));
    for (std::int64_t view = 0; view < view_count(params_); ++view) {
      std::vector<std::string> names;  // a class of its own is drawn for each view
      for (const std::string& id : ids) names.push_back(view_name(params_, id, view));
      add_view(view_images(params_, batch.images, ids, view, description.vit.patch_size), batch.index, names, prefix);
    }
    return batch.skipped;
  }

  /// The images [n, channels, height, width] as the model is to see them; index: their places in the set.
  void add_view(const at::Tensor& images, std::span<const std::int64_t> index, std::span<const std::string> ids,
                std::int64_t prefix) {
    const model::DeviceScope scope(context_.device);
    const std::vector<moe::CalibrationTrace> traces =
        moe::trace_network(network_, model::to_device(images, context_.device), ids, params_.importance, params_.seed);
    const at::NoGradGuard no_grad;
    std::vector<std::pair<std::size_t, at::Tensor>> means;  // [images] of layers
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const moe::CalibrationTrace& trace = traces[static_cast<std::size_t>(layers_[i])];
      const std::int64_t tokens = trace.x.size(1), d = trace.x.size(2);
      const at::Tensor x = trace.x.reshape({-1, d});
      const moe::RouterWeights& router = choosers_[i];
      const moe::Choice choice = moe::deal_tokens(router, trace.x, prefix_);
      const std::int64_t m = choice.expert.size(1);
      *routed_[i] += trace.x.size(0) * (tokens - prefix_);
      at::Tensor weight = at::ones({trace.x.size(0), tokens}, trace.x.options());
      if (trace.gradient.defined()) {
        const at::Tensor g = trace.g();
        weight = moe::importance_weights(g, prefix);
        means.emplace_back(i, g.narrow(1, prefix, tokens - prefix).to(at::kDouble).mean(1));
      }
      const at::Tensor directions =
          trace.gradient.defined() ? moe::gradient_directions(trace.gradient).reshape({-1, d}) : at::Tensor();
      for (std::int64_t slot = 0; slot < m; ++slot) {
        const at::Tensor expert = choice.expert.select(1, slot).contiguous();
        at::Tensor share = weight.reshape(-1);
        if (m > 1) share = share * choice.gate.select(1, slot);
        if (directions.defined()) directions_[i]->add(directions, expert, share);
        sums_[i]->add(trace.h.reshape({-1, trace.h.size(2)}), expert, share);
        if (!input_sums_.empty()) input_sums_[i]->add(x, expert, share);
      }
    }
    for (const auto& [layer, there] : means) {
      const at::Tensor mean = there.cpu().contiguous();
      for (std::size_t n = 0; n < index.size(); ++n)
        gradient_[layer][static_cast<std::size_t>(index[n])] += mean.const_data_ptr<double>()[n];
    }
  }

  const MomentsParams& params_;
  const MomentsInputs& inputs_;
  run::Context& context_;
  const model::Network& network_;
  std::vector<std::int64_t> layers_;
  std::vector<LayerRouter> routers_;
  std::vector<moe::RouterWeights> choosers_;  // theirs, in the device's memory
  std::int64_t prefix_;                       // tokens of each image that are not routed
  std::vector<std::unique_ptr<moe::SecondMomentSums>> sums_, directions_, input_sums_;  // of h; of gradients; of x
  std::vector<std::unique_ptr<std::atomic<std::int64_t>>> routed_;                      // tokens that were routed
  std::vector<std::vector<double>> gradient_;                                           // [layer][image]
};

}  // namespace

void describe(config::Section section, MomentsParams& p) {
  section.add_enum<Products>(
      "products", p.products,
      {{"automatic", Products::automatic, "full where the choice of neurons or the fit of output weights needs it"},
       {"full", Products::full, "all products of two hidden values: full second moments"},
       {"diagonal", Products::diagonal, "squares alone: means and variances"}},
      "Which second moments of h are summed");
  section.add("inputs", &p.inputs, "Sum full second moments of the MLP's input x, too");
  section.add("importance", &p.importance,
              "Weigh each token by the gradient of the model's own log-likelihood with respect to the MLP's output");
  section.add("flip", &p.flip, "Use each image mirrored, too: twice the tokens for twice the time");
  section
      .add("shifts", &p.shifts,
           "Use so many more copies of each image (and of its mirror image), shifted by up to half a patch each way: "
           "other patches for as much more time each")
      .at_least(0)
      .at_most(63);
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

double moment_bytes(const MomentsParams& params, std::int64_t k, std::int64_t hidden, std::int64_t width) {
  double bytes = moe::moment_sum_bytes(hidden, extent_of(params.products));
  if (params.importance) bytes += moe::moment_sum_bytes(width, moe::Extent::full);
  if (params.inputs) bytes += moe::moment_sum_bytes(width, moe::Extent::full);
  return static_cast<double>(k + 1) * bytes;
}

bool has_moments(const model::VitParams& vit, std::int64_t layer) {
  return vit.mlp_tokens(layer) != vit.prefix_tokens();
}

json gather_moments(const MomentsParams& params, const MomentsInputs& inputs, run::Context& context,
                    const fs::path& folder) {
  const model::VitParams& vit = inputs.model.description.vit;
  const auto network =
      moe::make_network(inputs.model.description, moe::to_device(inputs.model.tensors, context.device));
  std::vector<std::int64_t> missing;
  std::int64_t found = 0;
  context.comm.together([&] {
    for (std::int64_t layer = 0; context.comm.is_root() && layer < vit.depth; ++layer) {
      if (!has_moments(vit, layer)) continue;
      if (store::is_whole_safetensors(layer_moments_path(folder, layer))) {
        ++found;
      } else {
        missing.push_back(layer);
      }
    }
  });
  std::int64_t count = static_cast<std::int64_t>(missing.size());
  context.comm.broadcast(std::span<std::int64_t>(&count, 1));
  missing.resize(static_cast<std::size_t>(count));
  context.comm.broadcast(std::span<std::int64_t>(missing));
  const std::vector<LayerRouter> routers =
      fit_layer_routers(inputs.router, missing, inputs.clusters, inputs.shards, context);
  std::int64_t passes = 0, skipped = 0;
  for (std::size_t first = 0, last = 0; first < missing.size(); first = last, ++passes) {
    double bytes = 0;
    for (last = first; last < missing.size(); ++last) {
      bytes += moment_bytes(params, routers[last].weights.experts(), vit.hidden, vit.width);
      if (last > first && bytes > params.memory_gb * 1e9) break;
    }
    std::optional<Pass> pass;
    context.comm.together([&] {
      const auto from = static_cast<std::ptrdiff_t>(first), to = static_cast<std::ptrdiff_t>(last);
      pass.emplace(params, inputs, context, *network,
                   std::vector<std::int64_t>(missing.begin() + from, missing.begin() + to),
                   std::vector<LayerRouter>(routers.begin() + from, routers.begin() + to));
    });
    skipped = pass->run();
    context.comm.together([&] {
      if (context.comm.is_root()) pass->save(folder);
    });
  }
  return {{"images", inputs.images.size()}, {"skipped", skipped}, {"passes", passes}, {"layers_found", found}};
}

}  // namespace moextract::stages
