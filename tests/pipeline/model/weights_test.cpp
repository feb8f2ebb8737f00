// Weight files: types, round trips, values that are no numbers.
#include "model/weights.h"

#include <cmath>

#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

TEST(Weights, RoundTrip) {
  const TemporaryFolder folder;
  const TensorMap tensors{{"matrix", random_tensor("matrix", {3, 5})},
                          {"scalar", at::full({}, 2.5f)},
                          {"empty", at::zeros({0, 4})},
                          {"index", at::arange(7, at::kInt)},
                          {"long", at::arange(3, at::kLong)}};
  save_weights(folder / "a", tensors, {{"key", "value \" and é"}});
  const WeightsFile read = load_weights(folder / "a");
  EXPECT_TRUE(same_bits(read.tensors, tensors));
  EXPECT_EQ(read.metadata.at("key"), "value \" and é");
  save_weights(folder / "b", read.tensors, read.metadata);
  EXPECT_EQ(data::test::read(folder / "a"), data::test::read(folder / "b"));
}

TEST(Weights, ATransposedViewIsSavedAsItReads) {
  const TemporaryFolder folder;
  const at::Tensor matrix = random_tensor("matrix", {3, 5});
  save_weights(folder / "a", {{"t", matrix.t()}, {"part", matrix.narrow(1, 1, 2)}}, {});
  const TensorMap read = load_weights(folder / "a").tensors;
  EXPECT_TRUE(same_bits(read.at("t"), matrix.t().contiguous()));
  EXPECT_TRUE(same_bits(read.at("part"), matrix.narrow(1, 1, 2).contiguous()));
}

TEST(Weights, LengthsBesideAZeroThatNoTensorHas) {
  const TemporaryFolder folder;
  const auto write = [&](const std::string& shape) {
    std::string text = R"({"w":{"dtype":"F32","shape":[)" + shape + R"(],"data_offsets":[0,0]}})";
    text.resize((text.size() + 7) / 8 * 8, ' ');
    const auto length = static_cast<std::uint64_t>(text.size());
    return folder.write("a", std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + text);
  };
  EXPECT_EQ(load_weights(write("0,1000,1000")).tensors.at("w").sizes(), at::IntArrayRef({0, 1000, 1000}));
  expect_error(ExitCode::input, {"'w'", "lengths that no tensor has"},
               [&] { load_weights(write("0,1099511627776,1099511627776")); });
}

TEST(Weights, OnlyFloatsAreParameters) {
  EXPECT_EQ(count_parameters({{"a", at::zeros({3, 5})}, {"b", at::zeros({4}, at::kInt)}, {"c", at::zeros({})}}), 16);
}

TEST(Weights, NanAndInfinityNameTheTensor) {
  const TemporaryFolder folder;
  for (const float bad : {std::nanf(""), INFINITY, -INFINITY}) {
    at::Tensor tensor = random_tensor("x", {4, 4});
    tensor.data_ptr<float>()[7] = bad;
    save_weights(folder / "bad", {{"good", at::zeros({2})}, {"blocks.3.norm1.weight", tensor}}, {});
    expect_error(ExitCode::numerics, {(folder / "bad").string(), "'blocks.3.norm1.weight'", "element 7"},
                 [&] { load_weights(folder / "bad"); });
  }
}

TEST(Weights, FilesThatAreNone) {
  const TemporaryFolder folder;
  expect_error(ExitCode::input, {"missing"}, [&] { load_weights(folder / "missing"); });
  const fs::path text = folder.write("text", "these are no weights at all, but a text");
  expect_error(ExitCode::input, {text.string()}, [&] { load_weights(text); });
}

}  // namespace
}  // namespace moextract::model::test
