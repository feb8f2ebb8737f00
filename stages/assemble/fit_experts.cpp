#include "stages/assemble/fit_experts.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <numeric>

#include "core/error.h"
#include "model/vit.h"
#include "moe/allocation.h"
#include "moe/elimination.h"
#include "moe/expert_mlp.h"
#include "moe/fitted_layer.h"
#include "moe/gather_tensors.h"
#include "moe/index_tensor.h"
#include "run/progress.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

/// What all ranks must know of a layer before neurons are allotted; gathered as tensors, one row an expert.
struct Ranking {
  std::int64_t k = 0;
  at::Tensor order;          ///< [k, H] int64: neurons in the order of their removal
  at::Tensor cost;           ///< [k, H] double
  at::Tensor count, weight;  ///< [k + 1]: of the routed experts and the prefix tokens
  double mean_gradient = 0;
};

std::string key_of(std::int64_t layer, const char* part) {
  return fmt::format("{:06}.{}", layer, part);
}

class Fitter {
 public:
  Fitter(const AssembleParams& params, const moe::LoadedModel& model, const fs::path& folder, run::Context& context)
      : params_(params),
        model_(model),
        vit_(model.description.vit),
        folder_(folder),
        context_(context),
        dense_(moe::make_network(model.description, model.tensors)) {
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer) {
      if (vit_.mlp_tokens(layer) > vit_.prefix_tokens()) layers_.push_back(layer);
    }
    for (std::size_t i = static_cast<std::size_t>(context.comm.rank()); i < layers_.size();
         i += static_cast<std::size_t>(context.comm.size())) {
      mine_.push_back(layers_[i]);
    }
  }

  json run(model::TensorMap& tensors, model::TokenShares& shares) {
    const std::vector<Ranking> rankings = rank_all();
    const std::vector<std::vector<std::int64_t>> sizes = allot(rankings);
    const model::TensorMap fitted = fit_all(rankings, sizes);
    for (const std::int64_t layer : layers_) {  // the new tensors stand for all of the layer's MLP
      const std::string prefix = model::mlp_prefix(layer);
      for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix);)
        it = tensors.erase(it);
    }
    for (const auto& [name, tensor] : fitted) {
      if (!name.starts_with("facts.")) tensors[name] = tensor;
    }
    return facts(rankings, fitted, tensors, shares);
  }

 private:
  std::vector<Ranking> rank_all() {
    model::TensorMap made;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "elimination",
                             static_cast<std::int64_t>(layers_.size()), "layers");
      for (const std::int64_t layer : mine_) {
        const LayerMoments moments = load_layer_moments(folder_, layer);
        const at::Tensor w = model_.tensors.at(model::mlp_prefix(layer) + "fc2.weight").to(at::kDouble);
        check_moments(layer, moments, w);
        const auto k = static_cast<std::int64_t>(moments.experts.size()) - 1;
        at::Tensor order = at::empty({k, w.size(1)}, at::kLong), cost = at::zeros({k, w.size(1)}, at::kDouble);
        at::Tensor count = at::empty({k + 1}, at::kDouble), weight = at::empty({k + 1}, at::kDouble);
        for (std::int64_t e = 0; e <= k; ++e) {
          count[e] = static_cast<double>(moments.experts[static_cast<std::size_t>(e)].count);
          weight[e] = moments.experts[static_cast<std::size_t>(e)].weight;
        }
        context_.workers.for_each(k, [&](std::int64_t e, int) {
          const moe::SecondMoments& m = moments.experts[static_cast<std::size_t>(e)];
          const moe::EliminationOrder result = moe::eliminate(w, m.covariance, {.ridge = params_.ridge});
          order.select(0, e).copy_(moe::index_tensor(result.neurons));
          if (m.weight > 0) std::copy(result.cost.begin(), result.cost.end(), cost.data_ptr<double>() + e * w.size(1));
        });
        made.emplace(key_of(layer, "order"), order);
        made.emplace(key_of(layer, "cost"), cost);
        made.emplace(key_of(layer, "count"), count);
        made.emplace(key_of(layer, "weight"), weight);
        made.emplace(key_of(layer, "gradient"), at::full({1}, moments.mean_gradient, at::kDouble));
        progress.add(context_.comm.size());
      }
    });
    const model::TensorMap all = moe::gather_tensors(made, context_.comm);
    std::vector<Ranking> rankings;
    for (const std::int64_t layer : layers_) {
      Ranking r;
      r.order = all.at(key_of(layer, "order"));
      r.cost = all.at(key_of(layer, "cost"));
      r.count = all.at(key_of(layer, "count"));
      r.weight = all.at(key_of(layer, "weight"));
      r.mean_gradient = all.at(key_of(layer, "gradient")).item<double>();
      r.k = r.order.size(0);
      rankings.push_back(std::move(r));
    }
    return rankings;
  }

  void check_moments(std::int64_t layer, const LayerMoments& moments, const at::Tensor& w) const {
    const moe::SecondMoments& first = moments.experts.front();
    if (first.covariance.size(0) != w.size(1) || moments.keys.size(1) != vit_.width) {
      fail(ExitCode::input,
           "{}: the moments of layer {} are of another model: they have {} neurons and {} inputs, the model {} and {}",
           folder_.string(), layer, first.covariance.size(0), moments.keys.size(1), w.size(1), vit_.width);
    }
  }

  /// Share of the layer's tokens that go to each routed expert.
  double token_share(const Ranking& r, std::int64_t layer, std::int64_t expert) const {
    const at::Tensor routed = r.count.narrow(0, 0, r.k);
    const double total = routed.sum().item<double>();
    const double patches = static_cast<double>(vit_.mlp_tokens(layer) - vit_.prefix_tokens()) /
                           static_cast<double>(vit_.mlp_tokens(layer));
    return total > 0 ? routed[expert].item<double>() / total * patches : 0.0;
  }

  /// Neurons of each expert: one threshold on the rise of output error per MAC, levelled between experts and layers.
  std::vector<std::vector<std::int64_t>> allot(const std::vector<Ranking>& rankings) const {
    const double d = static_cast<double>(vit_.width), hidden = static_cast<double>(vit_.hidden);
    std::vector<moe::Claim> claims;
    double fixed = 0, mlp_total = 0;  // MACs of an image that no choice changes; MACs of all dense MLPs
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer)
      mlp_total += static_cast<double>(vit_.mlp_tokens(layer)) * 2.0 * d * hidden;
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer)
      fixed += static_cast<double>(vit_.prefix_tokens()) * 2.0 * d * hidden;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const Ranking& r = rankings[i];
      const double tokens = static_cast<double>(vit_.mlp_tokens(layers_[i]));
      fixed += (tokens - static_cast<double>(vit_.prefix_tokens())) * static_cast<double>(r.k) * d;  // the router
      const double count = r.count.narrow(0, 0, r.k).sum().item<double>(),
                   weight = r.weight.narrow(0, 0, r.k).sum().item<double>();
      const double mean_cost = r.cost.mean().item<double>();
      for (std::int64_t e = 0; e < r.k; ++e) {
        const at::Tensor cost = r.cost.select(0, e).contiguous();
        moe::Claim claim;
        claim.worth.assign(cost.const_data_ptr<double>(), cost.const_data_ptr<double>() + cost.numel());
        const double own_count = r.count[e].item<double>(), own_weight = r.weight[e].item<double>(),
                     own_cost = cost.mean().item<double>();
        if (own_count > 0 && own_cost > 0) {
          claim.factor = (own_weight / weight) / (own_count / count) * std::sqrt(mean_cost / own_cost);
          if (r.mean_gradient > 0) claim.factor *= std::sqrt(r.mean_gradient);
        }
        claim.price = 2.0 * d * tokens * token_share(r, layers_[i], e);
        claims.push_back(std::move(claim));
      }
    }
    double budget = 0;
    const char* key = "assemble.target_active";
    if (params_.target_active) {
      budget = *params_.target_active * mlp_total - fixed;
    } else {
      key = "assemble.target_macs";
      budget = *params_.target_macs * model::macs_per_image(*dense_, {}) - dense_->other_macs() - fixed;
    }
    const std::vector<std::int64_t> kept = moe::allocate(claims, params_.min_neurons, budget, key);
    std::vector<std::vector<std::int64_t>> sizes;
    for (auto next = kept.begin(); const Ranking& r : rankings) {
      sizes.emplace_back(next, next + r.k);
      next += r.k;
    }
    return sizes;
  }

  model::TensorMap fit_all(const std::vector<Ranking>& rankings, const std::vector<std::vector<std::int64_t>>& sizes) {
    model::TensorMap made;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "least squares",
                             static_cast<std::int64_t>(layers_.size()), "layers");
      context_.workers.for_each(static_cast<std::int64_t>(mine_.size()), [&](std::int64_t unit, int) {
        const std::int64_t layer = mine_[static_cast<std::size_t>(unit)];
        const auto i = static_cast<std::size_t>(std::find(layers_.begin(), layers_.end(), layer) - layers_.begin());
        const LayerMoments moments = load_layer_moments(folder_, layer);
        moe::FittedLayerSpec spec{.layer = layer,
                                  .keys = moments.keys,
                                  .key_bias = moments.key_bias,
                                  .neurons = {},
                                  .prefix_tokens = vit_.prefix_tokens(),
                                  .storage = params_.storage,
                                  .ridge = params_.ridge};
        for (std::int64_t e = 0; e < rankings[i].k; ++e) {
          const std::int64_t size = sizes[i][static_cast<std::size_t>(e)];
          const at::Tensor last = rankings[i].order.select(0, e).slice(0, vit_.hidden - size).contiguous();
          std::vector<std::int64_t> set(last.const_data_ptr<std::int64_t>(),
                                        last.const_data_ptr<std::int64_t>() + size);
          std::sort(set.begin(), set.end());
          spec.neurons.push_back(std::move(set));
        }
        const std::string prefix = model::mlp_prefix(layer);
        model::TensorMap tensors;
        for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"})
          tensors[prefix + name] = model_.tensors.at(prefix + name);
        const std::vector<double> errors = moe::fit_layer(spec, moments.experts, tensors);
        at::Tensor error = at::empty({static_cast<std::int64_t>(errors.size())}, at::kDouble);
        std::copy(errors.begin(), errors.end(), error.data_ptr<double>());
        tensors[fmt::format("facts.{}.error", layer)] = error;
        const std::lock_guard lock(mutex_);
        made.insert(tensors.begin(), tensors.end());
        progress.add(context_.comm.size());
      });
    });
    return moe::gather_tensors(made, context_.comm);
  }

  json facts(const std::vector<Ranking>& rankings, const model::TensorMap& fitted, const model::TensorMap& tensors,
             model::TokenShares& shares) const {
    shares.assign(static_cast<std::size_t>(vit_.depth), {});
    json layers = json::array();
    double active = 0, all = 0;
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer) {
      const auto l = static_cast<std::size_t>(layer);
      const double tokens = static_cast<double>(vit_.mlp_tokens(layer)), hidden = static_cast<double>(vit_.hidden);
      const auto found = std::find(layers_.begin(), layers_.end(), layer);
      all += tokens * hidden;
      if (found == layers_.end()) {
        active += tokens * hidden;
        layers.push_back({{"layer", layer}, {"hidden", vit_.hidden}, {"kind", "dense"}, {"k", 0}});
        continue;
      }
      const Ranking& r = rankings[static_cast<std::size_t>(found - layers_.begin())];
      for (std::int64_t e = 0; e < r.k; ++e) shares[l].push_back(token_share(r, layer, e));
      if (vit_.prefix_tokens() > 0) shares[l].push_back(static_cast<double>(vit_.prefix_tokens()) / tokens);
      const moe::LayerSummary summary = moe::summarise_layer(layer, tensors);
      for (std::size_t e = 0; e < summary.sizes.size(); ++e)
        active += tokens * shares[l][e] * static_cast<double>(summary.sizes[e]);
      active += (tokens - static_cast<double>(vit_.prefix_tokens())) * static_cast<double>(r.k) / 2.0;
      const at::Tensor error = fitted.at(fmt::format("facts.{}.error", layer)).contiguous();
      layers.push_back({{"layer", layer},
                        {"hidden", vit_.hidden},
                        {"kind", "experts"},
                        {"k", summary.k},
                        {"sizes", summary.sizes},
                        {"union", summary.union_size},
                        {"sum_sizes", std::accumulate(summary.sizes.begin(), summary.sizes.end(), std::int64_t{0})},
                        {"token_share", shares[l]},
                        {"prefix_expert", vit_.prefix_tokens() > 0},
                        {"mean_gradient", r.mean_gradient},
                        {"output_error", std::vector<double>(error.const_data_ptr<double>(),
                                                             error.const_data_ptr<double>() + error.numel())}});
    }
    return {{"method", "least_squares"}, {"active_share", active / all}, {"layers", std::move(layers)}};
  }

  const AssembleParams& params_;
  const moe::LoadedModel& model_;
  const model::VitParams& vit_;
  const fs::path& folder_;
  run::Context& context_;
  std::unique_ptr<model::Network> dense_;
  std::vector<std::int64_t> layers_, mine_;  ///< layers that get experts, and those of them that this rank makes
  std::mutex mutex_;
};

}  // namespace

json fit_experts(const AssembleParams& params, const moe::LoadedModel& model, const fs::path& moments,
                 run::Context& context, model::TensorMap& tensors, model::TokenShares& shares) {
  if (params.target_active.has_value() == params.target_macs.has_value()) {
    fail(ExitCode::config, "assemble: method least_squares needs a budget: give either target_active or target_macs");
  }
  if (params.storage == moe::Storage::separate) {
    fail(ExitCode::config,
         "assemble.storage: separate is not available with least_squares; choose own_output or shared");
  }
  return Fitter(params, model, moments, context).run(tensors, shares);
}

}  // namespace moextract::stages
