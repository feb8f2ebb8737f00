// The forward pass against an independent NumPy implementation (tests/golden/make_vit_golden.py), for every variant of
// the architecture, and its bits on one and on two threads.
#include "core/workers.h"
#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

struct Variant {
  const char* name;
  bool qkv_bias = true, class_token = true, distilled = false;
};
std::ostream& operator<<(std::ostream& out, const Variant& v) {
  return out << v.name;
}

class Golden : public testing::TestWithParam<Variant> {
 protected:
  void SetUp() override {
    path_ = fs::path(MOEXTRACT_GOLDEN_FOLDER) / (std::string("vit_") + GetParam().name + ".safetensors");
    tensors_ = load_weights(path_).tensors;
    images_ = tensors_.extract("golden.images").mapped();
    logits_ = tensors_.extract("golden.logits").mapped();
    params_ = tiny_params();
    params_.channels = 3;
    params_.classes = 5;
    params_.qkv_bias = GetParam().qkv_bias;
    params_.class_token = GetParam().class_token;
    params_.distilled = GetParam().distilled;
  }
  fs::path path_;
  TensorMap tensors_;
  at::Tensor images_, logits_;
  VitParams params_;
};
INSTANTIATE_TEST_SUITE_P(Variants, Golden,
                         testing::Values(Variant{"plain"}, Variant{"no_qkv_bias", false},
                                         Variant{"no_class_token", true, false}, Variant{"distilled", true, true, true},
                                         Variant{"positions_of_patches"}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Golden, LogitsAgree) {
  check_vit_tensors(path_, params_, tensors_, true);
  const Vit vit(params_, tensors_);
  EXPECT_LT(largest_difference(vit.logits(images_), logits_), 1e-5);
  EXPECT_GT(logits_.abs().max().item<double>(), 1.0) << "or the comparison says nothing";
  const at::NoGradGuard no_grad;  // our own kernels
  EXPECT_LT(largest_difference(vit.logits(images_), logits_), 1e-5);
}

TEST_P(Golden, EveryTensorMatters) {
  for (const auto& [name, tensor] : tensors_) {
    TensorMap changed = tensors_;
    changed[name] = tensor + 0.5 * random_tensor(name, tensor.sizes().vec());
    // A constant added to all keys of a head changes no attention weight, but qkv.bias holds queries and values too.
    EXPECT_GT(largest_difference(Vit(params_, changed).logits(images_), logits_), 1e-4) << name;
  }
}

TEST_P(Golden, TheObserverSeesWhatTheMlpsSee) {
  const Vit vit(params_, tensors_);
  std::int64_t next = 0;
  const at::Tensor observed = vit.logits(images_, [&](std::int64_t layer, const MlpTrace& trace) {
    EXPECT_EQ(layer, next++);
    EXPECT_EQ(trace.x.sizes().vec(), (std::vector<std::int64_t>{3, params_.tokens(), params_.width}));
    EXPECT_EQ(trace.h.sizes().vec(), (std::vector<std::int64_t>{3, params_.tokens(), params_.hidden}));
    EXPECT_FALSE(trace.expert.defined());
    const std::string mlp = mlp_prefix(layer);
    const at::Tensor h = at::gelu(at::linear(trace.x, tensors_.at(mlp + "fc1.weight"), tensors_.at(mlp + "fc1.bias")));
    EXPECT_LT(largest_difference(trace.h, h), 1e-6);
  });
  EXPECT_EQ(next, params_.depth);
  EXPECT_TRUE(same_bits(observed, vit.logits(images_)));
}

TEST_P(Golden, SameBitsOnOneAndTwoThreads) {
  const Vit vit(params_, tensors_);
  at::Tensor many = random_tensor("many images", {32, 3, 8, 8}, 1.0);
  std::vector<at::Tensor> answers[2];
  for (const int threads : {1, 2}) {
    std::vector<at::Tensor>& logits = answers[threads - 1];
    logits.resize(8);
    Workers workers(threads, [] { at::set_num_threads(1); });
    workers.for_each(8, [&](std::int64_t unit, int) {
      const at::NoGradGuard no_grad;
      logits[static_cast<std::size_t>(unit)] = vit.logits(many.narrow(0, unit * 4, 4));
    });
  }
  for (std::size_t i = 0; i < 8; ++i) EXPECT_TRUE(same_bits(answers[0][i], answers[1][i]));
}

TEST(Vit, ANormWithoutItsTimmNameIsFound) {
  VitParams params = tiny_params();
  params.class_token = false;
  TensorMap tensors = random_vit_tensors(params), renamed = tensors;
  for (const char* part : {"weight", "bias"}) {
    auto node = renamed.extract(std::string("fc_norm.") + part);
    node.key() = std::string("norm.") + part;
    renamed.insert(std::move(node));
  }
  check_vit_tensors("file", params, renamed, true);
  EXPECT_TRUE(same_bits(tensors, renamed));
}

}  // namespace
}  // namespace moextract::model::test
