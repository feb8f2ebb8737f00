#include "moe/stream_repair.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>
#include <tuple>

#include "core/error.h"
#include "model/index_tensor.h"
#include "moe/ridge.h"

namespace moextract::moe {
namespace {

constexpr double kNone = std::numeric_limits<double>::infinity();
constexpr std::array<double, 9> kRidges{1e-3, 1e-2, 3e-2, 0.1, 0.3, 1, 3, 10, 30};

NormalEquations own_equations(const DeviationMoments::Part& part, std::size_t expert,
                              const std::vector<std::int64_t>& neurons) {
  const at::Tensor s = model::index_tensor(neurons);
  return {part.moments[expert].covariance.index_select(0, s).index_select(1, s),
          part.deviations[expert].cross.index_select(1, s)};
}

/// Of one map of all hidden values over the tokens of all routed experts; what lies between their means is left to
/// their biases.
NormalEquations pooled_equations(const DeviationMoments::Part& part, std::int64_t routed) {
  NormalEquations sum{at::zeros_like(part.moments[0].covariance), at::zeros_like(part.deviations[0].cross)};
  double weight = 0;
  for (std::size_t e = 0; e < static_cast<std::size_t>(routed); ++e) {
    if (!(part.moments[e].weight > 0)) continue;
    sum.a.add_(part.moments[e].covariance, part.moments[e].weight);
    sum.b.add_(part.deviations[e].cross, part.moments[e].weight);
    weight += part.moments[e].weight;
  }
  if (weight > 0) sum.a.div_(weight), sum.b.div_(weight);
  return sum;
}

/// What the map of all hidden values leaves of the routed experts' deviations.
void take_off(const at::Tensor& map, std::int64_t routed, DeviationMoments::Part& part) {
  for (std::size_t e = 0; e < static_cast<std::size_t>(routed); ++e)
    part.deviations[e].cross = part.deviations[e].cross - at::mm(map, part.moments[e].covariance);
}

/// Of one matrix on the union for all experts, each with its own neurons.
NormalEquations joint_equations(const DeviationMoments::Part& part, const ExpertSets& sets) {
  const auto u = static_cast<std::int64_t>(sets.unite.size());
  NormalEquations sum{at::zeros({u, u}, at::kDouble), at::zeros({part.deviations[0].mean.size(0), u}, at::kDouble)};
  for (std::size_t e = 0; e < sets.neurons.size(); ++e) {
    const double weight = part.moments[e].weight;
    if (!(weight > 0)) continue;
    const NormalEquations own = own_equations(part, e, sets.neurons[e]);
    const at::Tensor place = model::index_tensor(sets.places(e));
    at::Tensor rows = at::zeros({place.numel(), u}, at::kDouble);
    rows.index_copy_(1, place, own.a * weight);
    sum.a.index_add_(0, place, rows);
    sum.b.index_add_(1, place, own.b * weight);
  }
  return sum;
}

}  // namespace

std::pair<SecondMoments, Deviation> split_moments(const SecondMoments& joint, std::int64_t hidden) {
  const at::NoGradGuard no_grad;
  const std::int64_t d = joint.mean.size(0) - hidden;
  SecondMoments h;
  h.count = joint.count;
  h.weight = joint.weight;
  h.mean = joint.mean.narrow(0, 0, hidden).clone();
  h.covariance = joint.covariance.narrow(0, 0, hidden).narrow(1, 0, hidden).contiguous();
  h.variance = joint.variance.narrow(0, 0, hidden).clone();
  const at::Tensor rows = joint.covariance.narrow(0, hidden, d);
  Deviation e;
  e.mean = joint.mean.narrow(0, hidden, d).clone();
  e.cross = rows.narrow(1, 0, hidden).contiguous();
  e.square = joint.variance.narrow(0, hidden, d).sum().item<double>();
  return {std::move(h), std::move(e)};
}

at::Tensor solve(const NormalEquations& equations, double ridge) {
  const at::NoGradGuard no_grad;
  if (!std::isfinite(ridge)) return at::zeros_like(equations.b);
  const at::Tensor factor =
      ridge_factor(equations.a, absolute_ridge(equations.a, ridge), "the second moments of an expert");
  return at::cholesky_solve(equations.b.t().contiguous(), factor).t();
}

double choose_ridge(const NormalEquations& first, const NormalEquations& second) {
  const at::NoGradGuard no_grad;
  double best = kNone, least = 0;  // no repair: the error is what it was
  for (const double ridge : kRidges) {
    double change = 0;
    for (const auto& [fitted, held] : {std::pair(&first, &second), std::pair(&second, &first)}) {
      const at::Tensor m = solve(*fitted, ridge);
      change += (at::mm(m, held->a) * m).sum().item<double>() - 2 * (m * held->b).sum().item<double>();
    }
    if (change < least) least = change, best = ridge;
  }
  return best;
}

OutputRepair fit_repair(const FittedLayerSpec& spec, const DeviationMoments& given, bool repairs_prefix,
                        Workers& workers) {
  const at::NoGradGuard no_grad;
  DeviationMoments moments = given;  // tensors are shared
  MOEX_ASSERT(moments.halves.size() == 2 || moments.ridge, "a ridge is chosen by two halves, or given");
  const ExpertSets sets = expert_sets(spec, moments.all.moments.front().mean.size(0));
  const std::size_t experts = sets.neurons.size();
  MOEX_ASSERT(moments.all.deviations.size() == experts, "deviations of other experts");
  OutputRepair repair;
  repair.deviations = moments.all.deviations;
  repair.ridges.assign(experts, kNone);
  const auto fit = [&](const auto& equations) {
    const double ridge = moments.halves.empty()
                             ? *moments.ridge
                             : choose_ridge(equations(moments.halves[0]), equations(moments.halves[1]));
    return std::pair(ridge, solve(equations(moments.all), ridge));
  };
  const std::int64_t routed = spec.router.experts();
  std::tie(repair.map_ridge, repair.map) =
      fit([&](const DeviationMoments::Part& part) { return pooled_equations(part, routed); });
  take_off(repair.map, routed, moments.all);
  for (DeviationMoments::Part& half : moments.halves) take_off(repair.map, routed, half);
  if (spec.shares_output()) {
    const auto [ridge, weights] = fit([&](const DeviationMoments::Part& part) { return joint_equations(part, sets); });
    repair.ridges.assign(experts, ridge);
    for (std::size_t e = 0; e < experts; ++e)
      repair.weights.push_back(weights.index_select(1, model::index_tensor(sets.places(e))));
    repair.shared = weights;
    return repair;
  }
  repair.weights.resize(experts);
  workers.for_each(static_cast<std::int64_t>(experts), [&](std::int64_t unit, int) {
    const at::NoGradGuard worker_no_grad;
    const auto e = static_cast<std::size_t>(unit);
    const bool is_dense_prefix = spec.prefix == PrefixExpert::dense && e + 1 == experts;
    if (!(moments.all.moments[e].weight > 0) || (is_dense_prefix && !repairs_prefix)) return;
    auto [ridge, weights] =
        fit([&](const DeviationMoments::Part& part) { return own_equations(part, e, sets.neurons[e]); });
    repair.ridges[e] = ridge;
    repair.weights[e] = std::move(weights);
  });
  return repair;
}

}  // namespace moextract::moe
