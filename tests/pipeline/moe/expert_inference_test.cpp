// Routed experts without gradients, on packed products: against LibTorch's, split over threads, in reduced precision.
#include <ATen/core/grad_mode.h>

#include "core/workers.h"
#include "model/splitting.h"
#include "tests/pipeline/moe/moe_cases.h"

namespace moextract::moe::test {
namespace {

at::Tensor inferred(const ExpertMlp& mlp, const at::Tensor& x) {
  const at::NoGradGuard no_grad;
  return mlp.forward(x, nullptr);
}

/// With an expert of its own for the first token of each image, as fitted layers have.
TensorMap with_prefix_expert() {
  TensorMap tensors = expert_tensors(kSets, Storage::separate, Compensation::mean_shift);
  tensors[kPrefix + "router.weight"] = tensors.at(kPrefix + "router.weight").narrow(0, 0, 2).contiguous();
  at::Tensor prefix = at::empty({2}, at::kInt);
  prefix[0] = 2;
  prefix[1] = 1;
  tensors[kPrefix + "experts.prefix"] = prefix;
  return tensors;
}

TEST(ExpertInference, IsLibTorchsAndTheSameBitsOnAnyThreadsAndInAnyBatch) {
  const at::Tensor x = random_tensor("x", {9, 70, kWidth});
  for (const TensorMap& tensors :
       {expert_tensors(kSets, Storage::shared, Compensation::mean_shift), with_prefix_expert()}) {
    const ExpertMlp mlp(0, tensors);
    const at::Tensor alone = inferred(mlp, x);
    EXPECT_LT(largest_difference(alone, mlp.forward(x, nullptr)), 1e-5);
    for (std::int64_t i = 0; i < 9; ++i) {
      EXPECT_TRUE(same_bits(inferred(mlp, x.narrow(0, i, 1)), alone.narrow(0, i, 1))) << i;
    }
    for (const int threads : {2, 3, 5}) {
      Workers workers(threads);
      const model::SplitScope scope(workers);
      EXPECT_TRUE(same_bits(inferred(mlp, x), alone)) << threads;
      EXPECT_TRUE(same_bits(inferred(mlp, x.narrow(0, 3, 1)), alone.narrow(0, 3, 1))) << threads;
    }
  }
}

TEST(ExpertInference, EmptyExpertsDoNoHarmOnThreads) {
  const TensorMap tensors = expert_tensors(kSets, Storage::shared);
  const at::Tensor key = tensors.at(kPrefix + "router.weight")[1];
  const at::Tensor x = at::stack({key, 2 * key, 3 * key}).unsqueeze(0);  // all to expert 1
  const ExpertMlp mlp(0, tensors);
  Workers workers(3);
  const model::SplitScope scope(workers);
  EXPECT_LT(largest_difference(inferred(mlp, x), mlp.forward(x, nullptr)), 1e-5);
}

TEST(ExpertInference, AReducedPrecisionRoutesAlikeAndAnswersNearly) {
  const at::Tensor x = random_tensor("x", {4, 50, kWidth});
  const TensorMap tensors = expert_tensors(kSets, Storage::shared, Compensation::mean_shift);
  const at::NoGradGuard no_grad;
  const auto run = [&](model::Precision precision) {
    model::MlpTrace trace;
    const at::Tensor y = ExpertMlp(0, tensors, precision).forward(x, &trace);
    return std::pair{y, trace.expert};
  };
  const auto [exact, expert] = run(model::Precision::float32);
  const auto [integers, by_integers] = run(model::Precision::int16);
  const auto [brain, by_brain] = run(model::Precision::bfloat16);
  EXPECT_TRUE(at::equal(expert, by_integers));
  EXPECT_TRUE(at::equal(expert, by_brain));
  EXPECT_LT(largest_difference(exact, integers), 1e-3);
  EXPECT_LT(largest_difference(exact, brain), 3e-2);
  EXPECT_GT(largest_difference(exact, integers), 0.0) << "or nothing was reduced";
}

}  // namespace
}  // namespace moextract::moe::test
