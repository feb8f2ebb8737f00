// The forward pass of a Vit without gradients, on a CPU: packed products and row kernels between few buffers.
//
// Every value of an image is computed by the same operations in the same order whatever the batch, the threads and the
// instruction set: the logits are the same bits.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "model/index_tensor.h"
#include "model/packed_attention.h"
#include "model/splitting.h"
#include "model/vit.h"

namespace moextract::model {
namespace {

float* room(std::vector<float>& values, std::int64_t size) {
  if (values.size() < static_cast<std::size_t>(size)) values.resize(static_cast<std::size_t>(size));
  return values.data();
}

/// Calls work(begin, count) for blocks of n rows, split over threads.
template <typename Work>
void for_row_blocks(std::int64_t n, const Work& work) {
  const RowBlocks blocks(n, kMostRows);
  split(blocks.count(), [&](std::int64_t block) { work(blocks.begin(block), blocks.size(block)); });
}

/// Rows of products land in scratch and are handed on: done(i, row) for i in begin .. begin + count - 1.
template <typename RowOf, typename Done>
void multiply_rows(const PackedLinear& linear, std::int64_t begin, std::int64_t count, const RowOf& row_of,
                   const Done& done) {
  static thread_local std::vector<float> products;
  const float* in[kMostRows];
  float* out[kMostRows];
  float* to = room(products, count * linear.padded_out());
  for (std::int64_t i = 0; i < count; ++i) {
    in[i] = row_of(begin + i);
    out[i] = to + i * linear.padded_out();
  }
  linear.multiply(in, count, out, /*pad=*/true);
  for (std::int64_t i = 0; i < count; ++i) done(begin + i, out[i]);
}

/// sum = a + b; sum may be a.
void add(const at::Tensor& a, const at::Tensor& b, const at::Tensor& sum) {
  const std::int64_t width = a.size(-1);
  float* to = sum.data_ptr<float>();
  const float *x = a.const_data_ptr<float>(), *y = b.const_data_ptr<float>();
  for_row_blocks(a.numel() / width, [&](std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = begin * width; i < (begin + count) * width; ++i) to[i] = x[i] + y[i];
  });
}

/// y[i] = linear(norm(x[i])) for n rows; row_of(i) is x[i].
template <typename RowOf>
void norm_and_multiply(std::int64_t n, const RowOf& row_of, const at::Tensor& weight, const at::Tensor& bias, float eps,
                       const PackedLinear& linear, float* y, std::int64_t y_row) {
  const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
  const std::int64_t width = linear.in();
  for_row_blocks(n, [&](std::int64_t begin, std::int64_t count) {
    static thread_local std::vector<float> normed;
    float* rows = room(normed, count * width);
    const float* in[kMostRows];
    float* out[kMostRows];
    for (std::int64_t i = 0; i < count; ++i) {
      kernels().layer_norm(row_of(begin + i), w, b, width, eps, rows + i * width);
      in[i] = rows + i * width;
      out[i] = y + (begin + i) * y_row;
    }
    linear.multiply(in, count, out, /*pad=*/false);
  });
}

}  // namespace

at::Tensor Vit::infer_block(std::int64_t layer, const at::Tensor& tokens, const Observer& observer) const {
  const Block& block = blocks_.at(static_cast<std::size_t>(layer));
  const at::Tensor x = attend_and_add(block, tokens.contiguous(), {params_.mlp_tokens(layer)});
  MlpTrace trace;
  trace.wants_h = observer.wants_h;
  const at::Tensor y = block.mlp->forward(normalised(x, block.norm2), observer ? &trace : nullptr).contiguous();
  at::Tensor sum = observer ? at::empty(x.sizes(), x.options()) : x;  // an observer may keep what it saw
  add(x, y, sum);
  trace.residual = x;
  trace.y = y;
  if (observer) observer.see(layer, trace);
  return sum;
}

void Vit::infer_record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
                       const Recorder& recorder) const {
  const std::int64_t n = images.size(0), width = params_.width, last = params_.depth - 1;
  const auto m = static_cast<std::int64_t>(rows.size());
  MOEX_ASSERT(params_.mlp_tokens(last) == params_.tokens(), "rows of tokens that do not reach the MLP");
  MOEX_ASSERT(m > 0 && m % n == 0, "as many rows of each image");
  const at::Tensor index = index_tensor(rows);
  at::Tensor x = infer_embed(images);
  for (std::int64_t layer = 0; layer < last; ++layer) {
    const Block& block = blocks_.at(static_cast<std::size_t>(layer));
    x = attend_and_add(block, x, {params_.tokens()});
    const at::Tensor in = normalised(x, block.norm2);
    MlpTrace trace;
    trace.wants_h = hidden;
    trace.rows = rows;
    const at::Tensor y = block.mlp->forward(in, &trace).contiguous();
    recorder(layer, rows_of(in, index), trace.h);
    add(x, y, x);
  }
  const Block& block = blocks_.at(static_cast<std::size_t>(last));
  const at::Tensor in = normalised(attend_and_add(block, x, {m / n, rows}), block.norm2);
  MlpTrace trace;
  if (hidden) block.mlp->forward(in, &trace);
  recorder(last, in.reshape({m, width}), hidden ? trace.h.reshape({m, -1}) : at::Tensor());
}

at::Tensor Vit::infer_read_out(const at::Tensor& tokens) const {
  return answer(normalised(
      params_.class_token ? tokens.slice(1, 0, params_.prefix_tokens()).contiguous() : mean_token(tokens.contiguous()),
      norm_));
}

at::Tensor Vit::infer_embed(const at::Tensor& pixels_of) const {
  MOEX_ASSERT(pixels_of.dim() == 4 && pixels_of.size(1) == params_.channels &&
                  pixels_of.size(2) == params_.image_size && pixels_of.size(3) == params_.image_size,
              "images of another shape than the model's");
  const at::Tensor images = pixels_of.contiguous();
  const std::int64_t n = images.size(0), width = params_.width, patch = params_.patch_size, side = params_.image_size,
                     channels = params_.channels, across = side / patch, patches = params_.patches(),
                     prefix = params_.prefix_tokens(), tokens = params_.tokens();
  const PackedLinear& linear = patch_.packed();
  const at::Tensor position = position_.contiguous();
  // Models that give the class token no position have one row a patch.
  const std::int64_t unplaced = tokens - position.size(1);
  const float* place = position.const_data_ptr<float>();
  at::Tensor x = at::empty({n, tokens, width}, images.options());
  float* to = x.data_ptr<float>();
  const float* pixels = images.const_data_ptr<float>();
  const auto token = [&](std::int64_t image, std::int64_t t, const float* value) {
    float* row = to + (image * tokens + t) * width;
    const float* add = t >= unplaced ? place + (t - unplaced) * width : nullptr;
    for (std::int64_t j = 0; j < width; ++j) row[j] = add != nullptr ? value[j] + add[j] : value[j];
  };
  std::vector<at::Tensor> first;
  if (params_.class_token) first.push_back(class_token_.contiguous());
  if (params_.distilled) first.push_back(distillation_token_.contiguous());
  for (std::int64_t image = 0; image < n; ++image) {
    for (std::int64_t t = 0; t < prefix; ++t)
      token(image, t, first[static_cast<std::size_t>(t)].const_data_ptr<float>());
  }
  const std::int64_t values = linear.in();
  constexpr std::int64_t kBlock = 60;  // the pixels of 60 patches of 16 x 16 take 184 KB
  const RowBlocks blocks(n * patches, kBlock);
  split(blocks.count(), [&](std::int64_t block) {
    static thread_local std::vector<float> gathered;
    const std::int64_t begin = blocks.begin(block), count = blocks.size(block);
    float* inputs = room(gathered, count * values);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t image = (begin + i) / patches, number = (begin + i) % patches;
      float* row = inputs + i * values;
      for (std::int64_t c = 0; c < channels; ++c) {
        const float* corner =
            pixels + ((image * channels + c) * side + number / across * patch) * side + number % across * patch;
        for (std::int64_t line = 0; line < patch; ++line) row = std::copy_n(corner + line * side, patch, row);
      }
    }
    multiply_rows(
        linear, begin, count, [&](std::int64_t i) { return inputs + (i - begin) * values; },
        [&](std::int64_t i, const float* value) { token(i / patches, prefix + i % patches, value); });
  });
  return x;
}

at::Tensor Vit::attend_and_add(const Block& block, const at::Tensor& x, const Queries& wanted) const {
  static thread_local std::vector<float> projected, queried, mixed_values;
  const std::int64_t n = x.size(0), tokens = x.size(1), width = params_.width, queries = wanted.of_image;
  const at::Tensor norm_weight = block.norm1.weight.contiguous(), norm_bias = block.norm1.bias.contiguous();
  const float* from = x.const_data_ptr<float>();
  const auto eps = static_cast<float>(params_.norm_eps);
  const auto every = [&](std::int64_t i) { return from + i * width; };
  const auto kept = [&](std::int64_t i) {
    const std::int64_t row =
        wanted.rows.empty() ? i / queries * tokens + i % queries : wanted.rows[static_cast<std::size_t>(i)];
    return from + row * width;
  };
  AttentionInput input{};
  if (queries == tokens) {
    float* qkv = room(projected, n * tokens * 3 * width);
    norm_and_multiply(n * tokens, every, norm_weight, norm_bias, eps, block.qkv.packed(), qkv, 3 * width);
    input = {qkv, qkv + width, qkv + 2 * width, 3 * width, 3 * width, 3 * width};
  } else {
    float *q = room(queried, n * queries * width), *kv = room(projected, n * tokens * 2 * width);
    norm_and_multiply(n * queries, kept, norm_weight, norm_bias, eps, block.q.packed(), q, width);
    norm_and_multiply(n * tokens, every, norm_weight, norm_bias, eps, block.kv.packed(), kv, 2 * width);
    input = {q, kv, kv + width, width, 2 * width, 2 * width};
  }
  float* mixed = room(mixed_values, n * queries * width);
  attend({n, queries, tokens, params_.heads, width / params_.heads}, input, precision_, mixed);
  at::Tensor sum = queries == tokens ? x : at::empty({n, queries, width}, x.options());
  float* to = sum.data_ptr<float>();
  for_row_blocks(n * queries, [&](std::int64_t begin, std::int64_t count) {
    multiply_rows(
        block.proj.packed(), begin, count, [&](std::int64_t i) { return mixed + i * width; },
        [&](std::int64_t i, const float* value) {
          const float* before = kept(i);
          for (std::int64_t j = 0; j < width; ++j) to[i * width + j] = before[j] + value[j];
        });
  });
  return sum;
}

at::Tensor Vit::mean_token(const at::Tensor& x) const {
  const std::int64_t n = x.size(0), tokens = x.size(1), width = params_.width;
  at::Tensor mean = at::empty({n, 1, width}, x.options());
  std::vector<double> sum;
  for (std::int64_t image = 0; image < n; ++image) {
    sum.assign(static_cast<std::size_t>(width), 0.0);
    const float* from = x.const_data_ptr<float>() + image * tokens * width;
    for (std::int64_t i = 0; i < tokens * width; ++i) sum[static_cast<std::size_t>(i % width)] += from[i];
    for (std::int64_t j = 0; j < width; ++j) {
      mean.data_ptr<float>()[image * width + j] =
          static_cast<float>(sum[static_cast<std::size_t>(j)] / static_cast<double>(tokens));
    }
  }
  return mean;
}

at::Tensor Vit::normalised(const at::Tensor& x, const Norm& norm) const {
  const at::Tensor weight = norm.weight.contiguous(), bias = norm.bias.contiguous();
  const float *w = weight.const_data_ptr<float>(), *b = bias.const_data_ptr<float>();
  at::Tensor y = at::empty(x.sizes(), x.options());
  const float* from = x.const_data_ptr<float>();
  float* to = y.data_ptr<float>();
  const std::int64_t width = params_.width;
  for_row_blocks(x.numel() / width, [&](std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = begin; i < begin + count; ++i) {
      kernels().layer_norm(from + i * width, w, b, width, static_cast<float>(params_.norm_eps), to + i * width);
    }
  });
  return y;
}

}  // namespace moextract::model
