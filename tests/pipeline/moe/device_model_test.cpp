// Experts, routers and streamed moments on a device, with LibTorch's CPU in the place of a GPU: against plain loops and
// the path of the CPU.
#include "moe/device_model.h"

#include <ATen/core/grad_mode.h>

#include <limits>

#include "comm/backends.h"
#include "model/device_tensors.h"
#include "moe/control_routing.h"
#include "moe/mixture_mlp.h"
#include "moe/router.h"
#include "moe/second_moments.h"
#include "moe/token_groups.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

constexpr Device kThere{DeviceKind::libtorch_cpu, 0};

at::Tensor experts_of(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

TEST(OnADevice, TokensAreGroupedInTheirOrder) {
  for (const std::vector<std::int64_t>& to :
       {std::vector<std::int64_t>{2, -1, 0, 2, 0, 3, -1, 2}, std::vector<std::int64_t>{1, 1, 1},
        std::vector<std::int64_t>{-1, -1}, std::vector<std::int64_t>{}}) {
    for (const Device& device : {Device{}, kThere}) {
      const model::DeviceScope scope(device);
      const TokenGroups groups = group_tokens(experts_of(to), 5);
      ASSERT_EQ(groups.start.size(), 6u);
      for (std::size_t e = 0; e < 5; ++e) {
        std::vector<std::int64_t> expected;
        for (std::size_t i = 0; i < to.size(); ++i) {
          if (to[i] == static_cast<std::int64_t>(e)) expected.push_back(static_cast<std::int64_t>(i));
        }
        ASSERT_EQ(groups.count(e), static_cast<std::int64_t>(expected.size())) << device.text();
        EXPECT_TRUE(at::equal(groups.of(e), experts_of(expected))) << device.text() << ", expert " << e;
      }
    }
  }
}

TEST(OnADevice, TheLowestOfEqualScoresIsChosen) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const at::Tensor scores = at::tensor({1.0f, 3.0f, 3.0f, -1.0f, -1.0f, -1.0f, 0.0f, 2.0f, 1.0f}).view({3, 3});
  const model::DeviceScope scope(kThere);
  EXPECT_TRUE(at::equal(first_largest(scores), experts_of({1, 0, 1})));
  const at::Tensor lost = first_largest(at::tensor({nan, 1.0f, nan, nan}).view({2, 2}));
  EXPECT_TRUE(lost.ge(0).all().item<bool>() && lost.lt(2).all().item<bool>()) << "no index out of range";
}

TEST(OnADevice, RoutersChooseAsOnTheCpu) {
  const at::NoGradGuard no_grad;
  at::Tensor x = random_tensor("x", {200, kWidth});
  RouterWeights router;
  router.keys = random_tensor("keys", {5, kWidth});
  router.keys.select(0, 4).copy_(router.keys.select(0, 1));  // equal scores
  router.bias = random_tensor("bias", {5});
  router.bias[4] = router.bias[1];
  router.temperature = 0.7;
  for (const std::int64_t top : {1, 2, 3, 7}) {
    for (const double tau : {1.0, 0.6, 0.0}) {
      router.top_k = top;
      router.tau = tau;
      const Choice plain = choose_experts(router, x);
      const model::DeviceScope scope(kThere);
      const Choice there = choose_experts(router, x);
      EXPECT_TRUE(at::equal(there.expert, plain.expert)) << top << ", " << tau;
      EXPECT_LT(largest_difference(there.gate, plain.gate), 1e-6);
    }
  }
  router.random_seed = 3;
  const Choice plain = choose_experts(router, x);
  const model::DeviceScope scope(kThere);
  EXPECT_TRUE(at::equal(choose_experts(router, x).expert, plain.expert)) << "by a hash of x";
}

/// With an expert of its own for the first token of each image.
TensorMap prefix_tensors() {
  TensorMap tensors = expert_tensors(kSets, Storage::separate, Compensation::mean_shift);
  tensors[kPrefix + "router.weight"] = tensors.at(kPrefix + "router.weight").narrow(0, 0, 2).contiguous();
  tensors[kPrefix + "experts.prefix"] = at::tensor({2, 1}, at::kInt);
  return tensors;
}

TensorMap mixed_tensors() {
  TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  tensors[kPrefix + "router.top"] = at::tensor({2, 600000}, at::kInt);
  tensors[kPrefix + "router.temperature"] = at::full({1}, 0.5, at::kFloat);
  return tensors;
}

TEST(OnADevice, ExpertsAnswerAsOnTheCpu) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = random_tensor("x", {9, 70, kWidth});
  for (const TensorMap& tensors :
       {expert_tensors(kSets, Storage::shared, Compensation::mean_shift), prefix_tensors(), mixed_tensors()}) {
    const auto run = [&](const Device& device, model::Precision precision) {
      const model::DeviceScope scope(device);
      model::MlpTrace trace;
      const at::Tensor y = make_mlp(0, to_device(tensors, device), precision)->forward(x, &trace);
      return std::pair{y, trace.expert};
    };
    const auto [plain, expert] = run(Device{}, model::Precision::float32);
    const auto [there, went] = run(kThere, model::Precision::float32);
    EXPECT_TRUE(at::equal(went, expert));
    EXPECT_LT(largest_difference(there, plain), 1e-5);
    const auto [rounded, also] = run(kThere, model::Precision::bfloat16);
    EXPECT_TRUE(at::equal(also, expert)) << "routers are float32";
    EXPECT_LT(largest_difference(rounded, plain), 5e-2);
    const auto one = make_mlp(0, to_device(tensors, kThere));
    const model::DeviceScope scope(kThere);
    EXPECT_LT(largest_difference(one->forward(x.narrow(0, 4, 1), nullptr), plain.narrow(0, 4, 1)), 1e-5);
  }
}

TEST(OnADevice, ControlsRouteAsOnTheCpu) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = random_tensor("x", {3, 40, kWidth});
  const TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift), dense = dense_tensors();
  const at::Tensor centroids = random_tensor("centroids", {3, kHidden});
  const auto run = [&](const Device& device, const Chooser& chooser) {
    const model::DeviceScope scope(device);
    model::MlpTrace trace;
    MixtureMlp(0, tensors, chooser).forward(x, &trace);
    return trace.expert;
  };
  for (const Chooser& chooser :
       {random_routing(1, 0, 3), oracle_routing(0, dense, {.rows = centroids}, "h"),
        oracle_routing(0, dense, {.rows = random_tensor("c", {3, kWidth})}, "y"), best_routing(0, dense, tensors, 3)}) {
    EXPECT_TRUE(at::equal(run(kThere, chooser), run(Device{}, chooser)));
  }
}

TEST(OnADevice, GradientsOfExpertsAreThoseOfTheCpu) {
  const at::Tensor x = random_tensor("x", {4, 30, kWidth});
  for (const TensorMap& tensors : {expert_tensors(kSets, Storage::shared, Compensation::mean_shift), mixed_tensors()}) {
    const auto gradients = [&](const Device& device) {
      const model::DeviceScope scope(device);
      TensorMap leaves;
      for (const auto& [name, tensor] : tensors) {
        const bool trained = tensor.is_floating_point() && name.find(".router.") == name.npos;
        leaves.emplace(name, trained ? tensor.detach().clone().requires_grad_(true) : tensor);
      }
      make_mlp(0, leaves)->forward(x, nullptr).square().sum().backward();
      TensorMap found;
      for (const auto& [name, leaf] : leaves) {
        if (leaf.requires_grad()) found.emplace(name, leaf.grad());
      }
      return found;
    };
    const TensorMap plain = gradients(Device{}), there = gradients(kThere);
    for (const auto& [name, gradient] : plain) {
      EXPECT_LT(largest_difference(gradient, there.at(name)), 1e-4 * (1 + gradient.abs().max().item<double>())) << name;
    }
  }
}

TEST(OnADevice, MomentsAreThoseOfALoopInDouble) {
  constexpr std::int64_t kTokens = 60, kWide = 7;
  const at::Tensor h = random_tensor("h", {kTokens, kWide}) + 0.3, weight = random_tensor("w", {kTokens}).abs() + 0.1;
  at::Tensor expert = at::empty({kTokens}, at::kLong);
  for (std::int64_t i = 0; i < kTokens; ++i) expert[i] = i % 4 - 1;  // -1: left out; none to the last
  for (const Extent extent : {Extent::full, Extent::diagonal}) {
    const auto sums_on = [&](int ranks, const Device& device) {
      std::vector<SecondMoments> moments;
      comm::run_threads(ranks, [&](comm::Communicator& comm) {
        const model::DeviceScope scope(device);
        SecondMomentSums sums(4, kWide, extent);
        for (std::int64_t part = comm.rank(); part < 6; part += comm.size()) {
          sums.add(h.narrow(0, part * 10, 10), expert.narrow(0, part * 10, 10), weight.narrow(0, part * 10, 10));
        }
        sums.all_reduce(comm);
        if (!comm.is_root()) return;
        for (std::int64_t e = 0; e < 4; ++e) moments.push_back(sums.moments(e));
      });
      return moments;
    };
    const std::vector<SecondMoments> there = sums_on(1, kThere), split = sums_on(3, kThere), plain = sums_on(2, {});
    for (std::int64_t e = 0; e < 4; ++e) {
      const SecondMoments& m = there[static_cast<std::size_t>(e)];
      const at::Tensor index = (expert == e).nonzero().squeeze(1), rows = h.index_select(0, index).to(at::kDouble),
                       w = weight.index_select(0, index).to(at::kDouble);
      ASSERT_EQ(m.count, index.numel());
      EXPECT_EQ(m.count, plain[static_cast<std::size_t>(e)].count);
      EXPECT_TRUE(same_bits(m.mean, split[static_cast<std::size_t>(e)].mean)) << "on any number of ranks";
      EXPECT_TRUE(same_bits(m.variance, split[static_cast<std::size_t>(e)].variance));
      if (index.numel() == 0) continue;
      const double total = w.sum().item<double>();
      const at::Tensor mean = (rows * w.unsqueeze(1)).sum(0) / total,
                       covariance = at::mm(((rows - mean) * w.unsqueeze(1)).t(), rows - mean) / total;
      // 6 roundings to 2^-24, and means of products near one.
      EXPECT_NEAR(m.weight, total, 1e-6);
      EXPECT_LT(largest_difference(m.mean, mean), 1e-6);
      EXPECT_LT(largest_difference(m.variance, covariance.diagonal()), 1e-6);
      if (extent == Extent::full) {
        EXPECT_LT(largest_difference(m.covariance, covariance), 1e-6);
      }
    }
  }
  const model::DeviceScope scope(kThere);
  SecondMomentSums sums(1, 2);
  expect_error(ExitCode::numerics, {"second moment"}, [&] {
    sums.add(at::full({1, 2}, 1e6), at::zeros({1}, at::kLong), at::ones({1}));
  });
  SecondMomentSums others(1, 2);
  expect_error(ExitCode::numerics, {"not finite"}, [&] {
    others.add(at::full({1, 2}, std::numeric_limits<float>::quiet_NaN()), at::zeros({1}, at::kLong), at::ones({1}));
  });
}

}  // namespace
}  // namespace moextract::moe::test
