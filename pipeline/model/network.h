// A network whose MLPs can be observed and replaced. Vit is the first; others take their place beside it.
#pragma once

#include <ATen/core/Tensor.h>

#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "model/mlp.h"

namespace moextract::model {

/// Called once for each MLP of a forward pass, in order.
struct Observer {
  Observer() = default;
  /// `see` is called with (layer, trace). Without `hidden` traces have no h, and the pass does not write it.
  template <std::invocable<std::int64_t, const MlpTrace&> See>
  Observer(See see, bool hidden = true) : see(std::move(see)), wants_h(hidden) {}  // NOLINT: what is called observes

  explicit operator bool() const { return see != nullptr; }

  std::function<void(std::int64_t layer, const MlpTrace& trace)> see;
  bool wants_h = true;
};

/// Called once for each MLP, in order, with what `record` was asked for.
using Recorder = std::function<void(std::int64_t layer, const at::Tensor& x, const at::Tensor& h)>;

/// Share of tokens that each expert of each layer gets: [layer][expert]; empty for a dense layer.
using TokenShares = std::vector<std::vector<double>>;

class Network {
 public:
  virtual ~Network() = default;
  /// images [n, channels, side, side] float32 -> logits [n, classes]. May be called from several threads at once when
  /// no gradients are recorded. Where they are, the result for an image depends, in its last bits, on the batch it
  /// stands in: callers that promise the same bits everywhere form batches that do not depend on the number of ranks or
  /// threads. Without gradients, on a CPU, it does not: see model/packed_kernel.h. On another device the images are in
  /// its memory, like the tensors that the network was made of, and so are logits (float32) and traces; the caller
  /// holds a DeviceScope (device.h).
  virtual at::Tensor logits(const at::Tensor& images, const Observer& observer = {}) const = 0;
  /// Inputs x [rows, d] and, with `hidden`, hidden values h [rows, H] of each MLP at `rows` of the flattened [n,
  /// tokens]: ascending, as many of each image, and every MLP sees all tokens. The same bits as those of traces,
  /// without what only logits or other rows need: of the last block the rest is not computed. In the memory of the
  /// images.
  virtual void record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
                      const Recorder& recorder) const;
  /// logits in steps: tokens [n, tokens, d] before the first block; what block `layer` makes of them, [n, mlp_tokens,
  /// d]; logits of what the last block left. The same bits as logits. The memory of `tokens` may be overwritten.
  virtual at::Tensor embed(const at::Tensor& images) const = 0;
  virtual at::Tensor advance(std::int64_t layer, const at::Tensor& tokens, const Observer& observer = {}) const = 0;
  virtual at::Tensor read_out(const at::Tensor& tokens) const = 0;
  virtual std::int64_t layers() const = 0;
  virtual const Mlp& mlp(std::int64_t layer) const = 0;
  virtual std::int64_t tokens() const = 0;  ///< tokens of an image
  /// Tokens of an image that go through the MLP of `layer`; the first of them are the prefix tokens.
  virtual std::int64_t mlp_tokens(std::int64_t layer) const = 0;
  /// Multiply-accumulates of one image outside the MLPs.
  virtual double other_macs() const = 0;
};

/// Multiply-accumulates of one image.
double macs_per_image(const Network& network, const TokenShares& shares);

}  // namespace moextract::model
