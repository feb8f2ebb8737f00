// AdamW against PyTorch's documented algorithm, computed in double.
#include "train/adamw.h"

#include <cmath>

#include "tests/pipeline/model/model_cases.h"

namespace moextract::train {
namespace {

using model::test::random_tensor;
using model::test::same_bits;

/// torch.optim.AdamW, one number at a time.
struct Reference {
  double weight, first = 0, second = 0;
  void step(int t, double rate, double g, double decay) {
    weight -= rate * decay * weight;
    first = 0.9 * first + 0.1 * g;
    second = 0.999 * second + 0.001 * g * g;
    const double corrected_first = first / (1 - std::pow(0.9, t)), corrected_second = second / (1 - std::pow(0.999, t));
    weight -= rate * corrected_first / (std::sqrt(corrected_second) + 1e-8);
  }
};

model::TensorMap some_tensors() {
  // In the map's order; cls_token, pos_embed, biases and norms do not decay.
  return {{"blocks.0.mlp.fc2.bias", random_tensor("a", {2, 3})},
          {"blocks.0.norm1.weight", random_tensor("b", {5})},
          {"cls_token", random_tensor("c", {1, 1, 4})},
          {"head.weight", random_tensor("d", {3, 4})},
          {"patch_embed.proj.weight", random_tensor("e", {2, 1, 2, 2})},
          {"pos_embed", random_tensor("f", {1, 2, 4})}};
}

TEST(AdamW, FollowsTheReferenceOverManySteps) {
  const model::TensorMap tensors = some_tensors();
  std::vector<Reference> reference;
  std::vector<double> decay;
  for (const auto& [name, tensor] : tensors) {
    for (std::int64_t i = 0; i < tensor.numel(); ++i) {
      reference.push_back({tensor.const_data_ptr<float>()[i]});
      decay.push_back(name == "head.weight" || name == "patch_embed.proj.weight" ? 0.1 : 0.0);
    }
  }
  Workers workers(2);
  AdamW optimiser({.weight_decay = 0.1}, tensors);
  RandomStream random(1, 1);
  for (int t = 1; t <= 60; ++t) {
    const double rate = 0.01 * (1 + t % 3);
    const float scale = t % 2 ? 1.0f : 0.5f;
    std::vector<float> gradient(reference.size());
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      gradient[i] = static_cast<float>(random.normal());
      reference[i].step(t, rate, static_cast<double>(gradient[i]) * scale, decay[i]);
    }
    optimiser.step(t, rate, gradient, scale, workers);
  }
  std::size_t next = 0;
  for (const auto& [name, tensor] : tensors) {
    for (std::int64_t i = 0; i < tensor.numel(); ++i, ++next) {
      EXPECT_NEAR(tensor.const_data_ptr<float>()[i], reference[next].weight, 2e-5) << name;
      EXPECT_NEAR(optimiser.first_moments().at(name).const_data_ptr<float>()[i], reference[next].first, 1e-6);
      EXPECT_NEAR(optimiser.second_moments().at(name).const_data_ptr<float>()[i], reference[next].second, 1e-6);
    }
  }
}

TEST(AdamW, TheFirstStepIsTheRateAgainstTheSign) {
  model::TensorMap tensors{{"head.bias", at::zeros({3})}};
  Workers workers(1);
  AdamW optimiser({.weight_decay = 0.5}, tensors);
  optimiser.step(1, 0.25, std::vector<float>{4.0f, -1e-3f, 0.0f}, 1.0f, workers);
  EXPECT_NEAR(tensors["head.bias"][0].item<float>(), -0.25, 1e-5);
  EXPECT_NEAR(tensors["head.bias"][1].item<float>(), 0.25, 1e-5);
  EXPECT_EQ(tensors["head.bias"][2].item<float>(), 0.0f);
}

TEST(AdamW, ByLibTorchsOperatorsIsTheSame) {
  model::TensorMap tensors[2];
  for (model::TensorMap& copy : tensors) {
    for (const auto& [name, tensor] : some_tensors()) copy.emplace(name, tensor.clone());
  }
  Workers workers(1);
  AdamW loops({.weight_decay = 0.1}, tensors[0]), operators({.weight_decay = 0.1}, tensors[1]);
  for (int t = 1; t <= 60; ++t) {
    const at::Tensor gradient = random_tensor("step " + std::to_string(t), {model::count_parameters(tensors[0])});
    const float scale = t % 2 ? 1.0f : 0.5f;
    loops.step(t, 0.01, {gradient.const_data_ptr<float>(), static_cast<std::size_t>(gradient.numel())}, scale, workers);
    operators.step(t, 0.01, gradient, scale);
  }
  for (const auto& [name, tensor] : tensors[0]) {
    EXPECT_LT(model::test::largest_difference(tensor, tensors[1].at(name)), 1e-5) << name;
    EXPECT_LT(model::test::largest_difference(tensor, some_tensors().at(name)), 1.0) << name;
    EXPECT_GT(model::test::largest_difference(tensor, some_tensors().at(name)), 1e-2) << name;
  }
}

TEST(AdamW, SameBitsOnAnyThreads) {
  model::TensorMap results[3];
  for (const int threads : {1, 2, 3}) {
    model::TensorMap tensors;
    for (const auto& [name, tensor] : some_tensors()) tensors.emplace(name, tensor.clone());
    Workers workers(threads);
    AdamW optimiser({}, tensors);
    for (int t = 1; t < 5; ++t) {
      std::vector<float> gradient(static_cast<std::size_t>(model::count_parameters(tensors)));
      for (std::size_t i = 0; i < gradient.size(); ++i) gradient[i] = std::sin(static_cast<float>(i + 1) * t);
      optimiser.step(t, 1e-2, gradient, 1.0f, workers);
    }
    results[threads - 1] = tensors;
  }
  EXPECT_TRUE(same_bits(results[0], results[1]));
  EXPECT_TRUE(same_bits(results[0], results[2]));
}

}  // namespace
}  // namespace moextract::train
