#include "stages/assemble/sensitivity.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>

#include "core/error.h"
#include "model/input_batch.h"
#include "model/vit.h"
#include "run/progress.h"

namespace moextract::stages {
namespace {

/// The dense model's tensors with those of one layer's MLP from `trial`.
model::TensorMap with_layer(const model::TensorMap& dense, const model::TensorMap& trial, std::int64_t layer) {
  const std::string prefix = model::mlp_prefix(layer);
  model::TensorMap tensors = dense;
  for (auto it = tensors.lower_bound(prefix); it != tensors.end() && it->first.starts_with(prefix);)
    it = tensors.erase(it);
  for (auto it = trial.lower_bound(prefix); it != trial.end() && it->first.starts_with(prefix); ++it)
    tensors.insert(*it);
  return tensors;
}

}  // namespace

std::vector<double> measure_divergence(const moe::LoadedModel& model, std::span<const std::int64_t> layers,
                                       const model::TensorMap& trial, const data::ImageSet& set, std::int64_t images,
                                       std::int64_t micro_batch, run::Context& context) {
  const std::int64_t total = std::min(images, set.size()), batches = (total + micro_batch - 1) / micro_batch;
  // Spread over the set: the first pictures are often of few classes.
  const std::int64_t stride = total > 0 ? set.size() / total : 1;
  const auto n = static_cast<std::size_t>(total);
  std::vector<double> divergence(layers.size() * n, 0.0);  // each on one rank, zero elsewhere: their sum is exact
  std::vector<std::int64_t> mine;
  for (std::int64_t b = context.comm.rank(); b < batches; b += context.comm.size()) mine.push_back(b);
  context.comm.together([&] {
    const auto dense = moe::make_network(model.description, model.tensors);
    std::vector<std::unique_ptr<model::Network>> networks;
    for (const std::int64_t layer : layers)
      networks.push_back(moe::make_network(model.description, with_layer(model.tensors, trial, layer)));
    run::Progress progress(context.comm.is_root() ? context.log : nullptr, "sensitivity",
                           static_cast<std::int64_t>(mine.size()) * micro_batch, "images of this rank");
    context.workers.for_each(static_cast<std::int64_t>(mine.size()), [&](std::int64_t unit, int) {
      if (context.should_stop())
        fail(ExitCode::resume, "assemble was asked to stop; finished stages are kept. Run the same command again");
      const at::NoGradGuard no_grad;
      const std::int64_t first = mine[static_cast<std::size_t>(unit)] * micro_batch;
      const std::int64_t count = std::min(micro_batch, total - first);
      const model::InputBatch batch =
          model::load_batch(set, model.description.preprocess, first * stride, count, model::BadImages::skip, stride);
      if (batch.index.empty()) return;
      const at::Tensor p = at::log_softmax(dense->logits(batch.images).to(at::kDouble), 1);
      for (std::size_t l = 0; l < networks.size(); ++l) {
        const at::Tensor q = at::log_softmax(networks[l]->logits(batch.images).to(at::kDouble), 1);
        const at::Tensor d = (p.exp() * (p - q)).sum(1).contiguous();
        for (std::size_t i = 0; i < batch.index.size(); ++i)
          divergence[l * n + static_cast<std::size_t>(batch.index[i] / stride)] = d.const_data_ptr<double>()[i];
      }
      progress.add(count);
    });
  });
  context.comm.all_reduce(std::span<double>(divergence), comm::Reduction::sum);
  std::vector<double> means;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += divergence[l * n + i];
    means.push_back(n > 0 ? std::max(0.0, sum / static_cast<double>(n)) : 0.0);
  }
  return means;
}

}  // namespace moextract::stages
