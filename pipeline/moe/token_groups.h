// Tokens by the expert they go to.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace moextract::moe {

struct TokenGroups {
  at::Tensor order;                 ///< [n] int64, beside `expert`: tokens of an expert together, in their own order
  std::vector<std::int64_t> start;  ///< [k + 1]: those of expert e are order[start[e]] .. order[start[e + 1] - 1]

  std::int64_t count(std::size_t expert) const { return start[expert + 1] - start[expert]; }
  /// Tokens of an expert, [count].
  at::Tensor of(std::size_t expert) const { return order.narrow(0, start[expert], count(expert)); }
};

/// Stable counting sort of tokens; expert [n] int64, below k; negative: in no group. On a device nothing but `start`
/// comes to the host, and the host waits for it.
TokenGroups group_tokens(const at::Tensor& expert, std::int64_t k);

}  // namespace moextract::moe
