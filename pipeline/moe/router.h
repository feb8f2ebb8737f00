// Which expert a token goes to.
#pragma once

#include <ATen/core/Tensor.h>

namespace moextract::moe {

/// Cosine routing (MoEE): index of the key with the largest cosine similarity, the lowest index on ties. `x` [n, d];
/// `keys` [k, d] of unit length (dividing by |x| cannot change which is largest, so it is left out). Returns [n] int64.
at::Tensor route_by_cosine(const at::Tensor& x, const at::Tensor& keys);

/// Rows of unit length; a zero row stays zero (no token is ever closest to it unless all products are <= 0).
at::Tensor unit_rows(const at::Tensor& rows);

}  // namespace moextract::moe
