// Does a MoE layer turn saved MACs into saved time? Dense, experts and VBP of equal MACs, interleaved, on random
// weights.
//
// Usage: bench_expert_speedup MODEL(vit_tiny|vit_base) THREADS SHARE K SECONDS BATCHES PRECISIONS [LARGEST]
// BATCHES and PRECISIONS are lists with commas: 1,8,64 and float32,bfloat16,int16. For the first block's MLP and for
// the whole network (where a batch takes no more than LARGEST GMACs, default 200), one JSON line each:
//   ours   dense time / experts time, both with our own products
//   peer   dense MACs / experts MACs, router counted
//   ratio  ours / peer: 1 means that every saved MAC saves its time
//   vbp    the same for a dense MLP cut to the experts' MACs
//   libtorch  LibTorch's dense time / our experts' time (in bfloat16 its own; int16 has none: float32)
//   ratio_fastest  as ratio, of the fastest rounds: what a busy machine disturbs least
// A batch is split over the threads by all four in their own way. Times are medians of rounds in which all four take
// turns; the order of the first three changes from round to round.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/workers.h"
#include "model/splitting.h"
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

std::vector<std::string> parts_of(const std::string& list) {
  std::vector<std::string> parts;
  std::stringstream stream(list);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

model::Precision precision_of(const std::string& name) {
  for (const model::Precision p : {model::Precision::bfloat16, model::Precision::int16}) {
    if (name == name_of(p)) return p;
  }
  return model::Precision::float32;
}

model::TensorMap converted(const model::TensorMap& tensors, at::ScalarType type) {
  model::TensorMap result;
  for (const auto& [name, tensor] : tensors) result[name] = tensor.to(type);
  return result;
}

struct Settings {
  std::string model;
  model::ModelDescription description;
  int threads = 2;
  double share = 0.5, seconds = 2, largest = 200e9;
  std::int64_t k = 16;
};

/// Tensors of the first block's MLP alone: enough to time it, without a copy of the rest for each precision.
model::TensorMap first_mlp(const model::TensorMap& tensors) {
  model::TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    if (name.starts_with(model::mlp_prefix(0))) result[name] = tensor;
  }
  return result;
}

/// One line: `images` for the whole network, else tokens for the first MLP.
class Line {
 public:
  Line(const Settings& settings, Workers& workers, const std::string& precision, bool whole, std::int64_t batch)
      : settings_(settings), workers_(workers), precision_(precision), whole_(whole), batch_(batch) {}

  void run(const model::TensorMap& dense, const model::TensorMap& experts, const model::TensorMap& vbp,
           const at::Tensor& input, double dense_macs, double macs, double vbp_macs) const {
    const model::Precision p = precision_of(precision_);
    const Timed ours[3] = {timed(dense, p), timed(experts, p), timed(vbp, p)};
    const bool brain = precision_ == "bfloat16";
    const at::ScalarType type = brain ? at::kBFloat16 : at::kFloat;
    const Timed theirs = timed(converted(whole_ ? dense : first_mlp(dense), type), model::Precision::float32);
    const at::Tensor their_input = input.to(type);
    for (const Timed& network : ours) own_seconds(network, input);  // packs the weights
    libtorch_seconds(theirs, their_input);
    std::vector<double> times[4];
    double spent = 0;
    for (int round = 0; round < 1000 && (spent < settings_.seconds || round < 5); ++round) {
      for (int turn = 0; turn < 3; ++turn) {
        const int i = (round + turn) % 3;
        times[i].push_back(own_seconds(ours[i], input));
        spent += times[i].back();
      }
      // A peer that is many times slower needs no many rounds.
      if (times[3].size() < 3 || median(times[3]) < 10 * median(times[0])) {
        times[3].push_back(libtorch_seconds(theirs, their_input));
        spent += times[3].back();
      }
    }
    const double d = median(times[0]), e = median(times[1]), v = median(times[2]), l = median(times[3]);
    const double speedup = d / e, saved = dense_macs / macs;
    const auto fastest = [&](int i) { return *std::min_element(times[i].begin(), times[i].end()); };
    std::printf(
        "{\"name\":\"expert_speedup\",\"model\":\"%s\",\"what\":\"%s\",\"batch\":%lld,\"dtype\":\"%s\","
        "\"threads\":%d,\"k\":%lld,\"share\":%.2f,\"rounds\":%zu,\"dense_ms\":%.3f,\"experts_ms\":%.3f,"
        "\"vbp_ms\":%.3f,\"libtorch_dense_ms\":%.3f,\"ours\":%.3f,\"peer\":%.3f,\"ratio\":%.3f,\"ratio_fastest\":%.3f,"
        "\"vbp\":%.3f,\"libtorch\":%.3f}\n",
        settings_.model.c_str(), whole_ ? "model" : "mlp", static_cast<long long>(batch_), precision_.c_str(),
        settings_.threads, static_cast<long long>(settings_.k), settings_.share, times[0].size(), d * 1e3, e * 1e3,
        v * 1e3, l * 1e3, speedup, saved, speedup / saved, fastest(0) / fastest(1) / saved,
        d / v / (dense_macs / vbp_macs), l / e);
    std::fflush(stdout);
  }

 private:
  struct Timed {
    std::unique_ptr<model::Network> network;
    std::unique_ptr<model::Mlp> mlp;
  };
  Timed timed(const model::TensorMap& tensors, model::Precision precision) const {
    if (whole_) return {moe::make_network(settings_.description, tensors, precision), nullptr};
    return {nullptr, moe::make_mlp(0, tensors, precision)};
  }
  void pass(const Timed& timed, const at::Tensor& input) const {
    if (timed.network) {
      timed.network->logits(input);
    } else {
      timed.mlp->forward(input, nullptr);
    }
  }
  double own_seconds(const Timed& timed, const at::Tensor& input) const {
    const at::NoGradGuard no_grad;
    const model::SplitScope scope(workers_);
    return seconds_of([&] { pass(timed, input); });
  }
  double libtorch_seconds(const Timed& timed, const at::Tensor& input) const {
    at::set_num_threads(settings_.threads);
    // Gradients are enabled but nothing asks for them: no graph is recorded, and LibTorch's operations run.
    const at::AutoGradMode with_grad(true);
    const double seconds = seconds_of([&] { pass(timed, input); });
    at::set_num_threads(1);
    // Its threads wait for more work in a loop for some milliseconds: the next turn shall have the cores for itself.
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return seconds;
  }

  const Settings& settings_;
  Workers& workers_;
  std::string precision_;
  bool whole_;
  std::int64_t batch_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8 && argc != 9) {
    std::fprintf(
        stderr, "usage: bench_expert_speedup vit_tiny|vit_base THREADS SHARE K SECONDS BATCHES PRECISIONS [LARGEST]\n");
    return 2;
  }
  Settings settings;
  settings.model = argv[1];
  settings.threads = std::atoi(argv[2]);
  settings.share = std::atof(argv[3]);
  settings.k = std::atoll(argv[4]);
  settings.seconds = std::atof(argv[5]);
  if (argc == 9) settings.largest = 1e9 * std::atof(argv[8]);
  const auto named = model::find_named_vit(settings.model + "_patch16_224");
  if (!named || settings.threads < 1 || settings.k < 2 || !(settings.share > 0 && settings.share < 1)) {
    std::fprintf(stderr, "bench_expert_speedup: arguments out of range\n");
    return 2;
  }
  settings.description = {named->name, named->vit, named->preprocess};
  const model::VitParams& vit = settings.description.vit;
  at::set_num_threads(1);
  Workers workers(settings.threads, [] { at::set_num_threads(1); });
  const model::TensorMap dense_tensors = model::initial_vit_tensors(vit, 1);
  const auto dense = moe::make_network(settings.description, dense_tensors);
  std::vector<at::Tensor> inputs;
  {
    const at::NoGradGuard no_grad;
    const model::SplitScope scope(workers);
    dense->logits(at::randn({8, 3, vit.image_size, vit.image_size}), [&](std::int64_t, const model::MlpTrace& trace) {
      inputs.push_back(trace.x.narrow(1, vit.prefix_tokens(), vit.patches()).reshape({-1, vit.width}).contiguous());
    });
  }
  const auto size = static_cast<std::int64_t>(std::llround(settings.share * static_cast<double>(vit.hidden)));
  const model::TensorMap expert_tensors = with_experts(dense_tensors, vit, inputs, settings.k, size);

  for (const std::string& text : parts_of(argv[6])) {
    const std::int64_t batch = std::atoll(text.c_str());
    const at::Tensor images = at::randn({batch, 3, vit.image_size, vit.image_size});
    const at::Tensor tokens = at::randn({batch, vit.tokens(), vit.width});
    for (const bool whole : {false, true}) {
      const double dense_macs = whole ? model::macs_per_image(*dense, {}) : dense->mlp(0).macs_per_token({});
      if (whole && dense_macs * static_cast<double>(batch) > settings.largest) continue;
      // Where this very batch's tokens go.
      model::TokenShares shares;
      const auto count = [&](const at::Tensor& expert) {
        std::vector<double> part(static_cast<std::size_t>(settings.k + 1), 0.0);
        for (std::int64_t t = 0; t < expert.numel(); ++t) {
          part[static_cast<std::size_t>(expert.const_data_ptr<std::int64_t>()[t])] +=
              1.0 / static_cast<double>(expert.numel());
        }
        shares.push_back(std::move(part));
      };
      double macs = 0;
      {
        const at::NoGradGuard no_grad;
        const model::SplitScope scope(workers);
        if (whole) {
          const auto experts = moe::make_network(settings.description, expert_tensors);
          experts->logits(images, [&](std::int64_t, const model::MlpTrace& trace) { count(trace.expert); });
          macs = model::macs_per_image(*experts, shares);
        } else {
          const auto experts = moe::make_mlp(0, expert_tensors);
          model::MlpTrace trace;
          experts->forward(tokens, &trace);
          count(trace.expert);
          macs = experts->macs_per_token(shares[0]);
        }
      }
      // VBP: the same number of neurons in every layer, as near to the experts' MACs as whole neurons allow.
      const double mlp_share =
          whole ? 1.0 - (dense_macs - macs) / (dense_macs - dense->other_macs()) : macs / dense_macs;
      const auto vbp_size = static_cast<std::int64_t>(std::llround(mlp_share * static_cast<double>(vit.hidden)));
      const model::TensorMap vbp_tensors = pruned(dense_tensors, vit, vbp_size);
      const double vbp_macs = whole ? model::macs_per_image(*moe::make_network(settings.description, vbp_tensors), {})
                                    : moe::make_mlp(0, vbp_tensors)->macs_per_token({});
      for (const std::string& precision : parts_of(argv[7])) {
        Line(settings, workers, precision, whole, batch)
            .run(dense_tensors, expert_tensors, vbp_tensors, whole ? images : tokens, dense_macs, macs, vbp_macs);
      }
    }
  }
  return 0;
}
