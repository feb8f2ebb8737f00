// Packed products against double precision and LibTorch: right, the same bits on every instruction set, row by row.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "model/linear.h"
#include "model/mlp.h"
#include "model/packed_mlp.h"
#include "tests/pipeline/model/packed_cases.h"

namespace moextract::model::test {
namespace {

at::Tensor exact_mlp(const at::Tensor& x, const at::Tensor& w1, const at::Tensor& b1, const at::Tensor& w2,
                     const at::Tensor& b2) {
  const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
  return at::linear(at::gelu(at::linear(wide(x), wide(w1), wide(b1))), wide(w2), wide(b2));
}

struct Shape {
  std::int64_t rows, in, hidden, out;
};
class PackedShapes : public testing::TestWithParam<Shape> {};

TEST_P(PackedShapes, GiveTheMlpOfDoublePrecisionAndTheSameBitsOnEverySet) {
  const EverySet restore;
  const auto [rows, in, hidden, out] = GetParam();
  const at::Tensor x = values({rows, in}, 1) * 3, w1 = values({hidden, in}, 2), b1 = values({hidden}, 3),
                   w2 = values({out, hidden}, 4), b2 = values({out}, 5);
  const PackedMlp packed(w1, b1, w2, b2);
  const at::Tensor expected = exact_mlp(x, w1, b1, w2, b2),
                   expected_h = at::gelu(at::linear(x.to(at::kDouble), w1.to(at::kDouble), b1.to(at::kDouble)));
  at::Tensor first;
  for (const PackedSet set : supported_sets()) {
    choose_packed_set(set);
    at::Tensor h;
    const at::Tensor y = packed.forward(x, &h);
    const double scale = std::max(1.0, expected.abs().max().item<double>());
    EXPECT_LT((y.to(at::kDouble) - expected).abs().max().item<double>(),
              2e-6 * scale * std::sqrt(static_cast<double>(hidden)));
    EXPECT_LT((h.to(at::kDouble) - expected_h).abs().max().item<double>(),
              2e-6 * std::max(1.0, expected_h.abs().max().item<double>()));
    if (!first.defined()) first = y;
    EXPECT_TRUE(at::equal(y, first)) << "set " << static_cast<int>(set);
    EXPECT_TRUE(at::equal(packed.forward(x, nullptr), first)) << "asking for h changes nothing";
    for (std::int64_t r = 0; r < rows; r += 7) {
      EXPECT_TRUE(at::equal(packed.forward(x.narrow(0, r, 1), nullptr), first.narrow(0, r, 1)))
          << "row " << r << " depends on its neighbours";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, PackedShapes,
                         testing::Values(Shape{1, 1, 1, 1}, Shape{5, 7, 9, 3}, Shape{12, 16, 32, 16},
                                         Shape{13, 24, 33, 17}, Shape{37, 192, 405, 192}, Shape{200, 64, 256, 64},
                                         Shape{401, 48, 3072, 48}));

TEST(Packed, TheTransposedMatrixGivesTheSameLayer) {
  const EverySet restore;
  for (const auto& [in, out] :
       {std::pair<std::int64_t, std::int64_t>{1, 1}, {2, 4}, {15, 16}, {16, 24}, {197, 64}, {33, 40}}) {
    const at::Tensor x = values({7, in}, 1) * 3, w = values({out, in}, 2), columns = w.t().contiguous();
    for (const PackedSet set : supported_sets()) {
      choose_packed_set(set);
      for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int16}) {
        const PackedLinear by_rows(w, {}, /*gelu=*/false, precision);
        PackedLinear by_columns;
        for (int again = 0; again < 2; ++again) {  // room is used again
          by_columns.pack_transposed(columns.const_data_ptr<float>(), out, out, in, precision);
          EXPECT_TRUE(at::equal(by_columns.forward(x), by_rows.forward(x)))
              << in << " x " << out << ", set " << static_cast<int>(set) << ", " << name_of(precision);
        }
      }
    }
  }
}

TEST(Packed, KeepsHiddenValuesOfChosenRows) {
  const at::Tensor x = values({401, 24}, 1);
  const PackedMlp packed(values({40, 24}, 2), values({40}, 3), values({24, 40}, 4), values({24}, 5));
  at::Tensor all, some;
  const at::Tensor y = packed.forward(x, &all);
  const std::vector<std::int64_t> rows{0, 89, 90, 91, 400};
  EXPECT_TRUE(at::equal(packed.forward(x, &some, rows), y));
  ASSERT_EQ(some.sizes(), (std::vector<std::int64_t>{5, 40}));
  for (std::size_t i = 0; i < rows.size(); ++i)
    EXPECT_TRUE(at::equal(some[static_cast<std::int64_t>(i)], all[rows[i]])) << "row " << rows[i];
}

TEST(Packed, GeluIsWithinItsBound) {
  const EverySet restore;
  const at::Tensor x = at::linspace(-12, 12, 200001, at::kFloat).reshape({-1, 1});
  const PackedLinear identity(at::ones({1, 1}), at::zeros({1}), /*gelu=*/true);
  const at::Tensor error = (identity.forward(x).to(at::kDouble) - at::gelu(x.to(at::kDouble))).abs();
  EXPECT_LT((error / x.abs().to(at::kDouble).clamp_min(1.0)).max().item<double>(), 4e-7);
}

TEST(Packed, WritesTheGivenRowsAndNoOther) {
  const std::int64_t in = 20, hidden = 40, out = 18;
  const at::Tensor x = values({50, in}, 1), w1 = values({hidden, in}, 2), b1 = values({hidden}, 3),
                   w2 = values({out, hidden}, 4), b2 = values({out}, 5);
  const PackedMlp packed(w1, b1, w2, b2);
  const at::Tensor all = packed.forward(x, nullptr);
  const std::vector<std::int64_t> rows{49, 3, 17, 0, 30};
  at::Tensor y = at::full({50, out}, 123.0f);
  packed.forward(x.const_data_ptr<float>(), rows, y.data_ptr<float>(), nullptr);
  for (std::int64_t r = 0; r < 50; ++r) {
    const bool asked = std::find(rows.begin(), rows.end(), r) != rows.end();
    EXPECT_TRUE(at::equal(y[r], asked ? all[r] : at::full({out}, 123.0f))) << r;
  }
}

TEST(Packed, KeepsWhatIsNotANumber) {
  const EverySet restore;
  at::Tensor x = values({4, 8}, 3);
  x[2][5] = NAN;
  for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int16}) {
    const PackedMlp reduced(values({33, 8}, 1), at::zeros({33}), values({8, 33}, 2), at::zeros({8}), precision);
    for (const PackedSet set : supported_sets()) {
      choose_packed_set(set);
      const at::Tensor y = reduced.forward(x, nullptr);
      EXPECT_TRUE(y[2].isnan().all().item<bool>()) << name_of(precision);
      EXPECT_FALSE(y[1].isnan().any().item<bool>());
    }
  }
}

TEST(Packed, ThreadsShareOneLayer) {
  const at::NoGradGuard no_grad;
  const DenseMlp mlp(values({64, 16}, 1), values({64}, 2), values({16, 64}, 3), values({16}, 4));
  const at::Tensor x = values({3, 30, 16}, 5);
  std::vector<at::Tensor> results(4);
  std::vector<std::thread> threads;
  for (at::Tensor& result : results) {
    threads.emplace_back([&] {
      const at::NoGradGuard own_no_grad;
      result = mlp.forward(x, nullptr);
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const at::Tensor& result : results) EXPECT_TRUE(at::equal(result, results[0]));
}

TEST(Packed, StandsInForLibTorchOnlyWithoutGradients) {
  const at::Tensor weight = values({5, 12}, 1).requires_grad_(true), bias = values({5}, 2), x = values({2, 3, 12}, 3);
  const Linear linear(weight, bias);
  const at::Tensor recorded = linear(x);
  EXPECT_TRUE(recorded.requires_grad());
  const at::NoGradGuard no_grad;
  const at::Tensor inferred = linear(x);
  EXPECT_EQ(inferred.sizes(), recorded.sizes());
  EXPECT_LT((inferred - recorded).abs().max().item<double>(), 1e-5);
  EXPECT_LT((linear(x.transpose(0, 1)) - inferred.transpose(0, 1)).abs().max().item<double>(), 0.5e-9) << "any strides";
}

}  // namespace
}  // namespace moextract::model::test
