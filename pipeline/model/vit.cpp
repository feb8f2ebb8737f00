#include "model/vit.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/scaled_dot_product_attention.h>

#include "core/error.h"
#include "model/device_tensors.h"

namespace moextract::model {
namespace {

at::Tensor get(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  MOEX_ASSERT(found != tensors.end(), "tensor " + name + " was not checked before use");
  return found->second;
}

at::Tensor get_if(const TensorMap& tensors, const std::string& name, bool wanted) {
  return wanted ? get(tensors, name) : at::Tensor();
}

}  // namespace

std::string mlp_prefix(std::int64_t layer) {
  return fmt::format("blocks.{}.mlp.", layer);
}

std::unique_ptr<Mlp> make_dense_mlp(std::int64_t layer, const TensorMap& tensors, Precision precision) {
  const std::string prefix = mlp_prefix(layer);
  return std::make_unique<DenseMlp>(get(tensors, prefix + "fc1.weight"), get(tensors, prefix + "fc1.bias"),
                                    get(tensors, prefix + "fc2.weight"), get(tensors, prefix + "fc2.bias"), precision);
}

Vit::Vit(const VitParams& params, const TensorMap& tensors, const MlpFactory& make_mlp, Precision precision)
    : params_(params), precision_(precision) {
  patch_weight_ = get(tensors, "patch_embed.proj.weight");
  patch_bias_ = get(tensors, "patch_embed.proj.bias");
  patch_ = Linear(patch_weight_.reshape({params.width, -1}), patch_bias_, precision);
  class_token_ = get_if(tensors, "cls_token", params.class_token);
  distillation_token_ = get_if(tensors, "dist_token", params.distilled);
  position_ = get(tensors, "pos_embed");
  const std::string norm = params.class_token ? "norm" : "fc_norm";
  norm_ = {get(tensors, norm + ".weight"), get(tensors, norm + ".bias")};
  head_ = Linear(get(tensors, "head.weight"), get(tensors, "head.bias"), precision);
  if (params.distilled) {
    head_distilled_ = Linear(get(tensors, "head_dist.weight"), get(tensors, "head_dist.bias"), precision);
  }
  for (std::int64_t layer = 0; layer < params.depth; ++layer) {
    const std::string prefix = fmt::format("blocks.{}.", layer);
    Block block;
    block.norm1 = {get(tensors, prefix + "norm1.weight"), get(tensors, prefix + "norm1.bias")};
    const at::Tensor qkv = get(tensors, prefix + "attn.qkv.weight"),
                     qkv_bias = get_if(tensors, prefix + "attn.qkv.bias", params.qkv_bias);
    block.qkv = Linear(qkv, qkv_bias, precision);
    if (layer == params.depth - 1) {
      const auto part = [&](std::int64_t first, std::int64_t rows) {
        return Linear(qkv.narrow(0, first, rows), qkv_bias.defined() ? qkv_bias.narrow(0, first, rows) : at::Tensor(),
                      precision);
      };
      block.q = part(0, params.width);
      block.kv = part(params.width, 2 * params.width);
    }
    block.proj = Linear(get(tensors, prefix + "attn.proj.weight"), get(tensors, prefix + "attn.proj.bias"), precision);
    block.norm2 = {get(tensors, prefix + "norm2.weight"), get(tensors, prefix + "norm2.bias")};
    block.mlp = make_mlp(layer, tensors, precision);
    blocks_.push_back(std::move(block));
  }
}

at::Tensor Vit::attention(const Block& block, const at::Tensor& x, std::int64_t queries) const {
  const std::int64_t n = x.size(0), tokens = x.size(1), d = params_.width, head_width = d / params_.heads;
  const auto by_head = [&](const at::Tensor& values, std::int64_t parts) {
    return values.reshape({n, values.size(1), parts, params_.heads, head_width}).permute({2, 0, 3, 1, 4});
  };
  at::Tensor q, k, v;
  if (queries == tokens) {
    const at::Tensor qkv = by_head(block.qkv(x), 3);
    q = qkv.select(0, 0), k = qkv.select(0, 1), v = qkv.select(0, 2);
  } else {
    q = by_head(block.q(x.narrow(1, 0, queries)), 1).select(0, 0);
    const at::Tensor kv = by_head(block.kv(x), 2);
    k = kv.select(0, 0), v = kv.select(0, 1);
  }
  if (rounds_products(x, precision_)) q = q.to(at::kBFloat16), k = k.to(at::kBFloat16), v = v.to(at::kBFloat16);
  const at::Tensor mixed = at::scaled_dot_product_attention(q, k, v).to(x.scalar_type());
  return block.proj(mixed.transpose(1, 2).reshape({n, queries, d}));
}

at::Tensor Vit::norm(const at::Tensor& x, const Norm& norm) const {
  return at::layer_norm(x, {params_.width}, norm.weight, norm.bias, params_.norm_eps);
}

at::Tensor Vit::patches(const at::Tensor& images) const {
  const std::int64_t n = images.size(0), patch = params_.patch_size, across = params_.image_size / patch;
  if (!by_tensors(images)) {
    return at::conv2d(images, patch_weight_, patch_bias_, {patch, patch}).flatten(2).transpose(1, 2);
  }
  // A product of matrices: cuDNN's convolutions promise neither full width nor the same bits again.
  return patch_(images.reshape({n, params_.channels, across, patch, across, patch})
                    .permute({0, 2, 4, 1, 3, 5})
                    .reshape({n, across * across, -1}));
}

at::Tensor Vit::logits(const at::Tensor& images, const Observer& observer) const {
  at::Tensor x = embed(images);
  for (std::int64_t layer = 0; layer < params_.depth; ++layer) x = advance(layer, x, observer);
  return read_out(x);
}

bool Vit::infers(const at::Tensor& x) const {
  return packed_applies(x) && packed_applies(patch_weight_);
}

void Vit::record(const at::Tensor& images, std::span<const std::int64_t> rows, bool hidden,
                 const Recorder& recorder) const {
  if (!infers(images)) return Network::record(images, rows, hidden, recorder);
  infer_record(images, rows, hidden, recorder);
}

at::Tensor Vit::embed(const at::Tensor& images) const {
  if (infers(images)) return infer_embed(images);
  const std::int64_t n = images.size(0);
  at::Tensor x = patches(images);
  // Models that give the class token no position (pos_embed has one row a patch) add positions before the tokens are
  // joined.
  const bool position_first = position_.size(1) == params_.patches();
  if (position_first) x = x + position_;
  if (params_.class_token) {
    std::vector<at::Tensor> parts{class_token_.expand({n, 1, params_.width})};
    if (params_.distilled) parts.push_back(distillation_token_.expand({n, 1, params_.width}));
    parts.push_back(x);
    x = at::cat(parts, 1);
  }
  return position_first ? x : x + position_;
}

at::Tensor Vit::advance(std::int64_t layer, const at::Tensor& tokens, const Observer& observer) const {
  if (infers(tokens)) return infer_block(layer, tokens, observer);
  const Block& block = blocks_.at(static_cast<std::size_t>(layer));
  const std::int64_t kept = params_.mlp_tokens(layer);
  const at::Tensor mixed = attention(block, norm(tokens, block.norm1), kept);
  const at::Tensor x = tokens.narrow(1, 0, kept) + mixed;
  MlpTrace trace;
  trace.wants_h = observer.wants_h;
  const at::Tensor y = block.mlp->forward(norm(x, block.norm2), observer ? &trace : nullptr);
  trace.residual = x;
  trace.y = y;
  if (observer) observer.see(layer, trace);
  return x + y;
}

at::Tensor Vit::read_out(const at::Tensor& tokens) const {
  if (infers(tokens)) return infer_read_out(tokens);
  return answer(norm(
      params_.class_token ? tokens.slice(1, 0, params_.prefix_tokens()) : tokens.mean(1, /*keepdim=*/true), norm_));
}

at::Tensor Vit::answer(const at::Tensor& read) const {
  const at::Tensor answer = head_(read.select(1, 0));
  return params_.distilled ? (answer + head_distilled_(read.select(1, 1))) / 2 : answer;
}

double Vit::other_macs() const {
  const double d = static_cast<double>(params_.width), t = static_cast<double>(params_.tokens());
  const double patch_values = static_cast<double>(params_.channels * params_.patch_size * params_.patch_size);
  const double heads = params_.distilled ? 2.0 : 1.0;
  // Of each block: keys and values of all tokens; query, products with keys and values, and projection of those kept.
  double blocks = 0;
  for (std::int64_t layer = 0; layer < params_.depth; ++layer) {
    const double kept = static_cast<double>(params_.mlp_tokens(layer));
    blocks += t * 2.0 * d * d + kept * 2.0 * d * d + 2.0 * kept * t * d;
  }
  return static_cast<double>(params_.patches()) * patch_values * d + blocks +
         heads * d * static_cast<double>(params_.classes);
}

}  // namespace moextract::model
