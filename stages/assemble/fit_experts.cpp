#include "stages/assemble/fit_experts.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <set>

#include "core/error.h"
#include "model/index_tensor.h"
#include "model/vit.h"
#include "moe/elimination.h"
#include "moe/expert_mlp.h"
#include "moe/expert_weights.h"
#include "moe/fitted_layer.h"
#include "moe/gather_tensors.h"
#include "moe/modularity.h"
#include "run/progress.h"
#include "stages/assemble/expert_budget.h"
#include "stages/assemble/expert_ranking.h"
#include "stages/assemble/sensitivity.h"
#include "stages/assemble/unmet_target.h"

namespace moextract::stages {
using nlohmann::json;
namespace {

std::string key_of(std::int64_t layer, const char* part) {
  return fmt::format("{:06}.{}", layer, part);
}

at::Tensor numbers(std::initializer_list<double> values) {
  return at::tensor(std::vector<double>(values), at::kDouble);
}

class Fitter {
 public:
  Fitter(const AssemblyChoices& choices, const AssembleInputs& inputs, const MomentsOf& moments, run::Context& context)
      : choices_(choices),
        params_(choices.params),
        inputs_(inputs),
        model_(inputs.model),
        vit_(inputs.model.description.vit),
        moments_(moments),
        context_(context),
        dense_(moe::make_network(model_.description, model_.tensors)) {
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer) {
      if (vit_.mlp_tokens(layer) > vit_.prefix_tokens()) layers_.push_back(layer);
    }
  }

  FittedModel run(model::TensorMap& tensors) {
    leave_out_single_clusters();
    const std::vector<std::vector<std::int64_t>> unions = cut();
    std::vector<ExpertRanking> rankings = rank_all(unions);
    const std::vector<double> factors = measure(rankings);
    const std::int64_t dense_parameters = model::count_parameters(model_.tensors);
    std::vector<LayerSizes> sizes;
    double share = 1;
    {
      ExpertBudget budget(choices_, vit_, *dense_, dense_parameters, layers_, rankings, factors);
      sizes = budget.choose();
      if (find_static_layers(budget, unions, rankings, sizes)) sizes = budget.choose();
      share = budget.share();
      leave_out_what_does_not_gain(budget, rankings, sizes);
    }
    const ExpertBudget budget(choices_, vit_, *dense_, dense_parameters, layers_, rankings, {});
    const model::TensorMap fitted = fit_all(budget, sizes);
    for (const std::int64_t layer : layers_) {  // the new tensors stand for all of the layer's MLP
      const std::string prefix = model::mlp_prefix(layer);
      for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix);)
        it = tensors.erase(it);
    }
    for (const auto& [name, tensor] : fitted) {
      if (!name.starts_with("facts.")) tensors[name] = tensor;
    }
    FittedModel result;
    result.macs = budget.macs(sizes);
    result.parameters = budget.parameters(sizes);
    result.facts = facts(rankings, sizes, factors, fitted, tensors, result.shares);
    for (const std::int64_t layer : layers_) {
      moe::RouterWeights router = moe::get_router(model::mlp_prefix(layer), tensors);
      if (!router.keys.defined()) router.keys = at::zeros({1, vit_.width});  // one expert for all tokens
      result.layers.push_back(spec_of(layer, router, budget.neurons(place_of(layer), sizes[place_of(layer)])));
    }
    if (params_.budget == moe::Budget::score_share) result.facts["share"] = share;
    result.facts["active_share"] = budget.active_share(sizes);
    return result;
  }

 private:
  std::vector<std::int64_t> mine() const {
    std::vector<std::int64_t> own;
    for (std::size_t i = static_cast<std::size_t>(context_.comm.rank()); i < layers_.size();
         i += static_cast<std::size_t>(context_.comm.size()))
      own.push_back(layers_[i]);
    return own;
  }

  /// What each rank has of its own layers, brought together.
  template <typename Work>
  model::TensorMap gather(const char* what, const Work& work) {
    model::TensorMap made;
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, what,
                             static_cast<std::int64_t>(layers_.size()), "layers");
      for (const std::int64_t layer : mine()) {
        leave_if_asked();
        const LayerMoments moments = load(layer);
        work(layer, moments, model_.tensors.at(model::mlp_prefix(layer) + "fc2.weight").to(at::kDouble), made);
        progress.add(context_.comm.size());
      }
    });
    return moe::gather_tensors(made, context_.comm);
  }

  void leave_out_single_clusters() {
    if (params_.one_cluster != OneCluster::dense) return;
    const model::TensorMap all = gather(
        "layers", [&](std::int64_t layer, const LayerMoments& moments, const at::Tensor&, model::TensorMap& made) {
          made.emplace(key_of(layer, "k"), numbers({static_cast<double>(moments.k())}));
        });
    std::erase_if(layers_, [&](std::int64_t layer) { return all.at(key_of(layer, "k")).item<double>() < 2; });
  }

  /// Experts that would cost no less than the dense MLP: it takes their place, if the parameters allow it.
  void leave_out_what_does_not_gain(const ExpertBudget& budget, std::vector<ExpertRanking>& rankings,
                                    std::vector<LayerSizes>& sizes) {
    const auto most = static_cast<double>(model::count_parameters(model_.tensors)) *
                      params_.target_parameters.value_or(std::numeric_limits<double>::infinity()) * (1 + 1e-12);
    std::int64_t parameters = budget.parameters(sizes);
    for (std::size_t place = layers_.size(); place-- > 0;) {
      const double dense =
          static_cast<double>(vit_.mlp_tokens(layers_[place])) * 2.0 * static_cast<double>(vit_.width * vit_.hidden);
      if (budget.layer_macs(place, sizes[place]) < dense) continue;
      const std::int64_t without = parameters - budget.added_parameters(place, sizes[place]);
      if (without > parameters && static_cast<double>(without) > most) continue;
      parameters = without;
      useless_.push_back(layers_[place]);
    }
    for (const std::int64_t layer : useless_) {
      const auto at = static_cast<std::ptrdiff_t>(place_of(layer));
      layers_.erase(layers_.begin() + at);
      rankings.erase(rankings.begin() + at);
      sizes.erase(sizes.begin() + at);
    }
  }

  /// The neurons of each layer that a static cut to the parameter budget leaves; empty: all.
  std::vector<std::vector<std::int64_t>> cut() {
    std::vector<std::vector<std::int64_t>> unions(layers_.size());
    if (!params_.target_parameters || params_.storage != moe::Storage::shared) return unions;
    const model::TensorMap all = gather("static cut", [&](std::int64_t layer, const LayerMoments& moments,
                                                          const at::Tensor& w, model::TensorMap& made) {
      at::Tensor metric = w;
      if (params_.score == moe::Score::elimination)
        metric = in_output_metric(w, pooled_directions(moments), params_.fisher);
      const moe::EliminationOrder result =
          moe::score_neurons(params_.score, pooled_moments(moments), metric, params_.ridge, params_.seed,
                             static_cast<std::uint64_t>(layer << 20));
      at::Tensor cost = at::empty({w.size(1)}, at::kDouble);
      std::copy(result.cost.begin(), result.cost.end(), cost.data_ptr<double>());
      made.emplace(key_of(layer, "order"), model::index_tensor(result.neurons));
      made.emplace(key_of(layer, "cost"), cost);
      made.emplace(key_of(layer, "facts"),
                   numbers({static_cast<double>(moments.experts.size()),
                            static_cast<double>(moe::router_parameters(moments.router)), moments.mean_gradient}));
    });
    std::vector<moe::Claim> claims;
    std::vector<std::array<std::int64_t, 2>> experts_and_router;
    for (const std::int64_t layer : layers_) {
      const at::Tensor cost = all.at(key_of(layer, "cost")), facts = all.at(key_of(layer, "facts"));
      moe::Claim claim;
      claim.worth.assign(cost.const_data_ptr<double>(), cost.const_data_ptr<double>() + cost.numel());
      claim.layer = layer;
      const double gradient = facts[2].item<double>();
      if (gradient > 0 && params_.score == moe::Score::elimination)
        claim.factor = std::pow(gradient, params_.layer_power);
      experts_and_router.push_back(
          {static_cast<std::int64_t>(facts[0].item<double>()), static_cast<std::int64_t>(facts[1].item<double>())});
      claims.push_back(std::move(claim));
    }
    const std::int64_t dense_parameters = model::count_parameters(model_.tensors);
    const auto parameters = [&](const std::vector<std::int64_t>& sizes) {
      std::int64_t count = dense_parameters;
      moe::FittedLayerSpec spec;
      spec.compensation = params_.compensation;
      for (std::size_t i = 0; i < layers_.size(); ++i) {
        count -= vit_.hidden * (2 * vit_.width + 1) + vit_.width;
        count += moe::layer_parameters(
            spec, std::vector<std::int64_t>(static_cast<std::size_t>(experts_and_router[i][0]), sizes[i]), sizes[i],
            vit_.width, experts_and_router[i][1]);
      }
      return static_cast<double>(count) / static_cast<double>(dense_parameters);
    };
    const moe::Budget budget =
        params_.budget == moe::Budget::layer_share ? moe::Budget::layer_share : moe::Budget::threshold;
    const auto rule = moe::make_size_rule(budget, claims, params_.min_neurons);
    const std::int64_t step = moe::last_step_that_fits(
        *rule, [&](const std::vector<std::int64_t>& sizes) { return parameters(sizes) <= *params_.target_parameters; });
    if (step < 0) {
      fail_unmet("assemble.target_parameters", *params_.target_parameters, parameters(rule->sizes(0)),
                 !layers_.empty());
    }
    const std::vector<std::int64_t> kept = rule->sizes(step);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const at::Tensor order = all.at(key_of(layers_[i], "order"));
      const std::int64_t* first = order.const_data_ptr<std::int64_t>();
      unions[i].assign(first + order.numel() - kept[i], first + order.numel());
      std::sort(unions[i].begin(), unions[i].end());
    }
    return unions;
  }

  std::vector<ExpertRanking> rank_all(const std::vector<std::vector<std::int64_t>>& unions) {
    const bool ranks_prefix = choices_.router.class_token == moe::ClassToken::own;
    const model::TensorMap all = gather(
        "ranking", [&](std::int64_t layer, const LayerMoments& moments, const at::Tensor& w, model::TensorMap& made) {
          put_ranking(rank_experts(params_, layer, moments, w, unions[place_of(layer)], ranks_prefix, context_.workers),
                      layer, made);
        });
    std::vector<ExpertRanking> rankings;
    for (const std::int64_t layer : layers_) rankings.push_back(get_ranking(layer, all));
    return rankings;
  }

  static void put_ranking(const ExpertRanking& r, std::int64_t layer, model::TensorMap& made) {
    made.emplace(key_of(layer, "order"), r.order);
    made.emplace(key_of(layer, "cost"), r.cost);
    made.emplace(key_of(layer, "count"), r.count);
    made.emplace(key_of(layer, "weight"), r.weight);
    made.emplace(key_of(layer, "share"), r.share);
    made.emplace(key_of(layer, "facts"), numbers({static_cast<double>(r.k), r.mean_gradient, r.agreement, r.router_macs,
                                                  static_cast<double>(r.router_parameters), r.temperature}));
  }

  static ExpertRanking get_ranking(std::int64_t layer, const model::TensorMap& all) {
    ExpertRanking r;
    r.order = all.at(key_of(layer, "order"));
    r.cost = all.at(key_of(layer, "cost"));
    r.count = all.at(key_of(layer, "count"));
    r.weight = all.at(key_of(layer, "weight"));
    r.share = all.at(key_of(layer, "share"));
    const double* f = all.at(key_of(layer, "facts")).const_data_ptr<double>();
    r.k = static_cast<std::int64_t>(f[0]);
    r.mean_gradient = f[1];
    r.agreement = f[2];
    r.router_macs = f[3];
    r.router_parameters = static_cast<std::int64_t>(f[4]);
    r.temperature = f[5];
    return r;
  }

  model::TensorMap dense_mlp(std::int64_t layer) const {
    const std::string prefix = model::mlp_prefix(layer);
    model::TensorMap tensors;
    for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"})
      tensors[prefix + name] = model_.tensors.at(prefix + name);
    return tensors;
  }

  /// Expected squared output error of a token, by its weight, of the layer that `spec` describes. Prefix tokens count:
  /// with one output matrix they pull at it.
  double output_error_of(const moe::FittedLayerSpec& spec, const LayerMoments& moments, const at::Tensor& w) const {
    model::TensorMap tensors = dense_mlp(spec.layer);
    moe::fit_layer(spec, moments.experts, tensors);
    const std::string prefix = model::mlp_prefix(spec.layer);
    std::vector<at::Tensor> outputs;
    if (tensors.contains(prefix + "router.weight")) {
      for (const moe::ExpertWeights& expert : moe::load_expert_weights(spec.layer, tensors))
        outputs.push_back(expert.fc2_weight);
    } else {
      outputs.push_back(tensors.at(prefix + "fc2.weight"));
    }
    const moe::ExpertSets sets = moe::expert_sets(spec, vit_.hidden);
    double error = 0, weight = 0;
    for (std::size_t e = 0; e < outputs.size(); ++e) {
      const moe::SecondMoments& m = moments.experts[e];
      error += m.weight * moe::output_error(w, m.covariance, sets.neurons[e], outputs[e].to(at::kDouble));
      weight += m.weight;
    }
    return weight > 0 ? error / weight : 0.0;
  }

  /// Layers that one expert for all tokens serves no worse at the same MACs; their rankings become that expert's.
  /// Returns whether there are any. Collective.
  bool find_static_layers(const ExpertBudget& budget, const std::vector<std::vector<std::int64_t>>& unions,
                          std::vector<ExpertRanking>& rankings, const std::vector<LayerSizes>& sizes) {
    if (!params_.static_layers) return false;
    const bool ranks_prefix = choices_.router.class_token == moe::ClassToken::own;
    const model::TensorMap all = gather("static layers", [&](std::int64_t layer, const LayerMoments& moments,
                                                             const at::Tensor& w, model::TensorMap& made) {
      if (moments.k() < 2) return;
      const std::size_t place = place_of(layer);
      const LayerMoments one = as_one_expert(moments);
      const ExpertRanking ranking = rank_experts(params_, layer, one, w, unions[place], ranks_prefix, context_.workers);
      const ExpertBudget alone(choices_, vit_, *dense_, 0, std::span(&layers_[place], 1), std::span(&ranking, 1), {});
      const double macs = budget.layer_macs(place, sizes[place]) * (1 + 1e-12);
      const auto of = [&](std::int64_t neurons) {
        LayerSizes list{neurons};
        if (ranking.ranked() > 1) list.push_back(sizes[place].back());  // the class token's expert stays as it is
        return list;
      };
      std::int64_t fits = 0;
      for (std::int64_t n = std::min(params_.min_neurons, ranking.order.size(1)), above = ranking.order.size(1) + 1;
           n < above;) {
        if (alone.layer_macs(0, of(n)) <= macs) {
          fits = n;
        } else {
          above = n;
        }
        n = fits + std::max<std::int64_t>((above - fits) / 2, 1);
        if (fits == 0) break;
      }
      if (fits == 0) return;
      const double routed =
                       output_error_of(spec_of(layer, moments.router, budget.neurons(place, sizes[place])), moments, w),
                   fixed = output_error_of(spec_of(layer, one.router, alone.neurons(0, of(fits))), one, w);
      made.emplace(key_of(layer, "errors"), numbers({routed, fixed}));
      put_ranking(ranking, layer, made);
    });
    for (const std::int64_t layer : layers_) {
      const auto found = all.find(key_of(layer, "errors"));
      if (found == all.end()) continue;
      const double* errors = found->second.const_data_ptr<double>();
      compared_[layer] = {errors[0], errors[1]};
      if (errors[1] > errors[0]) continue;
      static_.insert(layer);
      rankings[place_of(layer)] = get_ranking(layer, all);
    }
    return !static_.empty();
  }

  /// Budget sensitivity: what a unit of each layer's score is worth in the model's answers. Otherwise nothing.
  std::vector<double> measure(const std::vector<ExpertRanking>& rankings) {
    if (params_.budget != moe::Budget::sensitivity) return {};
    MOEX_ASSERT(inputs_.images != nullptr, "measured sensitivity needs images");
    std::vector<LayerSizes> sizes;
    for (const ExpertRanking& r : rankings) {
      const auto kept =
          static_cast<std::int64_t>(std::llround(params_.sensitivity_share * static_cast<double>(r.order.size(1))));
      sizes.emplace_back(static_cast<std::size_t>(r.ranked()), std::clamp<std::int64_t>(kept, 1, r.order.size(1)));
    }
    const std::int64_t dense_parameters = model::count_parameters(model_.tensors);
    const ExpertBudget budget(choices_, vit_, *dense_, dense_parameters, layers_, rankings, {});
    const std::vector<double> divergence =
        measure_divergence(model_, layers_, fit_all(budget, sizes), *inputs_.images, params_.sensitivity_images,
                           inputs_.micro_batch, context_);
    std::vector<double> factors;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const double error = expected_error(rankings[i], sizes[i]);
      factors.push_back(error > 0 ? std::max(divergence[i], 1e-12) / error : 1e-12);
    }
    return factors;
  }

  /// Of neurons that are active together, each in the group of the expert in whose tokens it varies most.
  static double modularity_of(const LayerMoments& moments) {
    std::vector<at::Tensor> spread;
    for (std::int64_t e = 0; e < moments.k(); ++e) {
      const moe::SecondMoments& m = moments.experts[static_cast<std::size_t>(e)];
      spread.push_back(m.variance * m.weight);
    }
    const at::Tensor group = at::stack(spread).argmax(0).contiguous();
    return moe::coactivation_modularity(
        pooled_covariance(moments), {group.const_data_ptr<std::int64_t>(), static_cast<std::size_t>(group.numel())});
  }

  /// A layer's position among those that get experts.
  std::size_t place_of(std::int64_t layer) const {
    return static_cast<std::size_t>(std::find(layers_.begin(), layers_.end(), layer) - layers_.begin());
  }

  LayerMoments load(std::int64_t layer) const {
    LayerMoments moments = moments_(layer);
    check_moments(layer, moments, model_.tensors.at(model::mlp_prefix(layer) + "fc2.weight"));
    pool_covariances(moments, params_.pooled_tokens, params_.min_tokens);
    if (static_.contains(layer)) return as_one_expert(moments);
    return moments;
  }

  void leave_if_asked() const {
    if (!context_.should_stop()) return;
    fail(ExitCode::resume, "assemble was asked to stop; finished stages are kept. Run the same command again to go on");
  }

  void check_moments(std::int64_t layer, const LayerMoments& moments, const at::Tensor& w) const {
    const moe::SecondMoments& first = moments.experts.front();
    if (first.mean.size(0) != w.size(1) || moments.router.width() != vit_.width) {
      fail(ExitCode::input,
           "the statistics of layer {} are of another model: they have {} neurons and {} inputs, the model {} and {}",
           layer, first.mean.size(0), moments.router.width(), w.size(1), vit_.width);
    }
    if (!inputs_.identity.empty() && !moments.identity.empty() && inputs_.identity != moments.identity) {
      fail(ExitCode::input,
           "the statistics of layer {} are of another model ({} instead of {}): run the stage that made them again",
           layer, moments.identity, inputs_.identity);
    }
    if (!inputs_.tap.empty() && !moments.tap.empty() && inputs_.tap != moments.tap) {
      fail(ExitCode::input,
           "the statistics of layer {} are of clusters of another tap ({} instead of {}): run the moments stage again",
           layer, moments.tap, inputs_.tap);
    }
    if (choices_.needs_covariance && !first.covariance.defined()) {
      fail(ExitCode::input,
           "the statistics of layer {} are means and variances alone, but score elimination and compensation "
           "least_squares need second moments: set moments.products to full",
           layer);
    }
    if (moments.prefix_apart != choices_.class_token_apart()) {
      fail(ExitCode::input, "the statistics of layer {} are of another router.class_token: run the moments stage again",
           layer);
    }
  }

  moe::FittedLayerSpec spec_of(std::int64_t layer, const moe::RouterWeights& router,
                               std::vector<std::vector<std::int64_t>> neurons) const {
    moe::FittedLayerSpec spec;
    spec.layer = layer;
    spec.router = router;
    spec.neurons = std::move(neurons);
    spec.prefix_tokens = vit_.prefix_tokens();
    if (choices_.class_token_apart()) {
      spec.prefix =
          choices_.router.class_token == moe::ClassToken::own ? moe::PrefixExpert::cut : moe::PrefixExpert::dense;
    }
    spec.storage = params_.storage;
    spec.compensation = params_.compensation;
    spec.rank = params_.rank;
    spec.ridge = params_.ridge;
    return spec;
  }

  model::TensorMap fit_all(const ExpertBudget& budget, const std::vector<LayerSizes>& sizes) {
    model::TensorMap made;
    const std::vector<std::int64_t> own = mine();
    context_.comm.together([&] {
      run::Progress progress(context_.comm.is_root() ? context_.log : nullptr, "experts",
                             static_cast<std::int64_t>(layers_.size()), "layers");
      context_.workers.for_each(static_cast<std::int64_t>(own.size()), [&](std::int64_t unit, int) {
        leave_if_asked();
        const std::int64_t layer = own[static_cast<std::size_t>(unit)];
        const LayerMoments moments = load(layer);
        const moe::FittedLayerSpec spec =
            spec_of(layer, moments.router, budget.neurons(place_of(layer), sizes[place_of(layer)]));
        model::TensorMap tensors = dense_mlp(layer);
        const std::vector<double> errors = moe::fit_layer(spec, moments.experts, tensors);
        tensors[fmt::format("facts.{}.error", layer)] = at::tensor(errors, at::kDouble);
        if (moments.experts.front().covariance.defined() && moments.k() > 1)
          tensors[fmt::format("facts.{}.modularity", layer)] = numbers({modularity_of(moments)});
        const std::lock_guard lock(mutex_);
        made.insert(tensors.begin(), tensors.end());
        progress.add(context_.comm.size());
      });
    });
    return moe::gather_tensors(made, context_.comm);
  }

  json facts(const std::vector<ExpertRanking>& rankings, const std::vector<LayerSizes>& sizes,
             const std::vector<double>& factors, const model::TensorMap& fitted, const model::TensorMap& tensors,
             model::TokenShares& shares) const {
    shares.assign(static_cast<std::size_t>(vit_.depth), {});
    json layers = json::array();
    for (std::int64_t layer = 0; layer < vit_.depth; ++layer) {
      const std::size_t place = place_of(layer);
      const auto compared = compared_.find(layer);
      if (place == layers_.size()) {
        layers.push_back({{"layer", layer}, {"hidden", vit_.hidden}, {"kind", "dense"}, {"k", 0}});
        if (compared != compared_.end()) layers.back()["output_error_compared"] = compared->second;
        if (std::find(useless_.begin(), useless_.end(), layer) != useless_.end())
          layers.back()["why"] = "experts would cost no less";
        continue;
      }
      const ExpertRanking& r = rankings[place];
      json entry{{"layer", layer}, {"hidden", vit_.hidden}};
      if (static_.contains(layer)) entry["why"] = "routing gains nothing";
      if (compared != compared_.end()) entry["output_error_compared"] = compared->second;
      const moe::LayerSummary summary = moe::summarise_layer(layer, tensors);
      if (summary.k == 0) {
        entry.update({{"kind", "pruned"}, {"k", 1}, {"kept", sizes[place].front()}});
      } else {
        const double* share = r.share.const_data_ptr<double>();
        shares[static_cast<std::size_t>(layer)].assign(share, share + r.share.numel());
        entry.update({{"kind", "experts"},
                      {"k", summary.k},
                      {"sizes", summary.sizes},
                      {"union", summary.union_size},
                      {"sum_sizes", std::accumulate(summary.sizes.begin(), summary.sizes.end(), std::int64_t{0})},
                      {"token_share", shares[static_cast<std::size_t>(layer)]},
                      {"overlap", moe::expert_overlaps(layer, tensors)},
                      {"prefix_expert", r.prefix_apart()},
                      {"router_temperature", r.temperature}});
        if (r.agreement >= 0) entry["router_agreement"] = r.agreement;
        if (const auto found = fitted.find(fmt::format("facts.{}.modularity", layer)); found != fitted.end())
          entry["modularity"] = found->second[0].item<double>();
      }
      std::vector<std::int64_t> tokens;
      for (std::int64_t e = 0; e < r.experts(); ++e)
        tokens.push_back(static_cast<std::int64_t>(r.count[e].item<double>()));
      const auto few = std::count_if(tokens.begin(), tokens.end(), [&](auto n) { return n < params_.min_tokens; });
      if (few > 0) {
        entry["experts_of_few_tokens"] = few;
        if (context_.comm.is_root()) {
          context_.log->warn(
              "layer {}: {} of {} experts have fewer than {} tokens (assemble.min_tokens) and take the "
              "statistics of the whole layer",
              layer, few, tokens.size(), params_.min_tokens);
        }
      }
      entry["rows"] = std::move(tokens);
      if (r.mean_gradient > 0) entry["mean_gradient"] = r.mean_gradient;
      if (!factors.empty() && useless_.empty()) entry["sensitivity"] = factors[place];
      const at::Tensor error = fitted.at(fmt::format("facts.{}.error", layer)).contiguous();
      if (error.numel() > 0) {
        entry["output_error"] =
            std::vector<double>(error.const_data_ptr<double>(), error.const_data_ptr<double>() + error.numel());
      }
      layers.push_back(std::move(entry));
    }
    return {{"layers", std::move(layers)}};
  }

  const AssemblyChoices& choices_;
  const AssembleParams& params_;
  const AssembleInputs& inputs_;
  const moe::LoadedModel& model_;
  const model::VitParams& vit_;
  const MomentsOf& moments_;
  run::Context& context_;
  std::unique_ptr<model::Network> dense_;
  std::vector<std::int64_t> layers_;  ///< layers that are cut
  std::set<std::int64_t> static_;     ///< of these, layers with one expert for all tokens because routing gains nothing
  std::map<std::int64_t, std::array<double, 2>> compared_;  ///< output errors of routed and static experts
  std::vector<std::int64_t> useless_;  ///< layers whose experts would cost no less than the dense MLP
  std::mutex mutex_;
};

}  // namespace

FittedModel fit_experts(const AssemblyChoices& choices, const AssembleInputs& inputs, const MomentsOf& moments,
                        run::Context& context, model::TensorMap& tensors) {
  return Fitter(choices, inputs, moments, context).run(tensors);
}

}  // namespace moextract::stages
