#include "moe/expert_router.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

#include "core/hash.h"
#include "model/device_tensors.h"
#include "moe/router.h"

namespace moextract::moe {
namespace {

constexpr double kMillion = 1e6;

Choice choose_at_random(std::uint64_t seed, std::int64_t experts, const at::Tensor& x) {
  const at::Tensor rows = x.to(at::kFloat).cpu().contiguous();  // a control: it may take its time
  const std::int64_t n = rows.size(0);
  const auto bytes = static_cast<std::size_t>(rows.size(1)) * sizeof(float);
  Choice choice{at::empty({n, 1}, at::kLong), at::ones({n, 1})};
  const auto* row = reinterpret_cast<const char*>(rows.const_data_ptr<float>());
  for (std::int64_t i = 0; i < n; ++i, row += bytes) {
    const std::uint64_t drawn = hash64(std::string_view(row, bytes), seed);
    choice.expert.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>((static_cast<unsigned __int128>(drawn) * static_cast<std::uint64_t>(experts)) >> 64);
  }
  return {choice.expert.to(x.device()), choice.gate.to(x.device())};
}

/// The same as the loops of choose_experts, without a word to the host.
Choice choose_by_tensors(const RouterWeights& router, const at::Tensor& scores) {
  const std::int64_t most = std::min(router.top_k, scores.size(1));
  if (most == 1) return {first_largest(scores).unsqueeze(1), at::ones({scores.size(0), 1}, scores.options())};
  const auto [sorted, order] = at::sort(scores, /*stable=*/true, /*dim=*/1, /*descending=*/true);
  const at::Tensor best = sorted.narrow(1, 0, most).to(at::kDouble);
  const at::Tensor relative = ((best - best.narrow(1, 0, 1)) / router.temperature).exp();
  const at::Tensor used = relative >= 1.0 - router.tau;
  used.select(1, 0).fill_(true);
  const at::Tensor p = at::where(used, relative, 0.0);
  return {at::where(used, order.narrow(1, 0, most), -1).contiguous(), (p / p.sum(1, /*keepdim=*/true)).to(at::kFloat)};
}

}  // namespace

at::Tensor router_scores(const RouterWeights& router, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  if (!router.hidden_weight.defined()) return at::linear(x, router.keys, router.bias).contiguous();
  const at::Tensor hidden = at::gelu(at::linear(x, router.hidden_weight, router.hidden_bias));
  return at::linear(hidden, router.keys, router.bias).contiguous();
}

at::Tensor router_probabilities(const RouterWeights& router, const at::Tensor& x) {
  return at::softmax(router_scores(router, x).to(at::kDouble) / router.temperature, 1).contiguous();
}

Choice choose_experts(const RouterWeights& router, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  if (router.random_seed) return choose_at_random(*router.random_seed, router.experts(), x);
  const at::Tensor scores = router_scores(router, x);
  if (model::by_tensors(scores)) return choose_by_tensors(router, scores);
  const std::int64_t n = scores.size(0), k = scores.size(1), most = std::min(router.top_k, k);
  Choice choice{at::full({n, most}, -1, at::kLong), at::zeros({n, most})};
  const float* score = scores.const_data_ptr<float>();
  std::int64_t* expert = choice.expert.data_ptr<std::int64_t>();
  float* gate = choice.gate.data_ptr<float>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(k));
  std::vector<double> p(static_cast<std::size_t>(most));
  for (std::int64_t i = 0; i < n; ++i, score += k, expert += most, gate += most) {
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + most, order.end(), [&](std::int64_t a, std::int64_t b) {
      return score[a] != score[b] ? score[a] > score[b] : a < b;
    });
    double sum = 0;
    std::int64_t used = 0;
    for (; used < most; ++used) {  // p relative to the largest
      const double relative = std::exp(
          (static_cast<double>(score[order[static_cast<std::size_t>(used)]]) - score[order[0]]) / router.temperature);
      if (used > 0 && relative < 1.0 - router.tau) break;
      p[static_cast<std::size_t>(used)] = relative;
      sum += relative;
    }
    for (std::int64_t j = 0; j < used; ++j) {
      expert[j] = order[static_cast<std::size_t>(j)];
      gate[j] = static_cast<float>(p[static_cast<std::size_t>(j)] / sum);
    }
  }
  return choice;
}

Choice deal_tokens(const RouterWeights& router, const at::Tensor& x, std::int64_t prefix) {
  const std::int64_t tokens = x.size(1);
  Choice choice = choose_experts(router, x.reshape({-1, x.size(2)}));
  if (prefix == 0) return choice;
  const std::int64_t m = choice.expert.size(1);
  const at::Tensor first = choice.expert.view({-1, tokens, m}).narrow(1, 0, prefix);
  first.fill_(-1);
  first.select(2, 0).fill_(router.experts());
  choice.gate.view({-1, tokens, m}).narrow(1, 0, prefix).fill_(1);
  return choice;
}

double router_macs(const RouterWeights& router) {
  if (router.experts() == 1 || router.random_seed) return 0;
  const double hidden = router.hidden_weight.defined() ? static_cast<double>(router.hidden_weight.numel()) : 0.0;
  return hidden + static_cast<double>(router.keys.numel());
}

std::int64_t router_parameters(const RouterWeights& router) {
  std::int64_t sum = router.keys.numel() + (router.bias.defined() ? router.bias.numel() : 0);
  if (router.hidden_weight.defined()) sum += router.hidden_weight.numel() + router.hidden_bias.numel();
  return sum + (router.top_k > 1 ? 1 : 0);
}

void put_router(const std::string& prefix, const RouterWeights& router, model::TensorMap& tensors) {
  tensors[prefix + "router.weight"] = router.keys;
  if (router.bias.defined()) tensors[prefix + "router.bias"] = router.bias;
  if (router.hidden_weight.defined()) {
    tensors[prefix + "router.hidden.weight"] = router.hidden_weight;
    tensors[prefix + "router.hidden.bias"] = router.hidden_bias;
  }
  const auto integers = [](std::int64_t a, std::int64_t b) {
    at::Tensor pair = at::empty({2}, at::kInt);
    pair.data_ptr<std::int32_t>()[0] = static_cast<std::int32_t>(a);
    pair.data_ptr<std::int32_t>()[1] = static_cast<std::int32_t>(b);
    return pair;
  };
  if (router.top_k > 1) {
    tensors[prefix + "router.top"] = integers(router.top_k, std::llround(router.tau * kMillion));
    tensors[prefix + "router.temperature"] = at::full({1}, router.temperature, at::kFloat);
  }
  if (router.random_seed) {
    tensors[prefix + "router.random"] = integers(static_cast<std::int32_t>(*router.random_seed & 0xffffffffu),
                                                 static_cast<std::int32_t>(*router.random_seed >> 32));
  }
}

RouterWeights get_router(const std::string& prefix, const model::TensorMap& tensors) {
  const auto find = [&](const char* name) {
    const auto found = tensors.find(prefix + name);
    return found == tensors.end() ? at::Tensor() : found->second;
  };
  RouterWeights router;
  router.keys = find("router.weight");
  router.bias = find("router.bias");
  router.hidden_weight = find("router.hidden.weight");
  router.hidden_bias = find("router.hidden.bias");
  if (const at::Tensor top = find("router.top"); top.defined()) {
    router.top_k = top.select(0, 0).item<std::int64_t>();
    router.tau = static_cast<double>(top.select(0, 1).item<std::int64_t>()) / kMillion;
  }
  if (const at::Tensor temperature = find("router.temperature"); temperature.defined())
    router.temperature = temperature.select(0, 0).item<double>();
  if (const at::Tensor seed = find("router.random"); seed.defined()) {
    const auto half = [&](std::int64_t i) {
      return static_cast<std::uint32_t>(seed.select(0, i).item<std::int64_t>());
    };
    router.random_seed = static_cast<std::uint64_t>(half(1)) << 32 | half(0);
  }
  return router;
}

}  // namespace moextract::moe
