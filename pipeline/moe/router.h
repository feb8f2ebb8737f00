// Which expert a token goes to.
#pragma once

#include <ATen/core/Tensor.h>

#include "model/packed_mlp.h"

namespace moextract::moe {

/// Cosine routing (MoEE): index of the key with the largest cosine similarity, the lowest index on ties. `x` [n, d];
/// `keys` [k, d] of unit length (dividing by |x| cannot change which is largest, so it is left out). Returns [n] int64.
at::Tensor route_by_cosine(const at::Tensor& x, const at::Tensor& keys);

/// Index of the largest of each row, the lowest on ties; scores [n, k] float32 -> [n] int64. On a device without a word
/// to the host.
at::Tensor first_largest(const at::Tensor& scores);

/// Index of the largest of x keys^T + bias, the lowest on ties. With a centroid c as key and -|c|^2 / 2 as bias it is
/// the nearest centroid's; without bias (undefined) and with keys of unit length it is cosine routing. Returns [n]
/// int64.
at::Tensor route_linear(const at::Tensor& x, const at::Tensor& keys, const at::Tensor& bias);

/// The same for inference on a CPU, with the products of `packed` keys and bias; x [n, d] contiguous float32. A score
/// may differ from route_linear's in its last bit.
at::Tensor route_packed(const at::Tensor& x, const model::PackedLinear& packed);

/// Rows of unit length; a zero row stays zero (no token is ever closest to it unless all products are <= 0).
at::Tensor unit_rows(const at::Tensor& rows);

}  // namespace moextract::moe
