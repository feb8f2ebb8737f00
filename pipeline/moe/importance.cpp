#include "moe/importance.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "core/hash.h"
#include "core/random.h"

namespace moextract::moe {
namespace {

/// One class an image, drawn from softmax(logits).
at::Tensor draw_classes(const at::Tensor& logits, std::span<const std::string> ids, std::uint64_t seed) {
  const at::Tensor p = at::softmax(logits.detach().to(at::kDouble), 1).cpu().contiguous();
  const std::int64_t classes = p.size(1);
  at::Tensor drawn = at::empty({p.size(0)}, at::kLong);
  for (std::int64_t i = 0; i < p.size(0); ++i) {
    const double u =
        RandomStream(seed, hash64("class from softmax"), hash64(ids[static_cast<std::size_t>(i)])).uniform();
    const double* row = p.const_data_ptr<double>() + i * classes;
    std::int64_t c = 0;
    for (double sum = row[0]; sum <= u && c + 1 < classes; sum += row[++c]) {
    }
    drawn.data_ptr<std::int64_t>()[i] = c;
  }
  return drawn.to(logits.device());
}

}  // namespace

std::vector<CalibrationTrace> trace_network(const model::Network& network, const at::Tensor& images,
                                            std::span<const std::string> image_ids, bool importance,
                                            std::uint64_t seed) {
  std::vector<CalibrationTrace> traces;
  if (!importance) {
    const at::NoGradGuard no_grad;
    network.logits(images, [&](std::int64_t, const model::MlpTrace& trace) {
      traces.push_back({trace.x, trace.h, {}});
    });
    return traces;
  }
  const at::AutoGradMode with_grad(true);
  // Weights record no gradients; the input does, so that the graph reaches every MLP's output.
  const at::Tensor input = images.detach().requires_grad_(true);
  std::vector<at::Tensor> outputs;
  const at::Tensor logits = network.logits(input, [&](std::int64_t, const model::MlpTrace& trace) {
    trace.y.retain_grad();
    outputs.push_back(trace.y);
    traces.push_back({trace.x.detach(), trace.h.detach(), {}});
  });
  const at::Tensor chosen = at::log_softmax(logits, 1).gather(1, draw_classes(logits, image_ids, seed).unsqueeze(1));
  chosen.sum().backward();
  for (std::size_t layer = 0; layer < traces.size(); ++layer) traces[layer].gradient = outputs[layer].grad();
  return traces;
}

at::Tensor CalibrationTrace::g() const {
  return gradient.defined() ? gradient.square().sum(-1) : at::Tensor();
}

at::Tensor importance_weights(const at::Tensor& g, std::int64_t prefix) {
  const at::NoGradGuard no_grad;
  const std::int64_t patches = g.size(1) - prefix;
  if (patches == 0) return at::ones_like(g);
  const at::Tensor all = g.to(at::kDouble);
  const at::Tensor mean = all.narrow(1, prefix, patches).mean(1, /*keepdim=*/true);
  const at::Tensor w = (0.1 + 0.9 * (all / mean.clamp_min(1e-300)).sqrt()).clamp_max(100.0);
  const at::Tensor scaled = w / w.narrow(1, prefix, patches).mean(1, /*keepdim=*/true);
  return at::where(mean > 0, scaled, at::ones_like(w)).to(at::kFloat);
}

at::Tensor gradient_directions(const at::Tensor& gradient) {
  const at::NoGradGuard no_grad;
  const at::Tensor length = gradient.square().sum(-1, /*keepdim=*/true).sqrt();
  return at::where(length > 0, gradient / length, at::zeros_like(gradient));
}

}  // namespace moextract::moe
