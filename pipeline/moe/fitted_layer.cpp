#include "moe/fitted_layer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "model/index_tensor.h"
#include "model/vit.h"
#include "moe/elimination.h"
#include "moe/ridge.h"
#include "moe/stream_repair.h"

namespace moextract::moe {
namespace {

std::vector<std::int64_t> positions_in(const std::vector<std::int64_t>& sorted, std::span<const std::int64_t> wanted) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t value : wanted)
    positions.push_back(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
  return positions;
}

/// One output matrix [d, U] for all experts; w[e] [d, H] is what expert e's should stand for.
at::Tensor fit_jointly(std::span<const at::Tensor> w, const ExpertSets& sets, std::span<const SecondMoments> moments,
                       double ridge) {
  const auto u = static_cast<std::int64_t>(sets.unite.size());
  const at::Tensor& base = w.front();
  at::Tensor a = at::zeros({u, u}, at::kDouble), b = at::zeros({base.size(0), u}, at::kDouble);
  for (std::size_t e = 0; e < sets.neurons.size(); ++e) {
    if (!(moments[e].weight > 0)) continue;
    const at::Tensor s = model::index_tensor(sets.neurons[e]), place = model::index_tensor(sets.places(e));
    const at::Tensor c_s = moments[e].covariance.index_select(0, s), c_ss = c_s.index_select(1, s);
    const at::Tensor target = at::mm(w[e], c_s.t()) - at::mm(base.index_select(1, s), c_ss);  // W_B C_BS
    at::Tensor rows = at::zeros({place.numel(), u}, at::kDouble);
    rows.index_copy_(1, place, c_ss * moments[e].weight);
    a.index_add_(0, place, rows);
    b.index_add_(1, place, target * moments[e].weight);
  }
  const at::Tensor factor = ridge_factor(a, absolute_ridge(a, ridge), "the second moments of a layer");
  return base.index_select(1, model::index_tensor(sets.unite)) + at::cholesky_solve(b.t().contiguous(), factor).t();
}

/// left [d, r] and right [r, |S|] whose product comes nearest to `difference` [d, |S|] in the metric of c_ss + r I.
std::pair<at::Tensor, at::Tensor> nearest_of_rank(const at::Tensor& difference, const at::Tensor& c_ss, double ridge,
                                                  std::int64_t rank) {
  const at::Tensor factor = ridge_factor(c_ss, absolute_ridge(c_ss, ridge), "the second moments of an expert");
  // difference G = U S V^T with C = G G^T: the leading part is the nearest, and V^T G^-1 brings it back.
  const auto [u, sigma, vh] = at::linalg_svd(at::mm(difference, factor), /*full_matrices=*/false);
  const std::int64_t r = std::min(rank, sigma.size(0));
  at::Tensor left = at::zeros({difference.size(0), rank}, at::kDouble),
             right = at::zeros({rank, difference.size(1)}, at::kDouble);
  left.narrow(1, 0, r).copy_(u.narrow(1, 0, r) * sigma.narrow(0, 0, r));
  right.narrow(0, 0, r).copy_(
      at::linalg_solve_triangular(factor, vh.narrow(0, 0, r).contiguous(), /*upper=*/false, /*left=*/false));
  return {left, right};
}

/// Expected squared error of `output` on `kept` against W h + e: tr of the target's covariance, less what is met.
double repaired_error(const at::Tensor& w, const SecondMoments& m, const Deviation& e,
                      std::span<const std::int64_t> kept, const at::Tensor& output) {
  const at::Tensor s = model::index_tensor(kept), target = at::mm(w, m.covariance) + e.cross;  // cov(W h + e, h)
  const double total = ((target + e.cross) * w).sum().item<double>() + e.square;
  const at::Tensor c_ss = m.covariance.index_select(0, s).index_select(1, s);
  return total + ((at::mm(output, c_ss) - 2 * target.index_select(1, s)) * output).sum().item<double>();
}

}  // namespace

std::vector<std::int64_t> ExpertSets::places(std::size_t expert) const {
  return positions_in(unite, neurons[expert]);
}

ExpertSets expert_sets(const FittedLayerSpec& spec, std::int64_t hidden) {
  ExpertSets sets{spec.neurons, {}};
  std::set<std::int64_t> unique;
  for (const auto& set : sets.neurons) {
    MOEX_ASSERT(!set.empty() && std::is_sorted(set.begin(), set.end()),
                "neurons of an expert are ascending, at least one");
    unique.insert(set.begin(), set.end());
  }
  std::vector<std::int64_t> every(static_cast<std::size_t>(hidden));
  std::iota(every.begin(), every.end(), 0);
  sets.unite.assign(unique.begin(), unique.end());
  if (spec.prefix == PrefixExpert::dense) {
    if (!spec.shares_output()) sets.unite = every;
    sets.neurons.push_back(sets.unite);
  }
  return sets;
}

std::vector<double> fit_layer(const FittedLayerSpec& spec, std::span<const SecondMoments> moments,
                              model::TensorMap& tensors, const OutputRepair* repair) {
  const at::NoGradGuard no_grad;
  const std::string prefix = model::mlp_prefix(spec.layer);
  const at::Tensor w = tensors.at(prefix + "fc2.weight").to(at::kDouble),
                   bias = tensors.at(prefix + "fc2.bias").to(at::kDouble);
  const std::int64_t hidden = w.size(1), routed = spec.router.experts();
  const bool fits = spec.compensation == Compensation::least_squares, one_matrix = spec.shares_output(),
             has_prefix = spec.prefix != PrefixExpert::none, prefix_is_dense = spec.prefix == PrefixExpert::dense;
  MOEX_ASSERT(spec.compensation != Compensation::automatic, "compensation is settled before it is used");
  MOEX_ASSERT(spec.storage != Storage::low_rank || (fits && spec.rank > 0), "low rank corrects a joint fit");
  MOEX_ASSERT(repair == nullptr || fits, "a repair adds to a fit");
  MOEX_ASSERT(static_cast<std::int64_t>(spec.neurons.size()) == routed + (spec.prefix == PrefixExpert::cut ? 1 : 0),
              "one set of neurons an expert");

  const ExpertSets sets = expert_sets(spec, hidden);
  const std::vector<std::vector<std::int64_t>>& neurons = sets.neurons;
  const std::vector<std::int64_t>& unite = sets.unite;
  MOEX_ASSERT(moments.size() == neurons.size(), "moments of other experts");

  std::vector<at::Tensor> wanted(neurons.size(), w);  // of each expert, on all neurons
  for (std::size_t e = 0; repair != nullptr && repair->map.defined() && e < static_cast<std::size_t>(routed); ++e)
    wanted[e] = w + repair->map;
  at::Tensor shared = fits && one_matrix ? fit_jointly(wanted, sets, moments, spec.ridge)
                                         : w.index_select(1, model::index_tensor(unite));
  if (repair != nullptr && one_matrix) shared = shared + repair->shared;
  std::vector<at::Tensor> outputs, biases, lefts, rights;
  std::vector<std::int64_t> all, rows, offsets{0};
  std::vector<double> errors;
  for (std::size_t e = 0; e < neurons.size(); ++e) {
    const SecondMoments& m = moments[e];
    const std::vector<std::int64_t> places = sets.places(e);
    const at::Tensor own = model::index_tensor(neurons[e]);
    const bool is_prefix = has_prefix && e + 1 == neurons.size();
    const Deviation* deviation = repair != nullptr && repair->weights[e].defined() ? &repair->deviations[e] : nullptr;
    const bool keeps_all = is_prefix && prefix_is_dense && !one_matrix;  // and the trained weights, or close to them
    const bool untouched = keeps_all && deviation == nullptr;
    const bool refits = fits && !keeps_all && m.weight > 0;
    at::Tensor output = one_matrix ? shared.index_select(1, model::index_tensor(places)) : w.index_select(1, own);
    if (refits && !one_matrix) output = refit(wanted[e], m.covariance, neurons[e], spec.ridge);
    if (deviation != nullptr && !one_matrix) output = output + repair->weights[e];
    if (spec.storage == Storage::low_rank) {
      at::Tensor left = at::zeros({w.size(0), spec.rank}, at::kDouble),
                 right = at::zeros({spec.rank, own.numel()}, at::kDouble);
      if (refits && !(is_prefix && prefix_is_dense)) {
        const at::Tensor c_ss = m.covariance.index_select(0, own).index_select(1, own);
        at::Tensor best = refit(wanted[e], m.covariance, neurons[e], spec.ridge);
        if (deviation != nullptr) best = best + repair->weights[e];
        std::tie(left, right) = nearest_of_rank(best - output, c_ss, spec.ridge, spec.rank);
        output = output + at::mm(left, right);
      }
      lefts.push_back(left);
      rights.push_back(right);
    }
    at::Tensor own_bias = untouched || spec.compensation == Compensation::none
                              ? bias
                              : bias + at::mv(w, m.mean) - at::mv(output, m.mean.index_select(0, own));
    if (deviation != nullptr) own_bias = own_bias + deviation->mean;
    biases.push_back(std::move(own_bias));
    if (!is_prefix && m.covariance.defined()) {
      const double total = (at::mm(w, m.covariance) * w).sum().item<double>();
      const double error = deviation != nullptr ? repaired_error(w, m, *deviation, neurons[e], output)
                                                : output_error(w, m.covariance, neurons[e], output);
      errors.push_back(total > 0 ? error / total : 0.0);
    }
    outputs.push_back(std::move(output));
    all.insert(all.end(), neurons[e].begin(), neurons[e].end());
    rows.insert(rows.end(), places.begin(), places.end());
    offsets.push_back(static_cast<std::int64_t>(all.size()));
  }

  const at::Tensor index = model::index_tensor(spec.storage == Storage::separate ? all : unite);
  tensors[prefix + "fc1.weight"] = tensors.at(prefix + "fc1.weight").index_select(0, index);
  tensors[prefix + "fc1.bias"] = tensors.at(prefix + "fc1.bias").index_select(0, index);
  if (routed == 1 && !has_prefix) {
    tensors[prefix + "fc2.weight"] = outputs[0].to(at::kFloat);
    tensors[prefix + "fc2.bias"] = biases[0].to(at::kFloat);
    return errors;
  }
  if (spec.compensation != Compensation::none) tensors[prefix + "fc2.bias"] = at::stack(biases).to(at::kFloat);
  put_router(prefix, spec.router, tensors);
  tensors[prefix + "experts.offsets"] = model::index_tensor(offsets).to(at::kInt);
  tensors[prefix + "experts.neurons"] = model::index_tensor(all).to(at::kInt);
  if (spec.storage != Storage::separate) tensors[prefix + "experts.rows"] = model::index_tensor(rows).to(at::kInt);
  if (has_prefix) {
    tensors[prefix + "experts.prefix"] =
        model::index_tensor(std::vector<std::int64_t>{routed, spec.prefix_tokens}).to(at::kInt);
  }
  if (one_matrix) {
    tensors[prefix + "fc2.weight"] = shared.to(at::kFloat);
  } else if (spec.storage == Storage::separate) {
    tensors[prefix + "fc2.weight"] = at::cat(outputs, 1).to(at::kFloat);
  } else {
    tensors.erase(prefix + "fc2.weight");
    tensors[prefix + "experts.fc2.weight"] = at::cat(outputs, 1).to(at::kFloat);
  }
  if (spec.storage == Storage::low_rank) {
    tensors[prefix + "experts.low_rank.left"] = at::stack(lefts).to(at::kFloat);
    tensors[prefix + "experts.low_rank.right"] = at::cat(rights, 1).to(at::kFloat);
  }
  return errors;
}

std::int64_t layer_parameters(const FittedLayerSpec& spec, std::span<const std::int64_t> sizes, std::int64_t unite,
                              std::int64_t width, std::int64_t router) {
  const auto experts = static_cast<std::int64_t>(sizes.size());
  const std::int64_t sum = std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0});
  if (experts == 1) return unite * (2 * width + 1) + width;
  const bool separate = spec.storage == Storage::separate;
  std::int64_t count = (separate ? sum : unite) * (width + 1);
  count += (separate || spec.storage == Storage::own_output ? sum : unite) * width;
  if (spec.storage == Storage::low_rank) count += spec.rank * (experts * width + sum);
  count += spec.compensation == Compensation::none ? width : experts * width;
  return count + router;
}

}  // namespace moextract::moe
