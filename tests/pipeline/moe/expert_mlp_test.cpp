// Routed experts: against a loop over tokens, finite differences and independent counts.
#include <algorithm>
#include <cmath>

#include "moe/router.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

/// One token through the expert with the best key, from the tensors as a file holds them, in double.
std::vector<double> naive(const TensorMap& t, const at::Tensor& token, std::int64_t* expert) {
  const at::Tensor keys = t.at(kPrefix + "router.weight");
  std::int64_t best = -1;
  double best_score = 0;
  for (std::int64_t c = 0; c < keys.size(0); ++c) {
    double score = 0;
    for (std::int64_t i = 0; i < kWidth; ++i) score += keys[c][i].item<double>() * token[i].item<double>();
    if (best < 0 || score > best_score) best = c, best_score = score;
  }
  *expert = best;
  const at::Tensor bias = t.at(kPrefix + "fc2.bias");
  std::vector<double> y;
  for (std::int64_t i = 0; i < kWidth; ++i) y.push_back((bias.dim() == 2 ? bias[best] : bias)[i].item<double>());
  const at::Tensor offsets = t.at(kPrefix + "experts.offsets");
  for (std::int64_t entry = offsets[best].item<int>(); entry < offsets[best + 1].item<int>(); ++entry) {
    const std::int64_t row =
        t.contains(kPrefix + "experts.rows") ? t.at(kPrefix + "experts.rows")[entry].item<int>() : entry;
    double h = t.at(kPrefix + "fc1.bias")[row].item<double>();
    for (std::int64_t i = 0; i < kWidth; ++i) {
      h += t.at(kPrefix + "fc1.weight")[row][i].item<double>() * token[i].item<double>();
    }
    h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0)));
    for (std::int64_t i = 0; i < kWidth; ++i) {
      y[static_cast<std::size_t>(i)] += t.at(kPrefix + "fc2.weight")[i][row].item<double>() * h;
    }
  }
  return y;
}

TEST(ExpertMlp, ALowRankCorrectionIsAddedToTheSharedMatrix) {
  const at::Tensor x = random_tensor("x", {2, 11, kWidth});
  TensorMap tensors = expert_tensors(kSets, Storage::shared), own = tensors;
  const at::Tensor left = random_tensor("left", {3, kWidth, 2}), right = random_tensor("right", {2, 10});
  tensors[kPrefix + "experts.low_rank.left"] = left;
  tensors[kPrefix + "experts.low_rank.right"] = right;
  const at::Tensor rows = tensors.at(kPrefix + "experts.rows").to(at::kLong);
  at::Tensor each = own.at(kPrefix + "fc2.weight").index_select(1, rows).clone();
  for (std::int64_t entry = 0, e = 0; entry < 10; ++entry) {
    while (entry >= own.at(kPrefix + "experts.offsets")[e + 1].item<int>()) ++e;
    each.select(1, entry).add_(at::mv(left[e], right.select(1, entry)));
  }
  own.erase(kPrefix + "fc2.weight");
  own[kPrefix + "experts.fc2.weight"] = each;
  EXPECT_LT(largest_difference(ExpertMlp(0, tensors).forward(x, nullptr), ExpertMlp(0, own).forward(x, nullptr)), 1e-5);
  EXPECT_GT(largest_difference(ExpertMlp(0, tensors).forward(x, nullptr),
                               ExpertMlp(0, expert_tensors(kSets, Storage::shared)).forward(x, nullptr)),
            0.1);
}

TEST(ExpertMlp, ASingleKeyCostsNothing) {
  TensorMap tensors = expert_tensors({{1, 4, 7}, {0, 1}}, Storage::shared);
  tensors[kPrefix + "router.weight"] = tensors[kPrefix + "router.weight"].narrow(0, 0, 1).clone();
  tensors[kPrefix + "experts.prefix"] = at::ones({2}, at::kInt);
  const ExpertMlp mlp(0, tensors);
  EXPECT_DOUBLE_EQ(mlp.macs_per_token(std::vector<double>{0.75, 0.25}), 2.0 * kWidth * (0.75 * 3 + 0.25 * 2));
  model::MlpTrace trace;
  mlp.forward(random_tensor("x", {2, 3, kWidth}), &trace);
  EXPECT_TRUE(at::equal(trace.expert, at::tensor({1, 0, 0, 1, 0, 0}, at::kLong)));
}

TEST(ExpertMlp, EqualsALoopOverTokens) {
  const at::Tensor x = random_tensor("x", {2, 11, kWidth});
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    const TensorMap tensors = expert_tensors(kSets, storage, Compensation::mean_shift);
    model::MlpTrace trace;
    const at::Tensor y = ExpertMlp(0, tensors).forward(x, &trace);
    ASSERT_EQ(y.sizes(), x.sizes());
    EXPECT_TRUE(same_bits(trace.x, x));
    EXPECT_FALSE(trace.h.defined());
    ASSERT_EQ(trace.expert.sizes().vec(), (std::vector<std::int64_t>{22}));
    std::vector<int> used(3, 0);
    for (std::int64_t token = 0; token < 22; ++token) {
      std::int64_t expert = -1;
      const std::vector<double> expected = naive(tensors, x.reshape({22, kWidth})[token], &expert);
      EXPECT_EQ(trace.expert[token].item<std::int64_t>(), expert);
      ++used[static_cast<std::size_t>(expert)];
      for (std::int64_t i = 0; i < kWidth; ++i) {
        EXPECT_NEAR(y.reshape({22, kWidth})[token][i].item<double>(), expected[static_cast<std::size_t>(i)], 1e-5);
      }
    }
    EXPECT_GT(*std::min_element(used.begin(), used.end()), 0) << "each expert is to be tested";
  }
}

TEST(ExpertMlp, AnExpertWithoutTokensDoesNoHarm) {
  const TensorMap tensors = expert_tensors(kSets, Storage::shared);
  const at::Tensor key = tensors.at(kPrefix + "router.weight")[1];
  const at::Tensor x = at::stack({key, 2 * key, 3 * key}).unsqueeze(0);  // all to expert 1
  model::MlpTrace trace;
  const at::Tensor y = ExpertMlp(0, tensors).forward(x, &trace);
  for (std::int64_t i = 0; i < 3; ++i) EXPECT_EQ(trace.expert[i].item<std::int64_t>(), 1);
  std::int64_t expert = -1;
  const std::vector<double> expected = naive(tensors, x[0][2], &expert);
  for (std::int64_t i = 0; i < kWidth; ++i) {
    EXPECT_NEAR(y[0][2][i].item<double>(), expected[static_cast<std::size_t>(i)], 1e-5);
  }
}

TEST(Router, TiesFallToTheLowestIndexAndLengthDoesNotCount) {
  at::Tensor keys = at::zeros({4, 3});
  keys[0][1] = 1;
  keys[1][0] = 1;
  keys[2][0] = 1;
  keys[3][2] = 1;
  at::Tensor x = at::zeros({4, 3});
  x[0][0] = 5;     // 1 and 2 alike
  x[1][2] = 1e-3;  // 3 alone
  x[3][0] = -1;    // all but 1 and 2 alike: 0
  const at::Tensor expert = route_by_cosine(x, keys);
  EXPECT_EQ(expert[0].item<std::int64_t>(), 1);
  EXPECT_EQ(expert[1].item<std::int64_t>(), 3);
  EXPECT_EQ(expert[2].item<std::int64_t>(), 0);  // the zero token: all alike
  EXPECT_EQ(expert[3].item<std::int64_t>(), 0);
  EXPECT_TRUE(same_bits(route_by_cosine(1000 * x, keys), expert));
}

TEST(ExpertMlp, GradientsAgreeWithFiniteDifferences) {
  const at::Tensor x = random_tensor("x", {1, 12, kWidth}), direction = random_tensor("direction", {1, 12, kWidth});
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    TensorMap tensors = expert_tensors(kSets, storage, Compensation::mean_shift);
    const auto loss = [&](const TensorMap& t) { return (ExpertMlp(0, t).forward(x, nullptr) * direction).sum(); };
    TensorMap leaves = tensors;
    const std::vector<std::string> trained{"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"};
    for (const std::string& name : trained)
      leaves[kPrefix + name] = tensors[kPrefix + name].clone().requires_grad_(true);
    loss(leaves).backward();
    for (const std::string& name : trained) {
      const at::Tensor grad = leaves[kPrefix + name].grad();
      ASSERT_TRUE(grad.defined()) << name;
      const at::NoGradGuard no_grad;
      const at::Tensor original = tensors[kPrefix + name];
      for (std::int64_t i = 0; i < original.numel(); ++i) {
        constexpr double kStep = 1.0 / 128;
        double change = 0;
        for (const double sign : {1.0, -1.0}) {
          TensorMap moved = tensors;
          at::Tensor other = original.clone().contiguous();
          other.data_ptr<float>()[i] += static_cast<float>(sign * kStep);
          moved[kPrefix + name] = other;
          change += sign * loss(moved).item<double>();
        }
        const double found = grad.contiguous().const_data_ptr<float>()[i];
        EXPECT_NEAR(found, change / (2 * kStep), 2e-3 * std::max(1.0, std::abs(found))) << name << " " << i;
      }
    }
  }
}

TEST(ExpertMlp, SharedRowsCollectTheGradientsOfAllTheirExperts) {
  const at::Tensor x = random_tensor("x", {1, 40, kWidth});
  TensorMap grads[2];
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    TensorMap leaves = expert_tensors(kSets, storage);
    for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"})
      leaves[kPrefix + name].requires_grad_(true);
    ExpertMlp(0, leaves).forward(x, nullptr).sum().backward();
    for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}) {
      grads[storage == Storage::separate][name] = leaves[kPrefix + name].grad();
    }
  }
  EXPECT_LT(largest_difference(grads[0]["fc2.bias"], grads[1]["fc2.bias"]), 1e-4);
  // Entries of both experts' copies of a neuron add up to the shared row.
  const std::vector<std::int64_t> entries{0, 3, 4, 9, 2, 3, 4, 5, 6, 7}, rows{0, 2, 3, 7, 1, 2, 3, 4, 5, 6};
  at::Tensor weight = at::zeros({8, kWidth}), bias = at::zeros({8}), out = at::zeros({kWidth, 8});
  for (std::size_t e = 0; e < entries.size(); ++e) {
    const auto entry = static_cast<std::int64_t>(e);
    weight[rows[e]] += grads[1]["fc1.weight"][entry];
    bias[rows[e]] += grads[1]["fc1.bias"][entry];
    out.select(1, rows[e]) += grads[1]["fc2.weight"].select(1, entry);
  }
  EXPECT_LT(largest_difference(grads[0]["fc1.weight"], weight), 1e-4);
  EXPECT_LT(largest_difference(grads[0]["fc1.bias"], bias), 1e-4);
  EXPECT_LT(largest_difference(grads[0]["fc2.weight"], out), 1e-4);
}

TEST(ExpertMlp, CostsAreCountedFromTheTensors) {
  const std::vector<double> share{0.5, 0.2, 0.3};
  for (const Storage storage : {Storage::shared, Storage::separate}) {
    const TensorMap tensors = expert_tensors(kSets, storage);
    const ExpertMlp mlp(0, tensors);
    const at::Tensor offsets = tensors.at(kPrefix + "experts.offsets");
    double macs = static_cast<double>(tensors.at(kPrefix + "router.weight").numel()), active = 0;
    for (std::int64_t e = 0; e < 3; ++e) {
      const std::int64_t size = (offsets[e + 1] - offsets[e]).item<std::int64_t>();
      EXPECT_EQ(mlp.expert_size(e), size);
      active += share[static_cast<std::size_t>(e)] * static_cast<double>(size);
      macs += share[static_cast<std::size_t>(e)] * static_cast<double>(size * kWidth + kWidth * size);
    }
    EXPECT_DOUBLE_EQ(mlp.macs_per_token(share), macs);
    EXPECT_DOUBLE_EQ(mlp.active_neurons(share), active);
    EXPECT_DOUBLE_EQ(active, 0.5 * 4 + 0.2 * 1 + 0.3 * 5);
    EXPECT_EQ(mlp.experts(), 3);
    EXPECT_THROW(mlp.macs_per_token(std::vector<double>{1.0}), BugError);
  }
  const auto dense = make_mlp(0, dense_tensors());
  EXPECT_EQ(dense->experts(), 0);
  EXPECT_EQ(dense->macs_per_token({}), 2.0 * kHidden * kWidth);
  EXPECT_EQ(dense->active_neurons({}), kHidden);
}

}  // namespace
}  // namespace moextract::moe::test
