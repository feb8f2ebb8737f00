#include "moe/assembler.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>
#include <string>

#include "core/error.h"
#include "model/vit.h"
#include "moe/router.h"

namespace moextract::moe {
namespace {

at::Tensor index_tensor(std::span<const std::int64_t> index) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(index.size())}, at::kLong);
  std::copy(index.begin(), index.end(), tensor.data_ptr<std::int64_t>());
  return tensor;
}

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

void assemble_experts(std::int64_t layer, const ClusterMoments& moments,
                      std::span<const std::vector<std::int64_t>> neurons, Storage storage, Compensation compensation,
                      model::TensorMap& tensors) {
  MOEX_ASSERT(static_cast<std::int64_t>(neurons.size()) == moments.k, "one set of neurons a cluster");
  const std::string prefix = model::mlp_prefix(layer);
  const at::Tensor fc1_weight = tensors.at(prefix + "fc1.weight"), fc1_bias = tensors.at(prefix + "fc1.bias");
  const at::Tensor fc2_weight = tensors.at(prefix + "fc2.weight"), fc2_bias = tensors.at(prefix + "fc2.bias");

  std::vector<std::int64_t> all, offsets{0};
  for (const std::vector<std::int64_t>& set : neurons) {
    MOEX_ASSERT(!set.empty() && std::is_sorted(set.begin(), set.end()),
                "neurons of an expert are ascending, at least one");
    all.insert(all.end(), set.begin(), set.end());
    offsets.push_back(static_cast<std::int64_t>(all.size()));
  }
  at::Tensor keys = at::empty({moments.k, moments.width}, at::kDouble);
  std::copy(moments.x_mean.begin(), moments.x_mean.end(), keys.data_ptr<double>());
  tensors[prefix + "router.weight"] = unit_rows(keys).to(at::kFloat);
  tensors[prefix + "experts.offsets"] = index_tensor(offsets).to(at::kInt);
  tensors[prefix + "experts.neurons"] = index_tensor(all).to(at::kInt);

  if (compensation == Compensation::mean_shift) {
    std::vector<at::Tensor> biases;
    for (std::int64_t c = 0; c < moments.k; ++c) {
      biases.push_back(shifted_bias(fc2_weight, fc2_bias, moments.h_mean_of(c), neurons[static_cast<std::size_t>(c)]));
    }
    tensors[prefix + "fc2.bias"] = at::stack(biases);
  }

  std::vector<std::int64_t> source = all;  // trained neuron of each stored row
  if (storage == Storage::shared) {
    const std::set<std::int64_t> unique(all.begin(), all.end());
    source.assign(unique.begin(), unique.end());
    std::vector<std::int64_t> rows;
    for (const std::int64_t neuron : all) {
      rows.push_back(std::lower_bound(source.begin(), source.end(), neuron) - source.begin());
    }
    tensors[prefix + "experts.rows"] = index_tensor(rows).to(at::kInt);
  }
  const at::Tensor index = index_tensor(source);
  tensors[prefix + "fc1.weight"] = fc1_weight.index_select(0, index);
  tensors[prefix + "fc1.bias"] = fc1_bias.index_select(0, index);
  tensors[prefix + "fc2.weight"] = fc2_weight.index_select(1, index);
}

void prune_layer(std::int64_t layer, const ClusterMoments& moments, std::span<const std::int64_t> neurons,
                 Compensation compensation, model::TensorMap& tensors) {
  MOEX_ASSERT(moments.k == 1 && !neurons.empty(), "pruning knows one cluster and keeps at least one neuron");
  const std::string prefix = model::mlp_prefix(layer);
  if (compensation == Compensation::mean_shift) {
    tensors[prefix + "fc2.bias"] =
        shifted_bias(tensors.at(prefix + "fc2.weight"), tensors.at(prefix + "fc2.bias"), moments.h_mean_of(0), neurons);
  }
  const at::Tensor index = index_tensor(neurons);
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
