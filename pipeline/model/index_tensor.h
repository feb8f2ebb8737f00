// A list of indices as ATen wants it.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>
#include <cstdint>
#include <span>

namespace moextract::model {

/// [n] int64.
inline at::Tensor index_tensor(std::span<const std::int64_t> index) {
  at::Tensor tensor = at::empty({static_cast<std::int64_t>(index.size())}, at::kLong);
  std::copy(index.begin(), index.end(), tensor.data_ptr<std::int64_t>());
  return tensor;
}

/// Rows `index` (of index_tensor, in x's memory) of x [..., d] taken as one matrix: [n, d].
inline at::Tensor rows_of(const at::Tensor& x, const at::Tensor& index) {
  return at::index_select(x.reshape({-1, x.size(-1)}), 0, index);
}

}  // namespace moextract::model
