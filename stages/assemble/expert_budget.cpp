#include "stages/assemble/expert_budget.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "moe/size_rule.h"
#include "stages/assemble/unmet_target.h"

namespace moextract::stages {
namespace {

std::vector<std::vector<LayerSizes::value_type>> by_layer(const std::vector<std::int64_t>& flat,
                                                          std::span<const ExpertRanking> rankings) {
  std::vector<LayerSizes> sizes;
  for (auto next = flat.begin(); const ExpertRanking& r : rankings) {
    sizes.emplace_back(next, next + r.ranked());
    next += r.ranked();
  }
  return sizes;
}

}  // namespace

std::vector<moe::Claim> expert_claims(const AssembleParams& params, const ExpertRanking& r, std::int64_t layer,
                                      double factor) {
  const double count = r.count.narrow(0, 0, r.k).sum().item<double>(),
               weight = r.weight.narrow(0, 0, r.k).sum().item<double>();
  const double mean_cost = r.cost.narrow(0, 0, r.k).mean().item<double>();
  std::vector<moe::Claim> claims;
  for (std::int64_t e = 0; e < r.ranked(); ++e) {
    const at::Tensor cost = r.cost.select(0, e).contiguous();
    moe::Claim claim;
    claim.worth.assign(cost.const_data_ptr<double>(), cost.const_data_ptr<double>() + cost.numel());
    claim.layer = layer;
    claim.price = r.share[e].item<double>();
    claim.factor = factor;
    const double own_count = r.count[e].item<double>(), own_weight = r.weight[e].item<double>(),
                 own_cost = cost.mean().item<double>();
    if (params.score == moe::Score::elimination && own_count > 0 && own_cost > 0) {
      claim.factor *= (own_weight / weight) / (own_count / count) * std::pow(mean_cost / own_cost, params.expert_power);
    }
    claims.push_back(std::move(claim));
  }
  return claims;
}

double expected_error(const ExpertRanking& ranking, const LayerSizes& sizes) {
  double error = 0;
  for (std::int64_t e = 0; e < ranking.ranked(); ++e) {
    const std::int64_t dropped = ranking.cost.size(1) - sizes[static_cast<std::size_t>(e)];
    error += ranking.share[e].item<double>() * ranking.cost.select(0, e).narrow(0, 0, dropped).sum().item<double>();
  }
  return error;
}

ExpertBudget::ExpertBudget(const AssemblyChoices& choices, const model::VitParams& vit, const model::Network& dense,
                           std::int64_t dense_parameters, std::span<const std::int64_t> layers,
                           std::span<const ExpertRanking> rankings, std::span<const double> factors)
    : choices_(choices),
      vit_(vit),
      dense_(dense),
      dense_parameters_(dense_parameters),
      layers_(layers),
      rankings_(rankings),
      factors_(factors) {}

bool ExpertBudget::one_matrix() const {
  return choices_.params.storage == moe::Storage::shared || choices_.params.storage == moe::Storage::low_rank;
}

std::vector<std::vector<std::int64_t>> ExpertBudget::neurons(std::size_t place, const LayerSizes& sizes) const {
  const ExpertRanking& r = rankings_[place];
  std::vector<std::vector<std::int64_t>> sets;
  for (std::int64_t e = 0; e < r.ranked(); ++e) {
    const std::int64_t* last = r.order.const_data_ptr<std::int64_t>() + (e + 1) * r.order.size(1);
    std::vector<std::int64_t> set(last - sizes[static_cast<std::size_t>(e)], last);
    std::sort(set.begin(), set.end());
    sets.push_back(std::move(set));
  }
  return sets;
}

std::int64_t ExpertBudget::union_size(std::size_t place, const LayerSizes& sizes) const {
  const ExpertRanking& r = rankings_[place];
  if (r.prefix_apart() && r.ranked() == r.k && !one_matrix()) return vit_.hidden;  // the prefix expert has all
  std::vector<bool> used(static_cast<std::size_t>(vit_.hidden), false);
  std::int64_t count = 0;
  for (std::int64_t e = 0; e < r.ranked(); ++e) {
    const std::int64_t* last = r.order.const_data_ptr<std::int64_t>() + (e + 1) * r.order.size(1);
    for (const std::int64_t* j = last - sizes[static_cast<std::size_t>(e)]; j != last; ++j) {
      count += used[static_cast<std::size_t>(*j)] ? 0 : 1;
      used[static_cast<std::size_t>(*j)] = true;
    }
  }
  return count;
}

LayerSizes ExpertBudget::all_sizes(std::size_t place, const LayerSizes& sizes, std::int64_t unite) const {
  LayerSizes all = sizes;
  if (rankings_[place].experts() > rankings_[place].ranked()) all.push_back(one_matrix() ? unite : vit_.hidden);
  return all;
}

double ExpertBudget::layer_macs(std::size_t place, const LayerSizes& sizes) const {
  const ExpertRanking& r = rankings_[place];
  const LayerSizes all =
      all_sizes(place, sizes, r.experts() > r.ranked() && one_matrix() ? union_size(place, sizes) : 0);
  const double d = static_cast<double>(vit_.width);
  double active = 0;
  for (std::size_t e = 0; e < all.size(); ++e)
    active += r.share[static_cast<std::int64_t>(e)].item<double>() * static_cast<double>(all[e]);
  const double routed = r.prefix_apart() ? 1.0 - r.share[r.k].item<double>() : 1.0;
  return tokens(layers_[place]) * (2.0 * d * active + routed * r.router_macs);
}

double ExpertBudget::macs(const std::vector<LayerSizes>& sizes) const {
  double macs = dense_.other_macs();
  std::size_t place = 0;
  for (std::int64_t layer = 0; layer < vit_.depth; ++layer) {
    if (place < layers_.size() && layers_[place] == layer) {
      macs += layer_macs(place, sizes[place]);
      ++place;
    } else {
      macs += tokens(layer) * 2.0 * static_cast<double>(vit_.width * vit_.hidden);
    }
  }
  return macs;
}

double ExpertBudget::active_share(const std::vector<LayerSizes>& sizes) const {
  double all = 0;
  for (std::int64_t layer = 0; layer < vit_.depth; ++layer) all += tokens(layer);
  all *= 2.0 * static_cast<double>(vit_.width * vit_.hidden);
  return (macs(sizes) - dense_.other_macs()) / all;
}

std::int64_t ExpertBudget::added_parameters(std::size_t place, const LayerSizes& sizes) const {
  moe::FittedLayerSpec spec;
  spec.storage = choices_.params.storage;
  spec.compensation = choices_.params.compensation;
  spec.rank = choices_.params.rank;
  const std::int64_t unite = union_size(place, sizes);
  return moe::layer_parameters(spec, all_sizes(place, sizes, unite), unite, vit_.width,
                               rankings_[place].router_parameters) -
         (vit_.hidden * (2 * vit_.width + 1) + vit_.width);
}

std::int64_t ExpertBudget::parameters(const std::vector<LayerSizes>& sizes) const {
  std::int64_t count = dense_parameters_;
  for (std::size_t place = 0; place < layers_.size(); ++place) count += added_parameters(place, sizes[place]);
  return count;
}

std::vector<LayerSizes> ExpertBudget::choose() {
  const AssembleParams& p = choices_.params;
  std::vector<moe::Claim> claims;
  for (std::size_t place = 0; place < layers_.size(); ++place) {
    const ExpertRanking& r = rankings_[place];
    double factor = factors_.empty() ? 1.0 : factors_[place];
    if (factors_.empty() && p.score == moe::Score::elimination && r.mean_gradient > 0)
      factor = std::pow(r.mean_gradient, p.layer_power);
    for (moe::Claim& claim : expert_claims(p, r, layers_[place], factor)) claims.push_back(std::move(claim));
  }
  const auto rule = moe::make_size_rule(p.budget, claims, p.min_neurons);
  const double dense_macs = model::macs_per_image(dense_, {});
  struct Target {
    const char* key;
    std::optional<double> most;
    std::function<double(const std::vector<LayerSizes>&)> cost;
  };
  const std::vector<Target> targets{
      {"assemble.target_macs", p.target_macs, [&](const std::vector<LayerSizes>& s) { return macs(s) / dense_macs; }},
      {"assemble.target_active", p.target_active, [&](const std::vector<LayerSizes>& s) { return active_share(s); }},
      {"assemble.target_parameters", p.target_parameters, [&](const std::vector<LayerSizes>& s) {
         return static_cast<double>(parameters(s)) / static_cast<double>(dense_parameters_);
       }}};
  const std::vector<LayerSizes> least = by_layer(rule->sizes(0), rankings_);
  bool any = false;
  for (const Target& target : targets) {
    if (!target.most) continue;
    any = true;
    if (const double cost = target.cost(least); cost > *target.most * (1 + 1e-12)) {
      fail_unmet(target.key, *target.most, cost, !layers_.empty());
    }
  }
  std::int64_t step = p.budget == moe::Budget::score_share ? moe::step_of_share(p.share) : rule->steps() - 1;
  if (any) {
    step = moe::last_step_that_fits(*rule, [&](const std::vector<std::int64_t>& flat) {
      const std::vector<LayerSizes> sizes = by_layer(flat, rankings_);
      return std::all_of(targets.begin(), targets.end(), [&](const Target& target) {
        return !target.most || target.cost(sizes) <= *target.most * (1 + 1e-12);
      });
    });
  }
  if (p.budget == moe::Budget::score_share) share_ = moe::share_of_step(step);
  return by_layer(rule->sizes(std::max<std::int64_t>(step, 0)), rankings_);
}

}  // namespace moextract::stages
