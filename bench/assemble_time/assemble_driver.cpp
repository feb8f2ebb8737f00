// Seconds of fitting experts from stored second moments: reading, backward elimination and least squares.
//
// Usage: bench_assemble THREADS K SHARE FOLDER [LAYERS]
// Made-up covariances, correlated and unequally spread. One JSON line for the
// elimination of 768 and of 3,072 neurons on one core, one each for vit_tiny and vit_base: LAYERS (default 12 and 1) of
// its 12 layers are timed, and "ours" is the time of all twelve. FOLDER takes one layer's moments (vit_base, k = 8: 0.7
// GB) at a time.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "core/workers.h"
#include "model/vit_params.h"
#include "model/weights.h"
#include "moe/elimination.h"

using namespace moextract;

namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Covariance of hidden values: a few shared directions, and a spread of its own for each neuron.
at::Tensor covariance(std::int64_t hidden) {
  const at::Tensor directions = at::randn({hidden, 64}, at::kDouble) / 8.0;
  at::Tensor c = at::mm(directions, directions.t());
  c.diagonal().add_(at::randn({hidden}, at::kDouble).exp() * 0.3);
  const at::Tensor spread = (at::randn({hidden}, at::kDouble) * 0.7).exp();
  return c * spread.unsqueeze(0) * spread.unsqueeze(1);
}

std::vector<std::int64_t> last_of(const moe::EliminationOrder& order, std::int64_t count) {
  std::vector<std::int64_t> kept(order.neurons.end() - count, order.neurons.end());
  std::sort(kept.begin(), kept.end());
  return kept;
}

void time_elimination(std::int64_t width, std::int64_t hidden) {
  const at::Tensor c = covariance(hidden), w = at::randn({width, hidden}, at::kDouble);
  const double start = now();
  const std::clock_t processor = std::clock();  // of this process: what a busy machine does not lengthen
  const moe::EliminationOrder order = moe::eliminate(w, c, {});
  const double seconds = now() - start,
               processor_seconds = static_cast<double>(std::clock() - processor) / CLOCKS_PER_SEC;
  std::printf(
      "{\"name\":\"assemble_time\",\"what\":\"elimination\",\"neurons\":%lld,\"width\":%lld,\"threads\":1,"
      "\"ours\":%.3f,\"processor_seconds\":%.3f,\"peer\":10.0,\"ratio\":%.2f}\n",
      static_cast<long long>(order.neurons.size()), static_cast<long long>(width), seconds, processor_seconds,
      10.0 / seconds);
  std::fflush(stdout);
}

void time_model(const std::string& name, Workers& workers, std::int64_t k, double share, std::int64_t layers,
                const std::filesystem::path& folder) {
  const model::VitParams vit = model::find_named_vit(name + "_patch16_224")->vit;
  const std::filesystem::path file = folder / "moments.safetensors";
  std::vector<at::Tensor> stored;
  for (std::int64_t e = 0; e < k; ++e) stored.push_back(covariance(vit.hidden));
  model::save_weights(file, {{"covariance", at::stack(stored)}}, {});
  stored.clear();
  const at::Tensor w = at::randn({vit.width, vit.hidden}, at::kDouble);
  const auto kept = static_cast<std::int64_t>(std::llround(share * static_cast<double>(vit.hidden)));
  double seconds = 0, reading = 0;
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    const double start = now();
    const at::Tensor moments = model::load_weights(file).tensors.at("covariance");
    reading += now() - start;
    std::vector<double> errors(static_cast<std::size_t>(k));
    workers.for_each(k, [&](std::int64_t e, int) {
      const at::NoGradGuard no_grad;
      const at::Tensor c = moments[e].to(at::kDouble);
      const std::vector<std::int64_t> neurons = last_of(moe::eliminate(w, c, {}), kept);
      errors[static_cast<std::size_t>(e)] = moe::output_error(w, c, neurons, moe::refit(w, c, neurons, 1e-3));
    });
    seconds += now() - start;
  }
  std::filesystem::remove(file);
  const double all = static_cast<double>(vit.depth) / static_cast<double>(layers);
  std::printf(
      "{\"name\":\"assemble_time\",\"what\":\"%s\",\"k\":%lld,\"share\":%.2f,\"threads\":%d,\"layers\":%lld,"
      "\"layers_timed\":%lld,\"ours\":%.1f,\"reading\":%.1f}\n",
      name.c_str(), static_cast<long long>(k), share, workers.size(), static_cast<long long>(vit.depth),
      static_cast<long long>(layers), seconds * all, reading * all);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5 && argc != 6) {
    std::fprintf(stderr, "usage: bench_assemble THREADS K SHARE FOLDER [LAYERS]\n");
    return 2;
  }
  const int threads = std::atoi(argv[1]);
  const std::int64_t k = std::atoll(argv[2]), layers = argc == 6 ? std::atoll(argv[5]) : 0;
  const double share = std::atof(argv[3]);
  if (threads < 1 || k < 1 || !(share > 0 && share < 1) || layers < 0 || layers > 12) {
    std::fprintf(stderr, "bench_assemble: arguments out of range\n");
    return 2;
  }
  at::set_num_threads(1);
  Workers workers(threads, [] { at::set_num_threads(1); });
  time_elimination(192, 768);
  time_elimination(768, 3072);
  time_model("vit_tiny", workers, k, share, layers > 0 ? layers : 12, argv[4]);
  time_model("vit_base", workers, k, share, layers > 0 ? layers : 1, argv[4]);
  return 0;
}
