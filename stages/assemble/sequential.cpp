#include "stages/assemble/sequential.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "model/vit.h"
#include "moe/expert_router.h"
#include "moe/gather_tensors.h"
#include "moe/importance.h"
#include "moe/stream_repair.h"
#include "run/progress.h"
#include "stages/assemble/expert_ranking.h"
#include "stages/moments/image_views.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// Images whose products are summed at once: part of the result's last bits.
constexpr std::int64_t kUnitImages = 40;

fs::path layer_path(const fs::path& folder, std::int64_t layer) {
  return folder / fmt::format("sequential-{:03}.safetensors", layer);
}

/// What is known of some images, and where their streams stand.
struct Unit {
  std::int64_t first = 0, count = 0;
  std::vector<std::int64_t> index;  ///< in the set; of all views, one after the other
  std::vector<at::Tensor> weight;   ///< [layers] of [rows, tokens]; empty: all alike

  std::int64_t layer = -1;     ///< the block in which the streams were seen last; -1: they are not kept
  at::Tensor dense;            ///< [rows, tokens, d] of the dense model after that block
  at::Tensor residual, input;  ///< of the compressed one: before its MLP is added, and the MLP's input
};

class SequentialFit {
 public:
  SequentialFit(const AssemblyChoices& choices, const AssembleInputs& inputs,
                std::span<const moe::FittedLayerSpec> layers, run::Context& context, const fs::path& folder)
      : params_(choices.params),
        inputs_(inputs),
        sampling_(*inputs.sampling),
        context_(context),
        folder_(folder),
        model_(inputs.model),
        vit_(inputs.model.description.vit),
        dense_(moe::make_network(model_.description, model_.tensors)),
        current_(model_.tensors) {
    for (const moe::FittedLayerSpec& spec : layers) specs_.emplace(spec.layer, spec), cut_.insert(spec.layer);
    for (std::int64_t layer = 0; layer < vit_.depth && params_.sequential == Sequential::all; ++layer) {
      if (!specs_.contains(layer)) specs_.emplace(layer, whole(layer));
    }
    const std::int64_t total = inputs.images->size(), units = (total + kUnitImages - 1) / kUnitImages;
    for (std::int64_t u = context.comm.rank(); u < units; u += context.comm.size()) {
      Unit unit;
      unit.first = u * kUnitImages;
      unit.count = std::min(kUnitImages, total - unit.first);
      units_.push_back(std::move(unit));
    }
  }

  json run(model::TensorMap& tensors) {
    json facts = json::object();
    if (cut_.empty()) return facts;
    first_ = *cut_.begin();
    put_layer(first_, tensors, current_);  // nothing before it has changed: its fit is what it would be
    std::vector<std::int64_t> missing;
    for (const auto& [layer, spec] : specs_) {
      if (layer > first_) missing.push_back(layer);
    }
    // Rank 0's view counts of what an earlier start has left.
    std::vector<std::int64_t> found(missing.size(), 0);
    context_.comm.together([&] {
      for (std::size_t i = 0; i < missing.size(); ++i) found[i] = fs::exists(layer_path(folder_, missing[i])) ? 1 : 0;
    });
    context_.comm.broadcast(std::span<std::int64_t>(found));
    const auto done = static_cast<std::size_t>(std::find(found.begin(), found.end(), 0) - found.begin());
    if (done < missing.size() && sampling_.importance) weigh();
    for (std::size_t i = 0; i < missing.size(); ++i) {
      const std::int64_t layer = missing[i];
      const model::TensorMap fitted = i < done ? load(layer) : fit(layer);
      put_layer(layer, fitted, current_);
      facts[std::to_string(layer)] = facts_of(layer, fitted);
    }
    for (const auto& [layer, spec] : specs_) put_layer(layer, current_, tensors);
    context_.comm.together([&] {
      for (const std::int64_t layer : missing) {
        if (context_.comm.is_root()) fs::remove(layer_path(folder_, layer));
      }
    });
    return facts;
  }

 private:
  /// All neurons for all tokens: the layer stays dense, and its output weights are fitted.
  moe::FittedLayerSpec whole(std::int64_t layer) const {
    moe::FittedLayerSpec spec;
    spec.layer = layer;
    spec.router.keys = at::zeros({1, vit_.width});
    spec.neurons.emplace_back();
    for (std::int64_t j = 0; j < vit_.hidden; ++j) spec.neurons.front().push_back(j);
    spec.storage = moe::Storage::own_output;
    spec.compensation = moe::Compensation::least_squares;
    spec.ridge = params_.ridge;
    return spec;
  }

  static void put_layer(std::int64_t layer, const model::TensorMap& from, model::TensorMap& to) {
    const std::string prefix = model::mlp_prefix(layer);
    for (auto it = to.lower_bound(prefix); it != to.end() && it->first.starts_with(prefix);) it = to.erase(it);
    for (auto it = from.lower_bound(prefix); it != from.end() && it->first.starts_with(prefix); ++it) to.insert(*it);
  }

  void leave_if_asked() const {
    if (!context_.should_stop()) return;
    fail(ExitCode::resume, "assemble was asked to stop; finished layers are kept. Run the same command again to go on");
  }

  /// The unit's pictures, view by view.
  at::Tensor load_images(Unit& unit) const {
    const model::InputBatch batch =
        model::load_batch(*inputs_.images, model_.description.preprocess, unit.first, unit.count, inputs_.bad_images);
    std::vector<std::string> ids;
    for (const std::int64_t i : batch.index) ids.push_back(inputs_.images->id(i));
    std::vector<at::Tensor> views;
    unit.index.clear();
    for (std::int64_t view = 0; view < view_count(sampling_); ++view) {
      views.push_back(view_images(sampling_, batch.images, ids, view, vit_.patch_size));
      unit.index.insert(unit.index.end(), batch.index.begin(), batch.index.end());
    }
    return views.size() == 1 ? views.front() : at::cat(views);
  }

  /// Importance of all tokens in all layers, from one pass with gradients.
  void weigh() {
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "importance",
                             static_cast<std::int64_t>(units_.size()) * kUnitImages, "images of this rank");
      context_.workers.for_each(static_cast<std::int64_t>(units_.size()), [&](std::int64_t number, int) {
        leave_if_asked();
        Unit& unit = units_[static_cast<std::size_t>(number)];
        const at::Tensor images = load_images(unit);
        const std::int64_t rows = images.size(0), plain = rows / view_count(sampling_);
        std::vector<std::vector<at::Tensor>> parts(static_cast<std::size_t>(vit_.depth));
        for (std::int64_t at = 0; at < rows; at += sampling_.micro_batch) {
          const std::int64_t count = std::min(sampling_.micro_batch, rows - at);
          std::vector<std::string> ids;
          for (std::int64_t i = at; i < at + count; ++i) {
            const std::string id = inputs_.images->id(unit.index[static_cast<std::size_t>(i)]);
            ids.push_back(view_name(sampling_, id, i / plain));  // as the moments stage draws its classes
          }
          const std::vector<moe::CalibrationTrace> traces =
              moe::trace_network(*dense_, images.narrow(0, at, count), ids, /*importance=*/true, sampling_.seed);
          for (std::size_t l = 0; l < traces.size(); ++l)
            parts[l].push_back(moe::importance_weights(traces[l].g(), vit_.prefix_tokens()));
        }
        for (const std::vector<at::Tensor>& part : parts)
          unit.weight.push_back(part.empty() ? at::Tensor() : at::cat(part));
        progress.add(unit.count);
      });
    });
  }

  /// Both streams before block `layer`, in memory of their own; undefined if there are no pictures. `compressed`: its
  /// layers before that one are final.
  std::pair<at::Tensor, at::Tensor> streams_before(Unit& unit, std::int64_t layer,
                                                   const model::Network& compressed) const {
    at::Tensor dense, other;
    std::int64_t at = 0;
    if (unit.layer >= 0) {
      dense = unit.dense;
      other = unit.residual + compressed.mlp(unit.layer).forward(unit.input, nullptr);
      at = unit.layer + 1;
    } else {
      const at::Tensor images = load_images(unit);
      if (images.size(0) == 0) return {};  // none of its pictures could be read
      dense = dense_->embed(images);
      for (; at < first_; ++at) dense = dense_->advance(at, dense);
      other = dense.clone();  // up to the first layer that was cut they are the same
    }
    for (; at < layer; ++at) {
      dense = dense_->advance(at, dense);
      other = compressed.advance(at, other);
    }
    return {dense, other};
  }

  /// Moments of (h, e) in `layer`; the second half of the experts stands for images of odd numbers.
  void add_unit(Unit& unit, const moe::FittedLayerSpec& spec, const model::Network& compressed, std::int64_t experts,
                bool keep, moe::SecondMomentSums& sums) const {
    const at::NoGradGuard no_grad;
    auto [dense, other] = streams_before(unit, spec.layer, compressed);
    if (!dense.defined()) return;
    const at::Tensor wanted = dense_->advance(spec.layer, dense);
    model::MlpTrace seen;
    const at::Tensor reached =
        compressed.advance(spec.layer, other, [&](std::int64_t, const model::MlpTrace& trace) { seen = trace; });
    const std::int64_t rows = wanted.size(0), tokens = wanted.size(1);
    const std::int64_t prefix = spec.prefix == moe::PrefixExpert::none ? 0 : spec.prefix_tokens;
    const at::Tensor joint =
        at::cat({seen.h.reshape({rows * tokens, -1}), (wanted - reached).reshape({rows * tokens, -1})}, 1);
    const moe::Choice choice = moe::deal_tokens(spec.router, seen.x.reshape({rows, tokens, -1}), prefix);
    at::Tensor weight = at::ones({rows, tokens});
    if (!unit.weight.empty()) weight = unit.weight[static_cast<std::size_t>(spec.layer)];
    at::Tensor half = at::zeros({rows, 1}, at::kLong);
    for (std::int64_t i = 0; i < rows && sums.experts() > experts; ++i)
      half.data_ptr<std::int64_t>()[i] = unit.index[static_cast<std::size_t>(i)] % 2 * experts;
    half = half.expand({rows, tokens}).reshape(-1);
    for (std::int64_t slot = 0; slot < choice.expert.size(1); ++slot) {
      const at::Tensor expert = choice.expert.select(1, slot);
      at::Tensor share = weight.reshape(-1);
      if (choice.expert.size(1) > 1) share = share * choice.gate.select(1, slot);
      sums.add(joint, at::where(expert < 0, expert, expert + half), share);
    }
    unit.layer = -1;
    unit.dense = unit.residual = unit.input = at::Tensor();
    if (!keep) return;
    unit.layer = spec.layer;
    unit.dense = wanted;
    unit.residual = seen.residual;
    unit.input = seen.x;
  }

  /// One pass over the images, then the fit on rank 0. Collective.
  model::TensorMap fit(std::int64_t layer) {
    const moe::FittedLayerSpec& spec = specs_.at(layer);
    const std::int64_t experts = spec.router.experts() + (spec.prefix == moe::PrefixExpert::none ? 0 : 1);
    const std::int64_t halves = params_.sequential_ridge ? 1 : 2;
    std::optional<moe::SecondMomentSums> sums;
    context_.comm.together([&] {
      const auto compressed = moe::make_network(model_.description, current_);
      sums.emplace(experts * halves, vit_.hidden + vit_.width);
      const auto kept =
          static_cast<std::size_t>(params_.stream_gb * 1e9 / (stream_bytes(vit_, sampling_) * kUnitImages));
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, fmt::format("layer {} again", layer),
                             static_cast<std::int64_t>(units_.size()) * kUnitImages, "images of this rank");
      context_.workers.for_each(static_cast<std::int64_t>(units_.size()), [&](std::int64_t number, int) {
        leave_if_asked();
        const auto u = static_cast<std::size_t>(number);
        add_unit(units_[u], spec, *compressed, experts, u < kept, *sums);
        progress.add(units_[u].count);
      });
    });
    sums->all_reduce(context_.comm);
    model::TensorMap made;
    context_.comm.together([&] {
      if (!context_.comm.is_root()) return;
      made = fit_to(spec, *sums, experts, halves);
      model::save_weights(layer_path(folder_, layer), made, {});
    });
    return moe::gather_tensors(made, context_.comm);
  }

  moe::DeviationMoments::Part part_of(std::vector<moe::SecondMoments> joint, double share) const {
    LayerMoments pooled;
    pooled.experts = std::move(joint);
    pool_covariances(pooled, params_.pooled_tokens * share,
                     static_cast<std::int64_t>(static_cast<double>(params_.min_tokens) * share));
    moe::DeviationMoments::Part part;
    for (const moe::SecondMoments& m : pooled.experts) {
      auto [moments, deviation] = moe::split_moments(m, vit_.hidden);
      part.moments.push_back(std::move(moments));
      part.deviations.push_back(std::move(deviation));
    }
    return part;
  }

  model::TensorMap fit_to(const moe::FittedLayerSpec& spec, const moe::SecondMomentSums& sums, std::int64_t experts,
                          std::int64_t halves) const {
    std::vector<moe::SecondMoments> all;
    moe::DeviationMoments moments;
    moments.ridge = params_.sequential_ridge;
    for (std::int64_t half = 0; half < halves; ++half) {
      std::vector<moe::SecondMoments> own;
      for (std::int64_t e = 0; e < experts; ++e) own.push_back(sums.moments(half * experts + e));
      for (std::size_t e = 0; e < own.size(); ++e) {
        if (half == 0) {
          all.push_back(own[e]);
        } else {
          all[e] = moe::unite_moments(all[e], own[e]);
        }
      }
      if (halves > 1) moments.halves.push_back(part_of(std::move(own), 1.0 / static_cast<double>(halves)));
    }
    moments.all = part_of(std::move(all), 1.0);
    const moe::OutputRepair repair =
        moe::fit_repair(spec, moments, params_.sequential == Sequential::all, context_.workers);
    const std::string prefix = model::mlp_prefix(spec.layer);
    model::TensorMap tensors;
    for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"})
      tensors[prefix + name] = model_.tensors.at(prefix + name);
    const std::vector<double> errors = moe::fit_layer(spec, moments.all.moments, tensors, &repair);
    double square = 0, weight = 0;
    for (std::int64_t e = 0; e < experts; ++e) {
      const auto i = static_cast<std::size_t>(e);
      const moe::Deviation& d = moments.all.deviations[i];
      square += moments.all.moments[i].weight * (d.square + d.mean.square().sum().item<double>());
      weight += moments.all.moments[i].weight;
    }
    tensors["facts.error"] = at::tensor(errors, at::kDouble);
    std::vector<double> ridges = repair.ridges;
    ridges.push_back(repair.map_ridge);
    for (double& ridge : ridges) ridge = std::isfinite(ridge) ? ridge : -1;  // files hold finite numbers
    tensors["facts.ridge"] = at::tensor(ridges, at::kDouble);
    tensors["facts.deviation"] = at::full({1}, weight > 0 ? square / weight : 0.0, at::kDouble);
    return tensors;
  }

  model::TensorMap load(std::int64_t layer) const {
    model::TensorMap tensors;
    context_.comm.together([&] {
      if (context_.comm.is_root()) tensors = model::load_weights(layer_path(folder_, layer), true).tensors;
    });
    return moe::gather_tensors(tensors, context_.comm);
  }

  json facts_of(std::int64_t layer, const model::TensorMap& fitted) const {
    const auto list = [&](const char* name) {
      const at::Tensor t = fitted.at(name).contiguous();
      return std::vector<double>(t.const_data_ptr<double>(), t.const_data_ptr<double>() + t.numel());
    };
    json facts{{"stream_deviation", list("facts.deviation").front()}};
    const auto number = [](double ridge) { return ridge < 0 ? json() : json(ridge); };
    std::vector<double> ridges = list("facts.ridge");
    facts["map_ridge"] = number(ridges.back());
    ridges.pop_back();
    facts["repair_ridge"] = json::array();
    for (const double ridge : ridges) facts["repair_ridge"].push_back(number(ridge));
    if (cut_.contains(layer)) facts["output_error"] = list("facts.error");
    return facts;
  }

  const AssembleParams& params_;
  const AssembleInputs& inputs_;
  const MomentsParams& sampling_;
  run::Context& context_;
  fs::path folder_;
  const moe::LoadedModel& model_;
  const model::VitParams& vit_;
  std::unique_ptr<model::Network> dense_;
  model::TensorMap current_;  // layers that are done are compressed, the others dense
  std::map<std::int64_t, moe::FittedLayerSpec> specs_;
  std::set<std::int64_t> cut_;
  std::int64_t first_ = 0;  // the first layer that was cut
  std::vector<Unit> units_;
};

}  // namespace

double stream_bytes(const model::VitParams& vit, const MomentsParams& sampling) {
  return static_cast<double>(view_count(sampling)) * static_cast<double>(vit.tokens() * vit.width) * 3 * sizeof(float);
}

double sequential_sum_bytes(const AssembleParams& params, std::int64_t k, std::int64_t hidden, std::int64_t width) {
  return (params.sequential_ridge ? 1.0 : 2.0) * static_cast<double>(k + 1) *
         moe::moment_sum_bytes(hidden + width, moe::Extent::full);
}

json fit_sequentially(const AssemblyChoices& choices, const AssembleInputs& inputs,
                      std::span<const moe::FittedLayerSpec> layers, run::Context& context, const fs::path& folder,
                      model::TensorMap& tensors) {
  MOEX_ASSERT(inputs.images != nullptr && inputs.sampling != nullptr, "a sequential fit needs images");
  return SequentialFit(choices, inputs, layers, context, folder).run(tensors);
}

}  // namespace moextract::stages
