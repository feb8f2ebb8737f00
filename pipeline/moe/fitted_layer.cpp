#include "moe/fitted_layer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "core/error.h"
#include "model/vit.h"
#include "moe/elimination.h"
#include "moe/index_tensor.h"

namespace moextract::moe {
namespace {

std::vector<std::int64_t> positions_in(const std::vector<std::int64_t>& sorted, std::span<const std::int64_t> wanted) {
  std::vector<std::int64_t> positions;
  for (const std::int64_t value : wanted)
    positions.push_back(std::lower_bound(sorted.begin(), sorted.end(), value) - sorted.begin());
  return positions;
}

/// One output matrix [d, U] for all experts.
at::Tensor fit_jointly(const at::Tensor& w, std::span<const std::vector<std::int64_t>> neurons,
                       std::span<const SecondMoments> moments, const std::vector<std::int64_t>& unite, double ridge) {
  const auto u = static_cast<std::int64_t>(unite.size());
  at::Tensor a = at::zeros({u, u}, at::kDouble), b = at::zeros({w.size(0), u}, at::kDouble);
  for (std::size_t e = 0; e < neurons.size(); ++e) {
    if (!(moments[e].weight > 0)) continue;
    const at::Tensor s = index_tensor(neurons[e]), place = index_tensor(positions_in(unite, neurons[e]));
    const at::Tensor c_s = moments[e].covariance.index_select(0, s), c_ss = c_s.index_select(1, s);
    const at::Tensor target = at::mm(w, c_s.t()) - at::mm(w.index_select(1, s), c_ss);  // W_B C_BS
    at::Tensor rows = at::zeros({place.numel(), u}, at::kDouble);
    rows.index_copy_(1, place, c_ss * moments[e].weight);
    a.index_add_(0, place, rows);
    b.index_add_(1, place, target * moments[e].weight);
  }
  const double mean = a.diagonal().mean().item<double>();
  a.diagonal().add_(mean > 0 ? ridge * mean : 1.0);
  const auto [factor, info] = at::linalg_cholesky_ex(a);
  if (info.item<std::int64_t>() != 0)
    fail(ExitCode::numerics, "the joint fit of a layer is singular: raise assemble.ridge");
  return w.index_select(1, index_tensor(unite)) + at::cholesky_solve(b.t().contiguous(), factor).t();
}

}  // namespace

std::vector<double> fit_layer(const FittedLayerSpec& spec, std::span<const SecondMoments> moments,
                              model::TensorMap& tensors) {
  const at::NoGradGuard no_grad;
  MOEX_ASSERT(spec.storage != Storage::separate, "a fitted layer shares its input weights");
  const std::string prefix = model::mlp_prefix(spec.layer);
  const at::Tensor w = tensors.at(prefix + "fc2.weight").to(at::kDouble),
                   bias = tensors.at(prefix + "fc2.bias").to(at::kDouble);
  const std::int64_t hidden = w.size(1);
  const bool joint = spec.storage == Storage::shared, has_prefix = spec.prefix_tokens > 0;

  std::vector<std::vector<std::int64_t>> neurons = spec.neurons;
  std::set<std::int64_t> unique;
  for (const auto& set : neurons) unique.insert(set.begin(), set.end());
  std::vector<std::int64_t> every(static_cast<std::size_t>(hidden));
  std::iota(every.begin(), every.end(), 0);
  if (has_prefix) neurons.push_back(joint ? std::vector<std::int64_t>(unique.begin(), unique.end()) : every);
  const std::vector<std::int64_t> unite =
      has_prefix && !joint ? every : std::vector<std::int64_t>(unique.begin(), unique.end());

  const at::Tensor shared = joint ? fit_jointly(w, neurons, moments, unite, spec.ridge) : at::Tensor();
  std::vector<at::Tensor> outputs, biases;
  std::vector<std::int64_t> all, rows, offsets{0};
  std::vector<double> errors;
  for (std::size_t e = 0; e < neurons.size(); ++e) {
    const std::vector<std::int64_t> places = positions_in(unite, neurons[e]);
    const bool untouched = !joint && e == spec.neurons.size();  // the prefix expert keeps the trained weights
    at::Tensor output;
    if (joint) {
      output = shared.index_select(1, index_tensor(places));
    } else {
      output = untouched || !(moments[e].weight > 0) ? w.index_select(1, index_tensor(neurons[e]))
                                                     : refit(w, moments[e].covariance, neurons[e], spec.ridge);
    }
    const at::Tensor& mean = moments[e].mean;
    biases.push_back(
        untouched ? bias : bias + at::mv(w, mean) - at::mv(output, mean.index_select(0, index_tensor(neurons[e]))));
    if (e < spec.neurons.size()) {
      const double total = (at::mm(w, moments[e].covariance) * w).sum().item<double>();
      errors.push_back(total > 0 ? output_error(w, moments[e].covariance, neurons[e], output) / total : 0.0);
    }
    outputs.push_back(std::move(output));
    all.insert(all.end(), neurons[e].begin(), neurons[e].end());
    rows.insert(rows.end(), places.begin(), places.end());
    offsets.push_back(static_cast<std::int64_t>(all.size()));
  }

  const at::Tensor index = index_tensor(unite);
  tensors[prefix + "fc1.weight"] = tensors.at(prefix + "fc1.weight").index_select(0, index);
  tensors[prefix + "fc1.bias"] = tensors.at(prefix + "fc1.bias").index_select(0, index);
  tensors[prefix + "fc2.bias"] = at::stack(biases).to(at::kFloat);
  tensors[prefix + "router.weight"] = spec.keys;
  tensors[prefix + "router.bias"] = spec.key_bias;
  tensors[prefix + "experts.offsets"] = index_tensor(offsets).to(at::kInt);
  tensors[prefix + "experts.neurons"] = index_tensor(all).to(at::kInt);
  tensors[prefix + "experts.rows"] = index_tensor(rows).to(at::kInt);
  if (has_prefix) {
    tensors[prefix + "experts.prefix"] =
        index_tensor(std::vector<std::int64_t>{static_cast<std::int64_t>(spec.neurons.size()), spec.prefix_tokens})
            .to(at::kInt);
  }
  if (joint) {
    tensors[prefix + "fc2.weight"] = shared.to(at::kFloat);
  } else {
    tensors.erase(prefix + "fc2.weight");
    tensors[prefix + "experts.fc2.weight"] = at::cat(outputs, 1).to(at::kFloat);
  }
  return errors;
}

}  // namespace moextract::moe
