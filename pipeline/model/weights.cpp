#include "model/weights.h"

#include <ATen/ATen.h>

#include <cstring>

#include "core/error.h"
#include "core/float16.h"
#include "store/safetensors.h"

namespace moextract::model {
namespace {

at::ScalarType scalar_type(store::TensorType type) {
  switch (type) {
    case store::TensorType::f32:
      return at::kFloat;
    case store::TensorType::f16:
      return at::kHalf;
    case store::TensorType::bf16:
      return at::kBFloat16;
    case store::TensorType::f64:
      return at::kDouble;
    case store::TensorType::i64:
      return at::kLong;
    case store::TensorType::i32:
      return at::kInt;
    case store::TensorType::u8:
      return at::kByte;
    case store::TensorType::boolean:
      return at::kBool;
  }
  MOEX_ASSERT(false, "unknown tensor type");
  return at::kFloat;
}

store::TensorType tensor_type(const std::string& name, const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return store::TensorType::f32;
    case at::kLong:
      return store::TensorType::i64;
    case at::kInt:
      return store::TensorType::i32;
    case at::kDouble:
      return store::TensorType::f64;
    default:
      break;
  }
  MOEX_ASSERT(false, "tensor " + name + " has a type that is never saved");
  return store::TensorType::f32;
}

}  // namespace

WeightsFile load_weights(const std::filesystem::path& path, bool keep_double) {
  const store::SafetensorsFile file(path);
  WeightsFile weights;
  weights.metadata = file.metadata();
  for (const auto& [name, view] : file.tensors()) {
    // Beside a length of zero any others fit the file, but LibTorch multiplies them.
    auto bytes = static_cast<std::int64_t>(sizeof(double));
    for (const std::int64_t length : view.shape) {
      if (length > 0 && __builtin_mul_overflow(bytes, length, &bytes)) {
        fail(ExitCode::input, "{}: tensor '{}' has no elements, and lengths that no tensor has: the file is damaged",
             path.string(), name);
      }
    }
    at::Tensor tensor = at::empty(view.shape, at::TensorOptions(scalar_type(view.type)));
    if (!view.data.empty()) std::memcpy(tensor.data_ptr(), view.data.data(), view.data.size());
    if (keep_double && tensor.scalar_type() == at::kDouble) {
      if (!at::isfinite(tensor).all().item<bool>()) {
        fail(ExitCode::numerics, "{}: tensor '{}' holds a NaN or an infinity: run the stage that wrote it again",
             path.string(), name);
      }
    } else if (tensor.is_floating_point()) {
      tensor = tensor.to(at::kFloat);
      const std::span<const float> values(tensor.const_data_ptr<float>(), static_cast<std::size_t>(tensor.numel()));
      if (const std::int64_t bad = first_non_finite(values); bad >= 0) {
        fail(ExitCode::numerics,
             "{}: tensor '{}' holds a NaN or an infinity at element {}: the file is damaged or the "
             "training that made it diverged; take another checkpoint",
             path.string(), name, bad);
      }
    }
    weights.tensors.emplace(name, std::move(tensor));
  }
  return weights;
}

void save_weights(const std::filesystem::path& path, const TensorMap& tensors, const Metadata& metadata,
                  bool checksum) {
  TensorMap contiguous;  // keeps the memory that the views point to
  std::map<std::string, store::TensorView> views;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor& kept = contiguous[name] = tensor.detach().cpu().contiguous();
    store::TensorView view;
    view.type = tensor_type(name, kept);
    view.shape = kept.sizes().vec();
    view.data = {static_cast<const std::byte*>(kept.const_data_ptr()), kept.nbytes()};
    views.emplace(name, std::move(view));
  }
  store::write_safetensors(path, views, checksum ? store::with_checksum(views, metadata) : metadata);
}

std::int64_t count_parameters(const TensorMap& tensors) {
  std::int64_t count = 0;
  for (const auto& [name, tensor] : tensors) {
    if (tensor.is_floating_point()) count += tensor.numel();
  }
  return count;
}

}  // namespace moextract::model
