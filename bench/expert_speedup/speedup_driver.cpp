// Does a MoE layer turn saved MACs into saved time? Dense, experts and VBP of equal MACs, interleaved, on random
// weights.
//
// Usage: bench_expert_speedup MODEL(vit_tiny|vit_base) THREADS SHARE K SECONDS
// For the first block's MLP and for the whole network, at batch 1, 8 and 64, one JSON line each:
//   ours   dense time / experts time, both with our own products
//   peer   dense MACs / experts MACs, router counted
//   ratio  ours / peer: 1 means that every saved MAC saves its time
//   vbp    the same for a dense MLP cut to the experts' MACs
//   libtorch  LibTorch's dense time / our experts' time
// Images of a batch are dealt to the threads, each computed by one; LibTorch gets all threads for the batch at once.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/workers.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "moe/model_file.h"

using namespace moextract;

namespace {

/// Expert layers as the fitted ones are: k experts of `size` neurons with output weights of their own, nearest of k of
/// the layer's own tokens, all neurons for the class token.
model::TensorMap with_experts(const model::TensorMap& dense, const model::VitParams& vit,
                              const std::vector<at::Tensor>& inputs, std::int64_t k, std::int64_t size) {
  model::TensorMap tensors = dense;
  for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
    const std::string prefix = model::mlp_prefix(layer);
    const at::Tensor w1 = dense.at(prefix + "fc1.weight"), b1 = dense.at(prefix + "fc1.bias"),
                     w2 = dense.at(prefix + "fc2.weight"), b2 = dense.at(prefix + "fc2.bias");
    std::vector<at::Tensor> neurons;
    std::vector<std::int32_t> offsets{0};
    for (std::int64_t e = 0; e < k; ++e) {
      neurons.push_back(std::get<0>(at::randperm(vit.hidden).narrow(0, 0, size).sort()));
      offsets.push_back(offsets.back() + static_cast<std::int32_t>(size));
    }
    neurons.push_back(at::arange(vit.hidden, at::kLong));
    offsets.push_back(offsets.back() + static_cast<std::int32_t>(vit.hidden));
    const at::Tensor all = at::cat(neurons);
    const at::Tensor keys = inputs[static_cast<std::size_t>(layer)].index_select(
        0, at::randperm(inputs[static_cast<std::size_t>(layer)].size(0)).narrow(0, 0, k));
    tensors[prefix + "fc1.weight"] = w1.index_select(0, all);
    tensors[prefix + "fc1.bias"] = b1.index_select(0, all);
    tensors[prefix + "fc2.weight"] = w2.index_select(1, all);
    tensors[prefix + "fc2.bias"] = b2.unsqueeze(0).expand({k + 1, vit.width}).contiguous();
    tensors[prefix + "router.weight"] = keys;
    tensors[prefix + "router.bias"] = -0.5 * keys.square().sum(1);
    tensors[prefix + "experts.neurons"] = all.to(at::kInt);
    at::Tensor offset = at::empty({static_cast<std::int64_t>(offsets.size())}, at::kInt);
    std::copy(offsets.begin(), offsets.end(), offset.data_ptr<std::int32_t>());
    tensors[prefix + "experts.offsets"] = offset;
    at::Tensor reserved = at::empty({2}, at::kInt);
    reserved[0] = k, reserved[1] = vit.prefix_tokens();
    tensors[prefix + "experts.prefix"] = reserved;
  }
  return tensors;
}

model::TensorMap pruned(const model::TensorMap& dense, const model::VitParams& vit, std::int64_t size) {
  model::TensorMap tensors = dense;
  for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
    const std::string prefix = model::mlp_prefix(layer);
    for (const char* name : {"fc1.weight", "fc1.bias"})
      tensors[prefix + name] = dense.at(prefix + name).narrow(0, 0, size);
    tensors[prefix + "fc2.weight"] = dense.at(prefix + "fc2.weight").narrow(1, 0, size);
  }
  return tensors;
}

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: bench_expert_speedup vit_tiny|vit_base THREADS SHARE K SECONDS\n");
    return 2;
  }
  const std::string name = argv[1];
  const int threads = std::atoi(argv[2]);
  const double share = std::atof(argv[3]), limit = std::atof(argv[5]);
  const std::int64_t k = std::atoll(argv[4]);
  const auto named = model::find_named_vit(name + "_patch16_224");
  if (!named || threads < 1 || k < 2 || !(share > 0 && share < 1)) {
    std::fprintf(stderr, "bench_expert_speedup: arguments out of range\n");
    return 2;
  }
  model::ModelDescription description;
  description.name = named->name;
  description.vit = named->vit;
  description.preprocess = named->preprocess;
  const model::VitParams& vit = description.vit;
  Workers workers(threads, [] { at::set_num_threads(1); });
  at::set_num_threads(1);
  const model::TensorMap dense_tensors = model::initial_vit_tensors(vit, 1);
  const auto dense = moe::make_network(description, dense_tensors);
  const at::Tensor sample = at::randn({8, 3, vit.image_size, vit.image_size});
  std::vector<at::Tensor> inputs;
  {
    const at::NoGradGuard no_grad;
    dense->logits(sample, [&](std::int64_t, const model::MlpTrace& trace) {
      inputs.push_back(trace.x.narrow(1, vit.prefix_tokens(), vit.patches()).reshape({-1, vit.width}).contiguous());
    });
  }
  const auto size = static_cast<std::int64_t>(std::llround(share * static_cast<double>(vit.hidden)));
  const auto experts = moe::make_network(description, with_experts(dense_tensors, vit, inputs, k, size));

  for (const std::int64_t batch : {1, 8, 64}) {
    if (name == "vit_base" && batch == 64 && limit < 5) continue;
    const at::Tensor images = at::randn({batch, 3, vit.image_size, vit.image_size});
    model::TokenShares shares;
    {
      const at::NoGradGuard no_grad;
      experts->logits(images, [&](std::int64_t, const model::MlpTrace& trace) {
        std::vector<double> part(static_cast<std::size_t>(k + 1), 0.0);
        const std::int64_t* expert = trace.expert.const_data_ptr<std::int64_t>();
        for (std::int64_t t = 0; t < trace.expert.numel(); ++t)
          part[static_cast<std::size_t>(expert[t])] += 1.0 / static_cast<double>(trace.expert.numel());
        shares.push_back(std::move(part));
      });
    }
    for (const bool whole : {false, true}) {
      const double macs = whole ? model::macs_per_image(*experts, shares) : experts->mlp(0).macs_per_token(shares[0]);
      const double dense_macs = whole ? model::macs_per_image(*dense, {}) : dense->mlp(0).macs_per_token({});
      // VBP: the same number of neurons in every layer, as near to the experts' MACs as whole neurons allow.
      const double mlp_share =
          whole ? 1.0 - (dense_macs - macs) / (dense_macs - dense->other_macs()) : macs / dense_macs;
      const auto vbp_size = static_cast<std::int64_t>(std::llround(mlp_share * static_cast<double>(vit.hidden)));
      const auto vbp = moe::make_network(description, pruned(dense_tensors, vit, vbp_size));
      const double vbp_macs = whole ? model::macs_per_image(*vbp, {}) : vbp->mlp(0).macs_per_token({});
      const std::int64_t parts = std::min<std::int64_t>(threads, batch);
      const at::Tensor tokens = at::randn({batch, vit.tokens(), vit.width});
      const std::int64_t step = (batch + parts - 1) / parts;
      const auto ours = [&](const model::Network& network) {
        return seconds_of([&] {
          workers.for_each(parts, [&](std::int64_t part, int) {
            const at::NoGradGuard no_grad;
            const std::int64_t first = part * step, count = std::min(step, batch - first);
            if (count <= 0) return;
            if (whole) {
              network.logits(images.narrow(0, first, count));
            } else {
              network.mlp(0).forward(tokens.narrow(0, first, count), nullptr);
            }
          });
        });
      };
      const auto libtorch = [&] {
        at::set_num_threads(threads);
        const double seconds = seconds_of([&] {  // gradients are enabled but nothing asks for them: LibTorch's products
          const at::AutoGradMode with_grad(true);
          whole ? dense->logits(images) : dense->mlp(0).forward(tokens, nullptr);
        });
        at::set_num_threads(1);
        return seconds;
      };
      std::vector<double> times[4];
      double spent = 0;
      for (int round = 0; round < 2000 && (spent < limit || round < 5); ++round) {
        const double t[4] = {ours(*dense), ours(*experts), ours(*vbp), libtorch()};
        for (int i = 0; i < 4; ++i) {
          spent += t[i];
          if (round > 0) times[i].push_back(t[i]);  // the first packs the weights
        }
      }
      const double d = median(times[0]), e = median(times[1]), v = median(times[2]), l = median(times[3]);
      const double speedup = d / e, saved = dense_macs / macs;
      std::printf(
          "{\"name\":\"expert_speedup\",\"model\":\"%s\",\"what\":\"%s\",\"batch\":%lld,\"dtype\":\"float32\","
          "\"threads\":%d,\"k\":%lld,\"share\":%.2f,\"dense_ms\":%.3f,\"experts_ms\":%.3f,\"vbp_ms\":%.3f,"
          "\"libtorch_dense_ms\":%.3f,\"ours\":%.3f,\"peer\":%.3f,\"ratio\":%.3f,\"vbp\":%.3f,\"libtorch\":%.3f}\n",
          name.c_str(), whole ? "model" : "mlp", static_cast<long long>(batch), threads, static_cast<long long>(k),
          share, d * 1e3, e * 1e3, v * 1e3, l * 1e3, speedup, saved, speedup / saved, d / v / (dense_macs / vbp_macs),
          l / e);
      std::fflush(stdout);
    }
  }
  return 0;
}
