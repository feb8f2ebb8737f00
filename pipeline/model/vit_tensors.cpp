// Which tensors a Vit has: shapes, checks, fresh values.
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cmath>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/vit.h"

namespace moextract::model {
namespace {

using Shape = std::vector<std::int64_t>;

bool is_mlp_tensor(const std::string& name) {
  return name.find(".mlp.") != std::string::npos;
}

std::string shape_text(const Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

std::map<std::string, Shape> vit_tensor_shapes(const VitParams& p) {
  std::map<std::string, Shape> shapes;
  shapes["patch_embed.proj.weight"] = {p.width, p.channels, p.patch_size, p.patch_size};
  shapes["patch_embed.proj.bias"] = {p.width};
  shapes["pos_embed"] = {1, p.tokens(), p.width};
  if (p.class_token) shapes["cls_token"] = {1, 1, p.width};
  if (p.distilled) {
    shapes["dist_token"] = {1, 1, p.width};
    shapes["head_dist.weight"] = {p.classes, p.width};
    shapes["head_dist.bias"] = {p.classes};
  }
  const std::string norm = p.class_token ? "norm" : "fc_norm";
  shapes[norm + ".weight"] = {p.width};
  shapes[norm + ".bias"] = {p.width};
  shapes["head.weight"] = {p.classes, p.width};
  shapes["head.bias"] = {p.classes};
  for (std::int64_t layer = 0; layer < p.depth; ++layer) {
    const std::string b = fmt::format("blocks.{}.", layer);
    for (const char* name : {"norm1", "norm2"}) {
      shapes[b + name + ".weight"] = {p.width};
      shapes[b + name + ".bias"] = {p.width};
    }
    shapes[b + "attn.qkv.weight"] = {3 * p.width, p.width};
    if (p.qkv_bias) shapes[b + "attn.qkv.bias"] = {3 * p.width};
    shapes[b + "attn.proj.weight"] = {p.width, p.width};
    shapes[b + "attn.proj.bias"] = {p.width};
    shapes[b + "mlp.fc1.weight"] = {p.hidden, p.width};
    shapes[b + "mlp.fc1.bias"] = {p.hidden};
    shapes[b + "mlp.fc2.weight"] = {p.width, p.hidden};
    shapes[b + "mlp.fc2.bias"] = {p.width};
  }
  return shapes;
}

void check_vit_tensors(const std::filesystem::path& file, const VitParams& params, TensorMap& tensors, bool with_mlps) {
  if (!params.class_token) {  // timm calls the last norm fc_norm here, other trainers norm
    for (const char* part : {"weight", "bias"}) {
      const std::string from = std::string("norm.") + part, to = std::string("fc_norm.") + part;
      if (!tensors.contains(to) && tensors.contains(from)) {
        auto node = tensors.extract(from);
        node.key() = to;
        tensors.insert(std::move(node));
      }
    }
  }
  const std::map<std::string, Shape> shapes = vit_tensor_shapes(params);
  for (const auto& [name, shape] : shapes) {
    if (!with_mlps && is_mlp_tensor(name)) continue;
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      fail(ExitCode::model,
           "{}: tensor '{}' {} is missing. Is this the checkpoint of another model? Compare the model section "
           "of the configuration with `moextract inspect {}`",
           file.string(), name, shape_text(shape), file.string());
    }
    const Shape got = found->second.sizes().vec();
    const bool patches_only = name == "pos_embed" && got == Shape{1, params.patches(), params.width};
    if (got != shape && !patches_only) {
      fail(ExitCode::model,
           "{}: tensor '{}' has shape {}, but the model of the configuration needs {}. Compare the model "
           "section with `moextract inspect {}`",
           file.string(), name, shape_text(got), shape_text(shape), file.string());
    }
    if (!found->second.is_floating_point()) {
      fail(ExitCode::model, "{}: tensor '{}' holds integers where the model has weights: take another checkpoint",
           file.string(), name);
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (!shapes.contains(name) && (with_mlps || !is_mlp_tensor(name))) {
      fail(ExitCode::model,
           "{}: tensor '{}' {} belongs to no part of the configured model. Compare the model section of the "
           "configuration with `moextract inspect {}`",
           file.string(), name, shape_text(tensor.sizes().vec()), file.string());
    }
  }
}

TensorMap initial_vit_tensors(const VitParams& params, std::uint64_t seed) {
  TensorMap tensors;
  for (const auto& [name, shape] : vit_tensor_shapes(params)) {
    at::Tensor tensor = at::zeros(shape);
    const bool norm = name.find("norm") != std::string::npos;
    if (norm && name.ends_with(".weight")) {
      tensor.fill_(1.0);
    } else if (!name.ends_with(".bias")) {
      // Matrices at 1 / sqrt(fan in) (LeCun): timm's 0.02 is that of width 2500 and starves narrow models at the start.
      // Positions 0.02; class tokens start near zero.
      double deviation = 0.02;
      if (name == "cls_token" || name == "dist_token") {
        deviation = 1e-6;
      } else if (name != "pos_embed") {
        const std::int64_t fan_in = tensor.numel() / tensor.size(0);
        deviation = 1.0 / std::sqrt(static_cast<double>(fan_in));
      }
      RandomStream stream(seed, hash64("initial weights"), hash64(name));
      float* values = tensor.data_ptr<float>();
      for (std::int64_t i = 0; i < tensor.numel(); ++i) {
        double z = stream.normal();
        while (std::abs(z) > 2.0) z = stream.normal();
        values[i] = static_cast<float>(z * deviation);
      }
    }
    tensors.emplace(name, std::move(tensor));
  }
  return tensors;
}

}  // namespace moextract::model
