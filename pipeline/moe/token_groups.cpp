#include "moe/token_groups.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <numeric>
#include <tuple>

#include "model/device_tensors.h"

namespace moextract::moe {
namespace {

TokenGroups group_by_tensors(const at::Tensor& expert, std::int64_t k) {
  const auto [sorted, order] = at::sort(expert, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  // Of each expert the first place whose token goes to it or to a later one.
  const at::Tensor start = at::searchsorted(sorted, at::arange(k + 1, expert.options())).cpu();
  const std::int64_t* first = start.const_data_ptr<std::int64_t>();
  return {order, {first, first + k + 1}};
}

}  // namespace

TokenGroups group_tokens(const at::Tensor& expert, std::int64_t k) {
  const at::NoGradGuard no_grad;
  if (model::by_tensors(expert)) return group_by_tensors(expert.contiguous(), k);
  const at::Tensor whole = expert.contiguous();
  const std::int64_t* to = whole.const_data_ptr<std::int64_t>();
  const std::int64_t n = whole.numel();
  std::vector<std::int64_t> next(static_cast<std::size_t>(k) + 2, 0);  // those in no group come first
  for (std::int64_t i = 0; i < n; ++i) ++next[static_cast<std::size_t>(to[i] < 0 ? 1 : to[i] + 2)];
  std::partial_sum(next.begin(), next.end(), next.begin());
  TokenGroups groups{at::empty({n}, at::kLong), {next.begin() + 1, next.end()}};
  std::int64_t* order = groups.order.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < n; ++i) order[next[static_cast<std::size_t>(to[i] < 0 ? 0 : to[i] + 1)]++] = i;
  return groups;
}

}  // namespace moextract::moe
