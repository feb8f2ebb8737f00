// A list of indices as ATen wants it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cstdint>
#include <span>

namespace moextract::moe {

/// [n] int64.
inline at::Tensor index_tensor(std::span<const std::int64_t> index) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(index.size())}, at::kLong);
  std::copy(index.begin(), index.end(), tensor.data_ptr<std::int64_t>());
  return tensor;
}

}  // namespace moextract::moe
