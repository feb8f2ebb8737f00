#include "stages/assemble/fit_experts.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
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
#include "stages/assemble/expert_ranking.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using nlohmann::json;
namespace {

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
    const std::vector<ExpertRanking> rankings = rank_all(cut());
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
  /// What each rank has of its own layers, brought together.
  template <typename Work>
  model::TensorMap gather(const char* what, const Work& work) {
    model::TensorMap made;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, what,
                             static_cast<std::int64_t>(layers_.size()), "layers");
      for (const std::int64_t layer : mine_) {
        leave_if_asked();
        const LayerMoments moments = load(layer);
        work(layer, moments, model_.tensors.at(model::mlp_prefix(layer) + "fc2.weight").to(at::kDouble), made);
        progress.add(context_.comm.size());
      }
    });
    return moe::gather_tensors(made, context_.comm);
  }

  /// The neurons of each layer that a static cut to the parameter budget leaves; empty: all.
  std::vector<std::vector<std::int64_t>> cut() {
    std::vector<std::vector<std::int64_t>> unions(layers_.size());
    if (!params_.target_parameters) return unions;
    const model::TensorMap all = gather("static cut", [&](std::int64_t layer, const LayerMoments& moments,
                                                          const at::Tensor& w, model::TensorMap& made) {
      at::Tensor metric = w;
      if (moments.directions.defined()) {
        // Averaged over the experts by their weights.
        at::Tensor directions = at::zeros({vit_.width, vit_.width}, at::kDouble);
        double weight = 0;
        for (std::size_t e = 0; e < moments.experts.size(); ++e) {
          directions.add_(moments.directions[static_cast<std::int64_t>(e)], moments.experts[e].weight);
          weight += moments.experts[e].weight;
        }
        metric = in_output_metric(w, directions / weight, params_.fisher);
      }
      const moe::EliminationOrder result = moe::eliminate(metric, pooled_covariance(moments), {.ridge = params_.ridge});
      at::Tensor cost = at::empty({w.size(1)}, at::kDouble);
      std::copy(result.cost.begin(), result.cost.end(), cost.data_ptr<double>());
      made.emplace(key_of(layer, "order"), moe::index_tensor(result.neurons));
      made.emplace(key_of(layer, "cost"), cost);
      made.emplace(key_of(layer, "k"), moe::index_tensor(std::vector<std::int64_t>{moments.keys.size(0)}));
      made.emplace(key_of(layer, "gradient"), at::full({1}, moments.mean_gradient, at::kDouble));
    });
    std::vector<moe::Claim> claims;
    const double d = static_cast<double>(vit_.width);
    // What stays: everything outside these MLPs, and the routers and output biases of the experts.
    double fixed = static_cast<double>(model::count_parameters(model_.tensors));
    for (const std::int64_t layer : layers_) {
      fixed -= static_cast<double>(vit_.hidden) * (2.0 * d + 1.0) + d;
      const double k = static_cast<double>(all.at(key_of(layer, "k")).item<std::int64_t>());
      fixed += k * (d + 1.0) + (k + (vit_.prefix_tokens() > 0 ? 1.0 : 0.0)) * d;
      const at::Tensor cost = all.at(key_of(layer, "cost"));
      moe::Claim claim;
      claim.worth.assign(cost.const_data_ptr<double>(), cost.const_data_ptr<double>() + cost.numel());
      const double gradient = all.at(key_of(layer, "gradient")).item<double>();
      if (gradient > 0) claim.factor = std::pow(gradient, params_.layer_power);
      claim.price = 2.0 * d + 1.0;
      claims.push_back(std::move(claim));
    }
    const double budget =
        *params_.target_parameters * static_cast<double>(model::count_parameters(model_.tensors)) - fixed;
    const std::vector<std::int64_t> kept =
        moe::allocate(claims, params_.min_neurons, budget, "assemble.target_parameters");
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const at::Tensor order = all.at(key_of(layers_[i], "order"));
      const std::int64_t* first = order.const_data_ptr<std::int64_t>();
      unions[i].assign(first + order.numel() - kept[i], first + order.numel());
      std::sort(unions[i].begin(), unions[i].end());
    }
    return unions;
  }

  std::vector<ExpertRanking> rank_all(const std::vector<std::vector<std::int64_t>>& unions) {
    const model::TensorMap all = gather("elimination", [&](std::int64_t layer, const LayerMoments& moments,
                                                           const at::Tensor& w, model::TensorMap& made) {
      const ExpertRanking r = rank_experts(params_, moments, w, unions[place(layer)], context_.workers);
      made.emplace(key_of(layer, "order"), r.order);
      made.emplace(key_of(layer, "cost"), r.cost);
      made.emplace(key_of(layer, "count"), r.count);
      made.emplace(key_of(layer, "weight"), r.weight);
      made.emplace(key_of(layer, "gradient"), at::full({1}, r.mean_gradient, at::kDouble));
    });
    std::vector<ExpertRanking> rankings;
    for (const std::int64_t layer : layers_) {
      ExpertRanking r;
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

  /// A layer's position among those that get experts.
  std::size_t place(std::int64_t layer) const {
    return static_cast<std::size_t>(std::find(layers_.begin(), layers_.end(), layer) - layers_.begin());
  }

  LayerMoments load(std::int64_t layer) const {
    LayerMoments moments = load_layer_moments(folder_, layer);
    check_moments(layer, moments, model_.tensors.at(model::mlp_prefix(layer) + "fc2.weight"));
    pool_covariances(moments, params_.pooled_tokens);
    return moments;
  }

  void leave_if_asked() const {
    if (!context_.should_stop()) return;
    fail(ExitCode::resume, "assemble was asked to stop; finished stages are kept. Run the same command again to go on");
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
  double token_share(const ExpertRanking& r, std::int64_t layer, std::int64_t expert) const {
    const at::Tensor routed = r.count.narrow(0, 0, r.k);
    const double total = routed.sum().item<double>();
    const double patches = static_cast<double>(vit_.mlp_tokens(layer) - vit_.prefix_tokens()) /
                           static_cast<double>(vit_.mlp_tokens(layer));
    return total > 0 ? routed[expert].item<double>() / total * patches : 0.0;
  }

  /// Neurons of each expert: one threshold on the rise of output error per MAC, levelled between experts and layers.
  std::vector<std::vector<std::int64_t>> allot(const std::vector<ExpertRanking>& rankings) const {
    const double d = static_cast<double>(vit_.width), hidden = static_cast<double>(vit_.hidden);
    std::vector<moe::Claim> claims;
    double fixed = 0, mlp_total = 0;  // MACs of an image that no choice changes; MACs of all dense MLPs
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer)
      mlp_total += static_cast<double>(vit_.mlp_tokens(layer)) * 2.0 * d * hidden;
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer)
      fixed += static_cast<double>(vit_.prefix_tokens()) * 2.0 * d * hidden;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const ExpertRanking& r = rankings[i];
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
          claim.factor =
              (own_weight / weight) / (own_count / count) * std::pow(mean_cost / own_cost, params_.expert_power);
          if (r.mean_gradient > 0) claim.factor *= std::pow(r.mean_gradient, params_.layer_power);
        }
        claim.price = 2.0 * d * tokens * token_share(r, layers_[i], e);
        claims.push_back(std::move(claim));
      }
    }
    double budget = std::numeric_limits<double>::infinity();  // none: experts hold all that the static cut left
    const char* key = "assemble.target_active";
    if (params_.target_active) {
      budget = *params_.target_active * mlp_total - fixed;
    } else if (params_.target_macs) {
      key = "assemble.target_macs";
      budget = *params_.target_macs * model::macs_per_image(*dense_, {}) - dense_->other_macs() - fixed;
    }
    const std::vector<std::int64_t> kept = moe::allocate(claims, params_.min_neurons, budget, key);
    std::vector<std::vector<std::int64_t>> sizes;
    for (auto next = kept.begin(); const ExpertRanking& r : rankings) {
      sizes.emplace_back(next, next + r.k);
      next += r.k;
    }
    return sizes;
  }

  model::TensorMap fit_all(const std::vector<ExpertRanking>& rankings,
                           const std::vector<std::vector<std::int64_t>>& sizes) {
    model::TensorMap made;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "least squares",
                             static_cast<std::int64_t>(layers_.size()), "layers");
      context_.workers.for_each(static_cast<std::int64_t>(mine_.size()), [&](std::int64_t unit, int) {
        leave_if_asked();
        const std::int64_t layer = mine_[static_cast<std::size_t>(unit)];
        const std::size_t i = place(layer);
        const LayerMoments moments = load(layer);
        moe::FittedLayerSpec spec{.layer = layer,
                                  .keys = moments.keys,
                                  .key_bias = moments.key_bias,
                                  .neurons = {},
                                  .prefix_tokens = vit_.prefix_tokens(),
                                  .storage = params_.storage,
                                  .ridge = params_.ridge};
        for (std::int64_t e = 0; e < rankings[i].k; ++e) {
          const std::int64_t size = sizes[i][static_cast<std::size_t>(e)];
          const at::Tensor last =
              rankings[i].order.select(0, e).slice(0, rankings[i].order.size(1) - size).contiguous();
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

  json facts(const std::vector<ExpertRanking>& rankings, const model::TensorMap& fitted,
             const model::TensorMap& tensors, model::TokenShares& shares) const {
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
      const ExpertRanking& r = rankings[static_cast<std::size_t>(found - layers_.begin())];
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
                        {"overlap", moe::expert_overlaps(layer, tensors)},
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
  if (params.target_active && params.target_macs) {
    fail(ExitCode::config, "assemble: target_macs and target_active exclude each other: give one of them");
  }
  if (!params.target_active && !params.target_macs && !params.target_parameters) {
    fail(ExitCode::config,
         "assemble: method least_squares needs a budget: give target_active or target_macs, target_parameters, or one "
         "of "
         "the first two with the third");
  }
  if (params.target_parameters && params.storage != moe::Storage::shared) {
    fail(ExitCode::config,
         "assemble.target_parameters: cuts the one matrix that all experts share: set assemble.storage to shared");
  }
  if (params.storage == moe::Storage::separate) {
    fail(ExitCode::config,
         "assemble.storage: separate is not available with least_squares; choose own_output or shared");
  }
  return Fitter(params, model, moments, context).run(tensors, shares);
}

}  // namespace moextract::stages
