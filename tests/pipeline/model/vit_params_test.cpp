// Names, sizes, parameters and multiply-accumulates of the models; which tensors they have; fresh weights.
#include <set>

#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

std::int64_t parameters(const VitParams& params) {
  std::int64_t count = 0;
  for (const auto& [name, shape] : vit_tensor_shapes(params)) {
    std::int64_t product = 1;
    for (const std::int64_t length : shape) product *= length;
    count += product;
  }
  return count;
}

/// A network of these parameters whose tensors take no memory: one element each, expanded.
double dense_macs(const VitParams& params) {
  TensorMap tensors;
  for (const auto& [name, shape] : vit_tensor_shapes(params)) tensors.emplace(name, at::zeros({1}).expand(shape));
  return macs_per_image(Vit(params, tensors), {});
}

TEST(NamedVits, ParameterCountsAreTimms) {
  // As timm prints them.
  EXPECT_EQ(parameters(find_named_vit("vit_tiny_patch16_224")->vit), 5717416);
  EXPECT_EQ(parameters(find_named_vit("deit_small_patch16_224")->vit), 22050664);
  EXPECT_EQ(parameters(find_named_vit("vit_base_patch16_224")->vit), 86567656);
  EXPECT_EQ(parameters(find_named_vit("vit_base_patch32_224")->vit), 88224232);
  EXPECT_EQ(parameters(find_named_vit("vit_large_patch16_224")->vit), 304326632);
  EXPECT_EQ(parameters(find_named_vit("deit_tiny_distilled_patch16_224")->vit), 5910800);
}

TEST(NamedVits, MacsOfDeitBase) {
  // Products of DeiT-B at 224, term by term: patches, per block (qkv, scores, mix, projection, MLP), head.
  const double t = 197, d = 768, hidden = 3072;
  const double expected = 196.0 * (3 * 16 * 16) * d +
                          12.0 * (t * d * 3 * d + t * t * d + t * t * d + t * d * d + 2 * t * d * hidden) + d * 1000;
  const double found = dense_macs(find_named_vit("deit_base_patch16_224")->vit);
  EXPECT_DOUBLE_EQ(found, expected);
  // The literature's 17.58 G counts the elements of the norms too, some 0.1 %.
  EXPECT_NEAR(found / 17.58e9, 1.0, 0.002);
  EXPECT_NEAR(dense_macs(find_named_vit("deit_small_patch16_224")->vit) / 4.61e9, 1.0, 0.005);
  EXPECT_NEAR(dense_macs(find_named_vit("vit_tiny_patch16_224")->vit) / 1.26e9, 1.0, 0.006);
  // Another token in every block, and a second head.
  VitParams distilled = find_named_vit("deit_tiny_distilled_patch16_224")->vit;
  EXPECT_EQ(distilled.tokens(), 198);
  const double per_block = 198.0 * 12 * 192 * 192 + 2.0 * 198 * 198 * 192;
  EXPECT_DOUBLE_EQ(dense_macs(distilled), 196.0 * 768 * 192 + 12 * per_block + 2 * 192.0 * 1000);
}

TEST(NamedVits, ListAndLookUpAgree) {
  const std::vector<std::string> names = named_vits();
  EXPECT_EQ(names.size(), 36u);
  EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
  for (const std::string& name : names) {
    const auto found = find_named_vit(name);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(found->name, name);
    EXPECT_NO_THROW(validate(found->vit));
    EXPECT_EQ(found->preprocess.crop, found->vit.image_size) << name;
    EXPECT_EQ(found->vit.hidden, 4 * found->vit.width) << name;
    EXPECT_EQ(found->vit.distilled, name.find("distilled") != name.npos) << name;
  }
  EXPECT_EQ(find_named_vit("vit_tiny_patch16_224.augreg_in21k_ft_in1k")->name, "vit_tiny_patch16_224");
  for (const char* unknown : {"", ".", "vit", "vit_tiny_patch16", "vit_tiny_patch16_224 ", "VIT_tiny_patch16_224",
                              "vit_tiny_patch14_224", "deit_large_patch16_224", "resnet50"}) {
    EXPECT_FALSE(find_named_vit(unknown)) << unknown;
  }
}

TEST(NamedVits, PreprocessingIsOfTheirUsualWeights) {
  const data::PreprocessParams vit = find_named_vit("vit_tiny_patch16_224")->preprocess;
  EXPECT_EQ(vit.resize, 248);
  EXPECT_EQ(vit.interpolation, data::Interpolation::bicubic);
  EXPECT_EQ(vit.mean, (std::array<double, 3>{0.5, 0.5, 0.5}));
  const data::PreprocessParams deit = find_named_vit("deit_base_distilled_patch16_384")->preprocess;
  EXPECT_EQ(deit.resize, 384);
  EXPECT_EQ(deit.mean, (std::array<double, 3>{0.485, 0.456, 0.406}));
  EXPECT_EQ(deit.std, (std::array<double, 3>{0.229, 0.224, 0.225}));
}

TEST(VitParams, NumbersThatDoNotFitNameTheKey) {
  const auto expect = [](const std::string& key, const std::function<void(VitParams&)>& change) {
    VitParams params = tiny_params();
    EXPECT_NO_THROW(validate(params));
    change(params);
    expect_error(ExitCode::config, {key}, [&] { validate(params); });
  };
  expect("model.width", [](VitParams& p) { p.width = 0; });
  expect("model.depth", [](VitParams& p) { p.depth = -1; });
  expect("model.hidden", [](VitParams& p) { p.hidden = 0; });
  expect("model.classes", [](VitParams& p) { p.classes = 0; });
  expect("model.channels", [](VitParams& p) { p.channels = 0; });
  expect("model.patch_size", [](VitParams& p) { p.patch_size = 3; });
  expect("model.patch_size", [](VitParams& p) { p.patch_size = 0; });
  expect("model.heads", [](VitParams& p) { p.heads = 3; });
  expect("model.distilled", [](VitParams& p) { p.class_token = false, p.distilled = true; });
}

class TensorCheck : public testing::Test {
 protected:
  void expect(const std::vector<std::string>& parts, bool with_mlps = true) {
    std::vector<std::string> all = parts;
    all.push_back("some/file");
    expect_error(ExitCode::model, all, [&] { check_vit_tensors("some/file", params_, tensors_, with_mlps); });
  }
  VitParams params_ = tiny_params();
  TensorMap tensors_ = random_vit_tensors(params_);
};

TEST_F(TensorCheck, TheModelItselfPasses) {
  EXPECT_NO_THROW(check_vit_tensors("some/file", params_, tensors_, true));
  tensors_["pos_embed"] = at::zeros({1, 4, 8});  // positions of the patches alone
  EXPECT_NO_THROW(check_vit_tensors("some/file", params_, tensors_, true));
}

TEST_F(TensorCheck, AMissingTensorIsNamed) {
  tensors_.erase("blocks.1.attn.proj.bias");
  expect({"'blocks.1.attn.proj.bias'", "[8]", "missing"});
}

TEST_F(TensorCheck, AnUnknownTensorIsNamed) {
  tensors_["blocks.2.norm1.weight"] = at::zeros({8});
  expect({"'blocks.2.norm1.weight'", "[8]"});
}

TEST_F(TensorCheck, AnotherShapeIsNamedWithBoth) {
  tensors_["head.weight"] = at::zeros({10, 8});
  expect({"'head.weight'", "[10, 8]", "[3, 8]"});
  tensors_["head.weight"] = at::zeros({3, 8});
  tensors_["pos_embed"] = at::zeros({1, 197, 8});
  expect({"'pos_embed'", "[1, 197, 8]", "[1, 5, 8]"});
}

TEST_F(TensorCheck, IntegersAreNoWeights) {
  tensors_["head.bias"] = at::zeros({3}, at::kLong);
  expect({"'head.bias'", "integers"});
}

TEST_F(TensorCheck, MlpsAreLeftAloneOnRequest) {
  tensors_["blocks.0.mlp.fc1.weight"] = at::zeros({2, 8});
  tensors_["blocks.0.mlp.router.weight"] = at::zeros({2, 8});
  expect({"'blocks.0.mlp.fc1.weight'", "[2, 8]", "[12, 8]"});
  EXPECT_NO_THROW(check_vit_tensors("some/file", params_, tensors_, false));
}

TEST(InitialTensors, DependOnTheSeedAloneAndHaveTheirScales) {
  VitParams params = tiny_params();
  params.width = 64;
  params.hidden = 256;
  TensorMap tensors = initial_vit_tensors(params, 5);
  EXPECT_NO_THROW(check_vit_tensors("fresh", params, tensors, true));
  EXPECT_TRUE(same_bits(tensors, initial_vit_tensors(params, 5)));
  EXPECT_FALSE(same_bits(tensors.at("head.weight"), initial_vit_tensors(params, 6).at("head.weight")));
  EXPECT_FALSE(same_bits(tensors.at("blocks.0.mlp.fc1.weight"), tensors.at("blocks.1.mlp.fc1.weight")));
  const at::Tensor& matrix = tensors.at("blocks.0.mlp.fc1.weight");
  // A normal of 1 / sqrt(fan in) = 1 / 8, cut at two deviations.
  EXPECT_LE(matrix.abs().max().item<double>(), 0.25 + 1e-9);
  EXPECT_NEAR(matrix.std().item<double>(), 0.125 * 0.88, 0.003);
  EXPECT_LE(tensors.at("pos_embed").abs().max().item<double>(), 0.04 + 1e-9);
  EXPECT_EQ(tensors.at("norm.weight").min().item<double>(), 1.0);
  EXPECT_EQ(tensors.at("blocks.0.norm2.bias").abs().max().item<double>(), 0.0);
  EXPECT_EQ(tensors.at("head.bias").abs().max().item<double>(), 0.0);
}

}  // namespace
}  // namespace moextract::model::test
