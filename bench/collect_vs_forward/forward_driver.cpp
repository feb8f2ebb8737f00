// Images a second of the bare forward pass over decoded images: LibTorch's products, and our own.
// Usage: bench_forward WEIGHTS FOLDER THREADS MICRO_BATCH
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "core/workers.h"
#include "data/image_set.h"
#include "model/input_batch.h"
#include "model/vit_params.h"
#include "moe/model_file.h"

using namespace moextract;

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: bench_forward WEIGHTS FOLDER THREADS MICRO_BATCH\n");
    return 2;
  }
  const int threads = std::atoi(argv[3]);
  const std::int64_t micro_batch = std::atoll(argv[4]);
  const auto named = model::find_named_vit("vit_tiny_patch16_224");
  model::ModelDescription description;
  description.name = named->name;
  description.vit = named->vit;
  description.preprocess = named->preprocess;
  const moe::LoadedModel model = moe::load_model(argv[1], description);
  const auto network = moe::make_network(model.description, model.tensors);
  data::ImageSetParams params;
  params.source = argv[2];
  const auto images = data::open_image_set(params);
  std::vector<at::Tensor> batches;
  for (std::int64_t first = 0; first < images->size(); first += micro_batch) {
    batches.push_back(model::load_batch(*images, description.preprocess, first,
                                        std::min(micro_batch, images->size() - first), model::BadImages::stop)
                          .images);
  }
  at::set_num_threads(1);
  Workers workers(threads, [] { at::set_num_threads(1); });
  const auto rate = [&](bool gradients) {
    const auto start = std::chrono::steady_clock::now();
    workers.for_each(static_cast<std::int64_t>(batches.size()), [&](std::int64_t unit, int) {
      // Enabled gradients that nothing asks for: no graph is recorded, and LibTorch's products run.
      const at::AutoGradMode mode(gradients);
      network->logits(batches[static_cast<std::size_t>(unit)]);
    });
    return static_cast<double>(images->size()) /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  rate(false);  // packs the weights
  const double own = rate(false), libtorch = rate(true);
  std::printf("%.3f %.3f\n", libtorch, own);
  return 0;
}
