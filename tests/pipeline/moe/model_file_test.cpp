// Model files with experts: they come back, and damage is named before it can read outside of a tensor.
#include "moe/model_file.h"

#include "moe/assembler.h"
#include "moe/expert_mlp.h"
#include "tests/pipeline/model/model_cases.h"

namespace moextract::moe::test {
namespace {

using model::TensorMap;
using model::test::expect_error;
using model::test::random_tensor;
using model::test::same_bits;

const std::string kExperts = "blocks.1.mlp.";

class ModelFile : public testing::TestWithParam<Storage> {
 protected:
  void SetUp() override {
    description_ = model::test::tiny_description();
    tensors_ = model::test::random_vit_tensors(description_.vit);
    ClusterMoments m;
    m.k = 2;
    m.hidden = description_.vit.hidden;
    m.width = description_.vit.width;
    m.count = {3, 4};
    m.h_mean.assign(24, 0.25);
    m.h_variance.assign(24, 1.0);
    RandomStream random(1, 1);
    for (int i = 0; i < 16; ++i) m.x_mean.push_back(random.normal());
    const std::vector<std::vector<std::int64_t>> sets{{0, 2, 5}, {2, 5, 7, 11}};
    assemble_experts(1, m, sets, GetParam(), Compensation::mean_shift, tensors_);
    ClusterMoments one = m;
    one.k = 1;
    prune_layer(0, one, sets[1], Compensation::none, tensors_);
  }
  void expect_damage(const std::vector<std::string>& parts) {
    save_model(folder_ / "model", description_, tensors_);
    std::vector<std::string> all = parts;
    all.push_back((folder_ / "model").string());
    expect_error(ExitCode::model, all, [&] { load_model(folder_ / "model", std::nullopt); });
  }
  void set_integer(const std::string& name, std::int64_t at, int value) {
    tensors_[kExperts + name] = tensors_[kExperts + name].clone();
    tensors_[kExperts + name].data_ptr<int>()[at] = value;
  }
  model::test::TemporaryFolder folder_;
  model::ModelDescription description_;
  TensorMap tensors_;
};
INSTANTIATE_TEST_SUITE_P(Storages, ModelFile, testing::Values(Storage::shared, Storage::separate),
                         [](const auto& info) { return info.param == Storage::shared ? "shared" : "separate"; });

TEST_P(ModelFile, ExpertsAndPrunedLayersComeBack) {
  save_model(folder_ / "model", description_, tensors_);
  const LoadedModel loaded = load_model(folder_ / "model", std::nullopt);
  EXPECT_TRUE(same_bits(loaded.tensors, tensors_));
  const auto network = make_network(loaded.description, loaded.tensors);
  EXPECT_EQ(network->mlp(0).experts(), 0);
  EXPECT_EQ(network->mlp(1).experts(), 2);
  EXPECT_EQ(network->mlp(0).active_neurons({}), 4);
  const at::Tensor images = random_tensor("images", {2, 1, 8, 8});
  EXPECT_TRUE(same_bits(network->logits(images), make_network(description_, tensors_)->logits(images)));
  // Multiply-accumulates of an image: other parts, the pruned layer, and the experts at their shares.
  const double tokens = 5;
  const double experts = 2 * 8 * (0.25 * 3 + 0.75 * 4) + 2 * 8;
  EXPECT_DOUBLE_EQ(model::macs_per_image(*network, {{}, {0.25, 0.75}}),
                   network->other_macs() + tokens * (2 * 8 * 4) + tokens * experts);
  EXPECT_EQ(summarise_layer(1, loaded.tensors).union_size, 5);
}

TEST_P(ModelFile, CorruptOffsetsAreNamed) {
  const std::string name = kExperts + "experts.offsets";
  const at::Tensor good = tensors_.at(name);
  for (const auto& [at, value] : {std::pair{0, 1}, std::pair{1, 0}, std::pair{1, 7}, std::pair{1, 100},
                                  std::pair{1, -3}, std::pair{2, 6}, std::pair{2, 8}}) {
    SCOPED_TRACE(fmt::format("offsets[{}] = {}", at, value));
    tensors_[name] = good;
    set_integer("experts.offsets", at, value);
    expect_damage({"'" + name + "'"});
  }
  tensors_[name] = at::arange(4, at::kInt);
  expect_damage({"'" + name + "'", "[4]", "[3]"});
}

TEST_P(ModelFile, RowsOutOfRangeAreNamed) {
  if (GetParam() == Storage::shared) {
    for (const int value : {-1, 5, 1 << 30}) {
      set_integer("experts.rows", 3, value);
      expect_damage({"'" + kExperts + "experts.rows'", "0..4"});
    }
  } else {
    tensors_[kExperts + "experts.neurons"] = at::zeros({9}, at::kInt);
    set_integer("experts.offsets", 2, 9);
    expect_damage({"'" + kExperts + "fc1.weight'"});
  }
}

TEST_P(ModelFile, NegativeNeuronsAreNamed) {
  set_integer("experts.neurons", 0, -1);
  expect_damage({"'" + kExperts + "experts.neurons'"});
}

TEST_P(ModelFile, WrongTypesAreNamed) {
  const TensorMap good = tensors_;
  for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "router.weight"}) {
    tensors_ = good;
    tensors_[kExperts + name] = good.at(kExperts + name).to(at::kInt);
    expect_damage({"'" + kExperts + name + "'", "integers"});
  }
  for (const char* name : {"experts.offsets", "experts.neurons", "experts.rows"}) {
    tensors_ = good;
    if (!good.contains(kExperts + name)) continue;
    tensors_[kExperts + name] = good.at(kExperts + name).to(at::kFloat);
    expect_damage({"'" + kExperts + name + "'", "integers"});
  }
  tensors_ = good;
  tensors_["pos_embed"] = tensors_["pos_embed"].to(at::kLong);
  expect_damage({"'pos_embed'", "integers"});
}

TEST_P(ModelFile, WrongShapesAndMissingTensorsAreNamed) {
  const TensorMap good = tensors_;
  for (const char* name :
       {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias", "router.weight", "experts.neurons", "experts.offsets"}) {
    SCOPED_TRACE(name);
    tensors_ = good;
    if (std::string(name) != "router.weight") {  // without it the layer is a pruned one
      tensors_.erase(kExperts + name);
      expect_damage({"'" + kExperts + name + "'", "missing"});
    }
    tensors_[kExperts + name] = at::zeros({3, 5, 2});
    expect_damage({"'" + kExperts + name + "'", "[3, 5, 2]"});
  }
  tensors_ = good;
  tensors_["blocks.0.mlp.fc2.weight"] = at::zeros({8, 3});
  expect_damage({"'blocks.0.mlp.fc2.weight'", "[8, 3]", "[8, 4]"});
}

}  // namespace
}  // namespace moextract::moe::test
