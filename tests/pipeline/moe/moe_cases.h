// A small MLP and clusters for the tests of pipeline/moe.
#pragma once

#include "moe/assembler.h"
#include "moe/expert_mlp.h"
#include "tests/pipeline/model/model_cases.h"

namespace moextract::moe::test {

using model::TensorMap;
using model::test::expect_error;
using model::test::largest_difference;
using model::test::random_tensor;
using model::test::same_bits;
using Sets = std::vector<std::vector<std::int64_t>>;

inline constexpr std::int64_t kWidth = 6, kHidden = 10;
inline const std::string kPrefix = "blocks.0.mlp.";
/// Three experts; neurons 1 and 8 are in none, 3 and 4 in two.
inline const Sets kSets{{0, 3, 4, 9}, {2}, {3, 4, 5, 6, 7}};

inline TensorMap dense_tensors() {
  return {{kPrefix + "fc1.weight", random_tensor("fc1.weight", {kHidden, kWidth})},
          {kPrefix + "fc1.bias", random_tensor("fc1.bias", {kHidden})},
          {kPrefix + "fc2.weight", random_tensor("fc2.weight", {kWidth, kHidden})},
          {kPrefix + "fc2.bias", random_tensor("fc2.bias", {kWidth})}};
}

/// Moments of k clusters with random means.
inline ClusterMoments random_moments(std::int64_t k) {
  ClusterMoments m;
  m.k = k;
  m.hidden = kHidden;
  m.width = kWidth;
  m.count.assign(static_cast<std::size_t>(k), 7);
  RandomStream random(3, 3);
  for (std::int64_t i = 0; i < k * kHidden; ++i) {
    m.h_mean.push_back(random.normal());
    m.h_variance.push_back(random.uniform());
  }
  for (std::int64_t i = 0; i < k * kWidth; ++i) m.x_mean.push_back(random.normal());
  return m;
}

inline TensorMap expert_tensors(const Sets& sets, Storage storage, Compensation compensation = Compensation::none) {
  TensorMap tensors = dense_tensors();
  assemble_experts(0, random_moments(static_cast<std::int64_t>(sets.size())), sets, storage, compensation, tensors);
  return tensors;
}

inline at::Tensor dense_answer(const at::Tensor& x) {
  const TensorMap t = dense_tensors();
  return at::linear(at::gelu(at::linear(x, t.at(kPrefix + "fc1.weight"), t.at(kPrefix + "fc1.bias"))),
                    t.at(kPrefix + "fc2.weight"), t.at(kPrefix + "fc2.bias"));
}

inline Sets all_neurons(std::int64_t k) {
  std::vector<std::int64_t> all;
  for (std::int64_t j = 0; j < kHidden; ++j) all.push_back(j);
  return Sets(static_cast<std::size_t>(k), all);
}

}  // namespace moextract::moe::test
