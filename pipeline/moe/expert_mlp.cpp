#include "moe/expert_mlp.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <string>

#include "core/error.h"
#include "model/splitting.h"
#include "model/vit.h"
#include "moe/expert_router.h"
#include "moe/expert_weights.h"
#include "moe/mixture_mlp.h"
#include "moe/router.h"
#include "moe/token_groups.h"

namespace moextract::moe {
namespace {

const at::Tensor& get(const model::TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  MOEX_ASSERT(found != tensors.end(), "tensor " + name + " was not checked before use");
  return found->second;
}

std::vector<std::int64_t> to_vector(const at::Tensor& integers) {
  const at::Tensor wide = integers.cpu().to(at::kLong).contiguous();
  const std::int64_t* data = wide.const_data_ptr<std::int64_t>();
  return {data, data + wide.numel()};
}

}  // namespace

ExpertMlp::ExpertMlp(std::int64_t layer, const model::TensorMap& tensors, model::Precision precision)
    : precision_(precision) {
  const std::string prefix = model::mlp_prefix(layer);
  keys_ = get(tensors, prefix + "router.weight");
  if (const auto bias = tensors.find(prefix + "router.bias"); bias != tensors.end()) key_bias_ = bias->second;
  if (const auto reserved = tensors.find(prefix + "experts.prefix"); reserved != tensors.end()) {
    prefix_tokens_ = to_vector(reserved->second).at(1);
  }
  for (ExpertWeights& weights : load_expert_weights(layer, tensors)) {
    Expert expert;
    expert.first = model::Linear(std::move(weights.fc1_weight), std::move(weights.fc1_bias), precision);
    expert.second = model::Linear(std::move(weights.fc2_weight), std::move(weights.fc2_bias), precision);
    experts_.push_back(std::move(expert));
  }
}

at::Tensor ExpertMlp::forward(const at::Tensor& x, model::MlpTrace* trace) const {
  const at::Tensor tokens = x.reshape({-1, x.size(-1)}).contiguous();
  const bool inference = model::packed_applies(tokens) && model::packed_applies(keys_);
  const at::Tensor expert_of =
      keys_.size(0) == 1 ? at::zeros({tokens.size(0)}, tokens.options().dtype(at::kLong))  // nothing to choose
      : inference ? route_packed(tokens, packed_keys_.get([&] { return model::PackedLinear(keys_, key_bias_, false); }))
                  : route_linear(tokens, keys_, key_bias_);
  if (prefix_tokens_ > 0) {
    expert_of.view({x.size(0), x.size(1)}).narrow(1, 0, std::min(prefix_tokens_, x.size(1))).fill_(experts() - 1);
  }
  if (trace != nullptr) {
    trace->x = x;
    trace->expert = expert_of;
  }
  if (inference) return infer(tokens, expert_of).reshape(x.sizes());
  const TokenGroups groups = group_tokens(expert_of, experts());
  const at::Tensor grouped = tokens.index_select(0, groups.order);
  std::vector<at::Tensor> answers;
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    if (groups.count(e) == 0) continue;
    const at::Tensor h = at::gelu(experts_[e].first(grouped.narrow(0, groups.start[e], groups.count(e))));
    answers.push_back(experts_[e].second(h));
  }
  return at::empty_like(tokens).index_copy(0, groups.order, at::cat(answers, 0)).reshape(x.sizes());
}

at::Tensor ExpertMlp::infer(const at::Tensor& tokens, const at::Tensor& expert_of) const {
  const std::int64_t n = tokens.size(0);
  const std::int64_t* expert = expert_of.const_data_ptr<std::int64_t>();
  // Stable counting sort: tokens of an expert stand together and keep their order. As group_tokens, but in memory of
  // this thread that grows to the largest batch.
  static thread_local std::vector<std::int64_t> next, start, order;
  next.assign(experts_.size() + 1, 0);
  for (std::int64_t i = 0; i < n; ++i) ++next[static_cast<std::size_t>(expert[i]) + 1];
  std::partial_sum(next.begin(), next.end(), next.begin());
  start = next;
  order.resize(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    order[static_cast<std::size_t>(next[static_cast<std::size_t>(expert[i])]++)] = i;
  }
  struct Part {
    const model::PackedMlp* mlp;
    std::int64_t first, count, cost;
  };
  static thread_local std::vector<Part> parts;  // of this thread; grows to the most it has seen
  parts.clear();
  std::int64_t total = 0;
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    total += (start[e + 1] - start[e]) * experts_[e].size();
  }
  // No part takes more than a quarter of a thread's share, so that the threads end together; a part that is too short
  // for the registers would cost more than it evens out.
  const int threads = model::split_threads();
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    if (start[e + 1] == start[e]) continue;
    const Expert& own = experts_[e];
    const model::PackedMlp& packed = own.packed.get([&] {
      return model::PackedMlp(own.first.weight(), own.first.bias(), own.second.weight(), own.second.bias(), precision_);
    });
    constexpr std::int64_t kFewest = 30;
    const std::int64_t count = start[e + 1] - start[e],
                       most =
                           threads == 1
                               ? count
                               : std::max(total / (4 * threads) / std::max<std::int64_t>(packed.hidden(), 1), kFewest);
    const std::int64_t pieces = (count + most - 1) / most;
    for (std::int64_t p = 0; p < pieces; ++p) {
      const std::int64_t begin = start[e] + count * p / pieces, end = start[e] + count * (p + 1) / pieces;
      parts.push_back({&packed, begin, end - begin, (end - begin) * packed.hidden()});
    }
  }
  // The costliest first: what is left at the end is small.
  if (threads > 1) {
    std::sort(parts.begin(), parts.end(),
              [](const Part& a, const Part& b) { return a.cost != b.cost ? a.cost > b.cost : a.first < b.first; });
  }
  at::Tensor y = at::empty_like(tokens);
  const float* from = tokens.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  const std::vector<Part>& dealt = parts;
  const std::int64_t* taken = order.data();  // threads of the split have an `order` of their own
  model::split(static_cast<std::int64_t>(dealt.size()), [&](std::int64_t p) {
    const Part& part = dealt[static_cast<std::size_t>(p)];
    part.mlp->forward(from, {taken + part.first, static_cast<std::size_t>(part.count)}, to, nullptr);
  });
  return y;
}

std::int64_t ExpertMlp::expert_size(std::int64_t expert) const {
  return experts_.at(static_cast<std::size_t>(expert)).size();
}

double ExpertMlp::active_neurons(std::span<const double> token_share) const {
  MOEX_ASSERT(token_share.size() == experts_.size(), "token shares of another layer");
  double active = 0;
  for (std::size_t e = 0; e < experts_.size(); ++e) {
    active += token_share[e] * static_cast<double>(experts_[e].size());
  }
  return active;
}

double ExpertMlp::macs_per_token(std::span<const double> token_share) const {
  const double d = static_cast<double>(keys_.size(1));
  // Tokens of the prefix expert are not routed.
  const double routed = prefix_tokens_ > 0 ? 1.0 - token_share.back() : 1.0;
  if (keys_.size(0) == 1) return 2.0 * d * active_neurons(token_share);  // nothing to choose
  return 2.0 * d * active_neurons(token_share) + routed * static_cast<double>(keys_.size(0)) * d;
}

std::unique_ptr<model::Mlp> make_mlp(std::int64_t layer, const model::TensorMap& tensors, model::Precision precision) {
  const std::string prefix = model::mlp_prefix(layer);
  if (tensors.contains(prefix + "router.weight")) {
    if (get_router(prefix, tensors).is_plain()) return std::make_unique<ExpertMlp>(layer, tensors, precision);
    return std::make_unique<MixtureMlp>(layer, tensors);
  }
  return model::make_dense_mlp(layer, tensors, precision);
}

LayerSummary summarise_layer(std::int64_t layer, const model::TensorMap& tensors) {
  const std::string prefix = model::mlp_prefix(layer);
  LayerSummary summary;
  summary.layer = layer;
  if (!tensors.contains(prefix + "router.weight")) {
    summary.union_size = get(tensors, prefix + "fc1.weight").size(0);
    return summary;
  }
  const std::vector<std::int64_t> offsets = to_vector(get(tensors, prefix + "experts.offsets"));
  for (std::size_t e = 0; e + 1 < offsets.size(); ++e) summary.sizes.push_back(offsets[e + 1] - offsets[e]);
  summary.k = static_cast<std::int64_t>(summary.sizes.size());
  const std::vector<std::int64_t> neurons = to_vector(get(tensors, prefix + "experts.neurons"));
  summary.union_size = static_cast<std::int64_t>(std::set<std::int64_t>(neurons.begin(), neurons.end()).size());
  return summary;
}

std::vector<std::vector<std::int64_t>> expert_overlaps(std::int64_t layer, const model::TensorMap& tensors) {
  const std::string prefix = model::mlp_prefix(layer);
  if (!tensors.contains(prefix + "router.weight")) return {};
  const std::vector<std::int64_t> offsets = to_vector(get(tensors, prefix + "experts.offsets")),
                                  neurons = to_vector(get(tensors, prefix + "experts.neurons"));
  const std::size_t k = offsets.size() - 1;
  std::vector<std::set<std::int64_t>> sets;
  for (std::size_t e = 0; e < k; ++e) sets.emplace_back(neurons.begin() + offsets[e], neurons.begin() + offsets[e + 1]);
  std::vector<std::vector<std::int64_t>> shared(k, std::vector<std::int64_t>(k, 0));
  for (std::size_t a = 0; a < k; ++a) {
    for (std::size_t b = 0; b <= a; ++b) {
      const auto count =
          std::count_if(sets[a].begin(), sets[a].end(), [&](std::int64_t n) { return sets[b].contains(n); });
      shared[a][b] = shared[b][a] = count;
    }
  }
  return shared;
}

}  // namespace moextract::moe
