// Reduced precisions: against double precision, PyTorch's bfloat16 and the float32 they stand in for.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>

#include "model/packed_linear.h"
#include "tests/pipeline/model/model_cases.h"
#include "tests/pipeline/model/packed_cases.h"

namespace moextract::model::test {
namespace {

at::Tensor wide_linear(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  return at::linear(x.to(at::kDouble), w.to(at::kDouble), b.to(at::kDouble));
}

double relative(const at::Tensor& got, const at::Tensor& expected) {
  return ((got.to(at::kDouble) - expected).norm() / expected.norm()).item<double>();
}

class PrecisionShapes : public testing::TestWithParam<std::pair<std::int64_t, std::int64_t>> {};

TEST_P(PrecisionShapes, Int16IsCloserThanBfloat16AndTheSameBitsOnEverySet) {
  const EverySet restore;
  const auto [in, out] = GetParam();
  const at::Tensor x = random_tensor("x", {23, in}), w = random_tensor("w", {out, in}), b = random_tensor("b", {out});
  const at::Tensor expected = wide_linear(x, w, b);
  const PackedLinear packed(w, b, /*gelu=*/false, Precision::int16);
  at::Tensor first;
  for (const PackedSet set : supported_sets()) {
    choose_packed_set(set);
    const at::Tensor y = packed.forward(x);
    if (!first.defined()) first = y;
    EXPECT_TRUE(at::equal(y, first)) << "set " << static_cast<int>(set);
    EXPECT_TRUE(at::equal(PackedLinear(w, b, false, Precision::int16).forward(x), first)) << "packed by this set";
    for (std::int64_t r = 0; r < 23; r += 5) EXPECT_TRUE(at::equal(packed.forward(x.narrow(0, r, 1))[0], first[r]));
  }
  // Rounding to a step of a row's norm / 46340: the sum's error is about sqrt(in / 6) / 46340 of the product of norms.
  EXPECT_LT(relative(first, expected), 1.5 * std::sqrt(static_cast<double>(in) / 6) / 46340 + 1e-5);
  if (in >= 64) {
    const PackedLinear brain(w, b, false, Precision::bfloat16);
    EXPECT_LT(3 * relative(first, expected), relative(brain.forward(x), expected));
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PrecisionShapes,
                         testing::Values(std::pair{1, 1}, std::pair{7, 5}, std::pair{24, 33}, std::pair{192, 64},
                                         std::pair{385, 40}, std::pair{768, 48}, std::pair{3072, 17}));

TEST(Precision, Int16SumsStayWithin32Bits) {
  // Rows of equal values, of one value, of the two extremes: the largest sums that the steps allow.
  for (const std::int64_t in : {1, 2, 64, 3072, 16384}) {
    at::Tensor x = at::zeros({4, in});
    x[0].fill_(3.7f);
    x[1].fill_(-1e-3f);
    x[2][0] = 1e12f;
    x[3].fill_(1e-12f);
    const PackedLinear packed(x, {}, /*gelu=*/false, Precision::int16);
    const at::Tensor y = packed.forward(x), expected = at::mm(x.to(at::kDouble), x.to(at::kDouble).t());
    for (std::int64_t r = 0; r < 4; ++r) {
      for (std::int64_t o = 0; o < 4; ++o) {
        const double scale = std::sqrt(expected[r][r].item<double>() * expected[o][o].item<double>());
        // Equal values are all rounded the same way: half a step of each of both rows adds up.
        const double bound = (1.1 * std::sqrt(static_cast<double>(in)) / 46340 + 2e-4) * scale;
        EXPECT_NEAR(y[r][o].item<double>(), expected[r][o].item<double>(), bound) << in << ' ' << r << ' ' << o;
      }
    }
  }
}

TEST(Precision, Int16KeepsZerosAndRefusesWhatItCannotSquare) {
  at::Tensor x = at::zeros({3, 20});
  x[1][3] = 1e30f;
  x[2][3] = INFINITY;
  const PackedLinear packed(random_tensor("w", {9, 20}), random_tensor("b", {9}), false, Precision::int16);
  const at::Tensor y = packed.forward(x);
  EXPECT_TRUE(at::equal(y[0], random_tensor("b", {9})));
  EXPECT_TRUE(y[1].isnan().all().item<bool>()) << "no finite number that is wrong";
  EXPECT_TRUE(y[2].isnan().all().item<bool>());
}

TEST(Precision, Bfloat16IsPyTorchsWithFloat32Sums) {
  const EverySet restore;
  const at::Tensor x = random_tensor("x", {31, 200}), w = random_tensor("w", {50, 200}), b = random_tensor("b", {50});
  const auto brain = [](const at::Tensor& t) { return t.to(at::kBFloat16); };
  const PackedLinear packed(w, b, false, Precision::bfloat16);
  for (const PackedSet set : supported_sets()) {
    choose_packed_set(set);
    const at::Tensor y = packed.forward(x);
    // The same roundings of the inputs: only float32 sums are left.
    EXPECT_LT(relative(y, wide_linear(brain(x), brain(w), b)), 1e-6);
    // PyTorch rounds its result and the bias too.
    const at::Tensor theirs = at::linear(brain(x), brain(w), brain(b)).to(at::kFloat);
    EXPECT_LT(((y - theirs).abs() - 0.01 * y.abs()).max().item<double>(), 0.01);
    EXPECT_GT(relative(y, wide_linear(x, w, b)), 1e-4) << "or nothing was rounded";
  }
  at::Tensor odd = at::zeros({6});
  const float cases[] = {1.00390625f, 1.01171875f, -0.0f, 3.4e38f, 1e-40f, NAN};  // ties, overflow, denormal
  std::copy(std::begin(cases), std::end(cases), odd.data_ptr<float>());
  at::Tensor rounded = at::empty({6});
  kernels().round_bfloat16(odd.const_data_ptr<float>(), 6, rounded.data_ptr<float>());
  EXPECT_TRUE(at::equal(rounded.nan_to_num(7), brain(odd).to(at::kFloat).nan_to_num(7)));
}

TEST(Precision, AWholeNetworkKeepsItsAnswers) {
  const at::NoGradGuard no_grad;
  VitParams params = tiny_params();
  params.image_size = 32;
  params.width = 48;
  params.heads = 3;
  params.hidden = 96;
  params.depth = 4;
  params.classes = 10;
  const TensorMap tensors = initial_vit_tensors(params, 3);
  const at::Tensor images = random_tensor("images", {6, params.channels, 32, 32}, 1.0);
  const auto logits = [&](Precision precision) {
    return Vit(params, tensors, make_dense_mlp, precision).logits(images).to(at::kDouble);
  };
  const at::Tensor expected = logits(Precision::float32);
  EXPECT_LT(relative(logits(Precision::int16), expected), 1e-3);
  EXPECT_LT(relative(logits(Precision::bfloat16), expected), 2e-2);
  EXPECT_GT(relative(logits(Precision::int16), expected), 1e-7) << "or nothing was reduced";
  EXPECT_LT(3 * relative(logits(Precision::int16), expected), relative(logits(Precision::bfloat16), expected));
}

}  // namespace
}  // namespace moextract::model::test
