#include "moe/assembler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "core/error.h"
#include "model/index_tensor.h"
#include "model/vit.h"
#include "moe/router.h"

namespace moextract::moe {
namespace {

/// b2 + W2[:, dropped] mean[dropped], summed in double in the order of the neurons.
at::Tensor shifted_bias(const at::Tensor& fc2_weight, const at::Tensor& fc2_bias, std::span<const double> mean,
                        std::span<const std::int64_t> kept) {
  const std::int64_t d = fc2_weight.size(0), hidden = fc2_weight.size(1);
  std::vector<bool> dropped(static_cast<std::size_t>(hidden), true);
  for (const std::int64_t j : kept) dropped[static_cast<std::size_t>(j)] = false;
  at::Tensor bias = fc2_bias.clone();
  const at::Tensor weight = fc2_weight.contiguous();
  const float* w = weight.const_data_ptr<float>();
  float* b = bias.data_ptr<float>();
  for (std::int64_t i = 0; i < d; ++i) {
    double sum = b[i];
    for (std::int64_t j = 0; j < hidden; ++j) {
      if (dropped[static_cast<std::size_t>(j)])
        sum += static_cast<double>(w[i * hidden + j]) * mean[static_cast<std::size_t>(j)];
    }
    b[i] = static_cast<float>(sum);
  }
  return bias;
}

}  // namespace

std::vector<SecondMoments> as_second_moments(const ClusterMoments& moments) {
  const auto tensor = [](std::span<const double> values) {
    at::Tensor t = at::empty({static_cast<std::int64_t>(values.size())}, at::kDouble);
    std::copy(values.begin(), values.end(), t.data_ptr<double>());
    return t;
  };
  std::vector<SecondMoments> list;
  for (std::int64_t c = 0; c < moments.k; ++c) {
    SecondMoments m;
    m.count = moments.count[static_cast<std::size_t>(c)];
    m.weight = static_cast<double>(m.count);
    m.mean = tensor(moments.h_mean_of(c));
    m.variance = tensor(moments.h_variance_of(c));
    list.push_back(std::move(m));
  }
  return list;
}

void assemble_experts(std::int64_t layer, const ClusterMoments& moments,
                      std::span<const std::vector<std::int64_t>> neurons, Storage storage, Compensation compensation,
                      model::TensorMap& tensors) {
  MOEX_ASSERT(static_cast<std::int64_t>(neurons.size()) == moments.k, "one set of neurons a cluster");
  at::Tensor keys = at::empty({moments.k, moments.width}, at::kDouble);
  std::copy(moments.x_mean.begin(), moments.x_mean.end(), keys.data_ptr<double>());
  FittedLayerSpec spec;
  spec.layer = layer;
  spec.router.keys = unit_rows(keys).to(at::kFloat);
  spec.neurons.assign(neurons.begin(), neurons.end());
  spec.storage = storage;
  spec.compensation = compensation;
  fit_layer(spec, as_second_moments(moments), tensors);
}

void prune_layer(std::int64_t layer, const ClusterMoments& moments, std::span<const std::int64_t> neurons,
                 Compensation compensation, model::TensorMap& tensors) {
  MOEX_ASSERT(moments.k == 1 && !neurons.empty(), "pruning knows one cluster and keeps at least one neuron");
  const std::string prefix = model::mlp_prefix(layer);
  if (compensation == Compensation::mean_shift) {
    tensors[prefix + "fc2.bias"] =
        shifted_bias(tensors.at(prefix + "fc2.weight"), tensors.at(prefix + "fc2.bias"), moments.h_mean_of(0), neurons);
  }
  const at::Tensor index = model::index_tensor(neurons);
  tensors[prefix + "fc1.weight"] = tensors.at(prefix + "fc1.weight").index_select(0, index);
  tensors[prefix + "fc1.bias"] = tensors.at(prefix + "fc1.bias").index_select(0, index);
  tensors[prefix + "fc2.weight"] = tensors.at(prefix + "fc2.weight").index_select(1, index);
}

std::vector<std::vector<std::int64_t>> rank_globally(std::span<const std::vector<double>> variance, std::int64_t keep,
                                                     std::int64_t minimum) {
  struct Neuron {
    double variance;
    std::int64_t layer, index;
  };
  std::vector<Neuron> all;
  std::vector<std::vector<std::int64_t>> kept(variance.size());
  std::int64_t left = keep;
  for (std::size_t l = 0; l < variance.size(); ++l) {
    std::vector<Neuron> layer;
    for (std::size_t j = 0; j < variance[l].size(); ++j) {
      layer.push_back({variance[l][j], static_cast<std::int64_t>(l), static_cast<std::int64_t>(j)});
    }
    std::stable_sort(layer.begin(), layer.end(),
                     [](const Neuron& a, const Neuron& b) { return a.variance > b.variance; });
    const std::size_t sure =
        std::min<std::size_t>(layer.size(), static_cast<std::size_t>(std::max<std::int64_t>(minimum, 1)));
    for (std::size_t i = 0; i < sure; ++i) kept[l].push_back(layer[i].index);
    left -= static_cast<std::int64_t>(sure);
    all.insert(all.end(), layer.begin() + static_cast<std::ptrdiff_t>(sure), layer.end());
  }
  // Ties fall to the earlier layer and the lower index: `all` is in that order within equal variances.
  std::stable_sort(all.begin(), all.end(), [](const Neuron& a, const Neuron& b) {
    return a.variance != b.variance ? a.variance > b.variance : std::tie(a.layer, a.index) < std::tie(b.layer, b.index);
  });
  for (std::size_t i = 0; i < all.size() && left > 0; ++i, --left)
    kept[static_cast<std::size_t>(all[i].layer)].push_back(all[i].index);
  for (std::vector<std::int64_t>& layer : kept) std::sort(layer.begin(), layer.end());
  return kept;
}

}  // namespace moextract::moe
