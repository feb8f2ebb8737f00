#include "moe/expert_weights.h"

#include <ATen/ATen.h>

#include <string>

#include "core/error.h"
#include "model/vit.h"

namespace moextract::moe {
namespace {

const at::Tensor& get(const model::TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  MOEX_ASSERT(found != tensors.end(), "tensor " + name + " was not checked before use");
  return found->second;
}

}  // namespace

std::vector<ExpertWeights> load_expert_weights(std::int64_t layer, const model::TensorMap& tensors) {
  const std::string prefix = model::mlp_prefix(layer);
  const at::Tensor fc1_weight = get(tensors, prefix + "fc1.weight");
  const at::Tensor fc1_bias = get(tensors, prefix + "fc1.bias");
  const auto own_fc2 = tensors.find(prefix + "experts.fc2.weight");
  const bool has_own_fc2 = own_fc2 != tensors.end();
  const at::Tensor fc2_weight = has_own_fc2 ? own_fc2->second : get(tensors, prefix + "fc2.weight");
  const at::Tensor fc2_bias = get(tensors, prefix + "fc2.bias");
  const at::Tensor offsets = get(tensors, prefix + "experts.offsets").cpu().to(at::kLong).contiguous();
  const std::int64_t* offset = offsets.const_data_ptr<std::int64_t>();
  const auto rows = tensors.find(prefix + "experts.rows");
  const auto left = tensors.find(prefix + "experts.low_rank.left");
  std::vector<ExpertWeights> experts;
  for (std::int64_t e = 0; e + 1 < offsets.numel(); ++e) {
    const std::int64_t first = offset[e], count = offset[e + 1] - first;
    ExpertWeights expert;
    if (rows != tensors.end()) {
      const at::Tensor index = rows->second.narrow(0, first, count).to(at::kLong);
      expert.fc1_weight = fc1_weight.index_select(0, index);
      expert.fc1_bias = fc1_bias.index_select(0, index);
      expert.fc2_weight =
          has_own_fc2 ? fc2_weight.narrow(1, first, count).contiguous() : fc2_weight.index_select(1, index);
    } else {
      expert.fc1_weight = fc1_weight.narrow(0, first, count);
      expert.fc1_bias = fc1_bias.narrow(0, first, count);
      expert.fc2_weight = fc2_weight.narrow(1, first, count).contiguous();
    }
    if (left != tensors.end()) {
      const at::Tensor right = get(tensors, prefix + "experts.low_rank.right");
      expert.fc2_weight = expert.fc2_weight + at::mm(left->second.select(0, e), right.narrow(1, first, count));
    }
    expert.fc2_bias = fc2_bias.dim() == 2 ? fc2_bias.select(0, e) : fc2_bias;
    experts.push_back(std::move(expert));
  }
  return experts;
}

}  // namespace moextract::moe
