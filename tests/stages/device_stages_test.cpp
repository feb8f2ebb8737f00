// The stages on a device, with LibTorch's CPU in the place of a GPU: what they leave is what the CPU's path leaves, but
// for last bits, and the same bytes on one rank and on two.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "comm/backends.h"
#include "core/error.h"
#include "core/file.h"
#include "core/float16.h"
#include "model/device.h"
#include "run/log.h"
#include "stages/assemble/assemble.h"
#include "stages/evaluate/evaluate.h"
#include "stages/sweep_plan.h"
#include "stages/train/train.h"
#include "store/activation_shard.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::vector<std::string> with(std::vector<std::string> settings, const std::vector<std::string>& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

/// What the recorded rows of two shards differ by, at most, in units of the last place of a float16 near one.
double shard_difference(const fs::path& a, const fs::path& b) {
  const store::ShardReader first(a), second(b);
  EXPECT_EQ(first.rows(), second.rows());
  double largest = 0;
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    for (const store::Tap tap : {store::Tap::x, store::Tap::h}) {
      const auto values = [&](const store::ShardReader& shard) {
        std::vector<std::uint16_t> bits(static_cast<std::size_t>(shard.rows() * shard.width(layer, tap)));
        shard.read_rows(layer, tap, 0, shard.rows(), bits);
        std::vector<float> wide(bits.size());
        from_float16(bits, wide);
        return wide;
      };
      const std::vector<float> x = values(first), y = values(second);
      EXPECT_EQ(x.size(), y.size());
      EXPECT_FALSE(x.empty());
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double unit = std::max(0x1.0p-10 * std::abs(static_cast<double>(x[i])), 0x1.0p-24);
        largest = std::max(largest, std::abs(static_cast<double>(x[i]) - y[i]) / unit);
      }
    }
  }
  return largest;
}

/// The largest difference of a tensor of two files, relative to its largest value.
double tensor_difference(const fs::path& a, const fs::path& b, const std::string& name) {
  const at::Tensor x = model::load_weights(a, true).tensors.at(name), y = model::load_weights(b, true).tensors.at(name);
  EXPECT_EQ(x.sizes(), y.sizes());
  return (x - y).abs().max().item<double>() / std::max(1e-30, x.abs().max().item<double>());
}

const std::vector<std::string> kStreamed{"assemble.method=least_squares", "cluster.tap=x",     "cluster.k=2",
                                         "moments.micro_batch=4",         "moments.flip=true", "moments.inputs=true",
                                         "model.precision=float32",       "finetune.steps=3",  "router.kind=nearest"};

class StagesOnADevice : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(StagesOnADevice, TheStagesLeaveWhatTheyLeaveOnTheCpu) {
  const SmallRun small;
  const std::vector<std::string> settings = GetParam(), there = with(settings, {"run.device=libtorch_cpu"});
  const auto plain = run_stages(small.config(settings, "plain"), 1, 1);
  const auto one = run_stages(small.config(there, "one"), 1, 2);
  const auto two = run_stages(small.config(there, "two"), 2, 1);
  for (const auto& [id, folder] : one) {
    EXPECT_EQ(content(folder), content(two.at(id))) << id << " on one rank and on two";
    EXPECT_EQ(read_json(folder / "manifest.json")["device"], "libtorch_cpu") << id;
    EXPECT_EQ(read_json(plain.at(id) / "manifest.json")["device"], "cpu") << id;
  }
  // One unit of float16 where two float32 numbers stand on either side of a tie.
  for (const char* shard : {"shard-000000.h5", "shard-000003.h5"})
    EXPECT_LE(shard_difference(plain.at("collect") / shard, one.at("collect") / shard), 1.01) << shard;

  const fs::path a = plain.at("evaluate/dense"), b = one.at("evaluate/dense");
  EXPECT_EQ(tensor_difference(a / kPredictionsFile, b / kPredictionsFile, "predicted"), 0) << "the same answers";
  EXPECT_EQ(read_json(a / kEvaluationFile)["top1_correct"], read_json(b / kEvaluationFile)["top1_correct"]);
  EXPECT_EQ(read_json(b / kTimingFile)["device"], "libtorch_cpu");
  // The data decide what is made of it from there on: compared where a small difference makes a small one.
  const json tuned = read_json(plain.at("finetune/experts") / kTrainingFile),
             tuned_there = read_json(one.at("finetune/experts") / kTrainingFile);
  EXPECT_NEAR(tuned["loss"][0].get<double>(), tuned_there["loss"][0].get<double>(), 0.05);
  const json experts = read_json(one.at("evaluate/experts") / kEvaluationFile);
  EXPECT_EQ(experts["images"], 40);
}

INSTANTIATE_TEST_SUITE_P(Pipelines, StagesOnADevice,
                         testing::Values(std::vector<std::string>{"model.precision=float32"}, kStreamed,
                                         std::vector<std::string>{
                                             "model.precision=float32", "router.kind=mlp", "router.steps=20",
                                             "router.hidden=4", "router.top_k=2", "router.tau=0.5",
                                             "router.class_token=own", "assemble.compensation=least_squares",
                                             "moments.micro_batch=4", "finetune.steps=2", "controls.random=true",
                                             "controls.oracle=true", "controls.best=true"}));

/// Runs one stage's function on `ranks` ranks of two threads, into a folder of its own.
template <typename Stage>
fs::path run_on(const SmallRun& small, const Device& device, int ranks, const std::string& name, const Stage& stage) {
  const fs::path folder = small.folder() / (name + "-" + device.text() + "-" + std::to_string(ranks));
  fs::create_directories(folder);
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    Workers workers(2, [] { at::set_num_threads(1); });
    run::Context context{.comm = comm, .workers = workers, .log = run::make_logger(1, ranks, false), .device = device};
    stage(context, folder);
  });
  return folder;
}

TEST(DeviceStages, MakeTheSameOfTheSameInput) {
  const SmallRun small;
  RunConfig config = small.config(kStreamed);
  config.moments.products = Products::full;
  run_stages(config, 1, 1);
  const Pipeline pipeline(config);
  const auto folder_of = [&](const char* id) { return pipeline.graph().folder(id); };
  const moe::LoadedModel dense = moe::load_model(small.weights_file(), std::nullopt),
                         experts = moe::load_model(folder_of("assemble/experts") / kModelFile, std::nullopt);
  const data::ImageSet &calibration = *pipeline.images("calibration"), &training = *pipeline.images("train"),
                       &validation = *pipeline.images("validation");
  const AssemblyChoices choices = settle(config.assemble, config.router, true);
  const auto moments = [&](run::Context& context, const fs::path& folder) {
    gather_moments(config.moments,
                   {dense, calibration, folder_of("cluster"),
                    shard_paths(folder_of("collect"), calibration.size(), config.collect), choices.router,
                    choices.class_token_apart(), "", model::BadImages::stop, 0},
                   context, folder);
  };
  const auto tuned = [&](run::Context& context, const fs::path& folder) {
    finetune(config.finetune, {dense, experts, training}, context, folder);
  };
  const auto evaluated = [&](run::Context& context, const fs::path& folder) {
    const EvaluateInputs inputs{.model = experts, .images = validation, .micro_batch = 4, .clusters = {}};
    evaluate(inputs, context, folder);
  };
  constexpr Device kThere{DeviceKind::libtorch_cpu, 0};
  const fs::path moments_plain = run_on(small, {}, 1, "moments", moments),
                 tuned_plain = run_on(small, {}, 1, "tuned", tuned),
                 evaluated_plain = run_on(small, {}, 1, "evaluated", evaluated);
  for (const int ranks : {1, 2}) {
    SCOPED_TRACE(ranks);
    const fs::path m = run_on(small, kThere, ranks, "moments", moments);
    for (const char* layer : {"layer-000.safetensors", "layer-001.safetensors"}) {
      const fs::path a = moments_plain / layer, b = m / layer;
      for (const char* name : {"count", "routed_tokens"}) EXPECT_EQ(tensor_difference(a, b, name), 0) << name;
      // Products of float32 numbers that differ in their last bits; directions are ratios of small gradients.
      for (const char* name : {"weight", "mean", "covariance", "x_mean", "x_covariance", "mean_gradient"})
        EXPECT_LT(tensor_difference(a, b, name), 1e-4) << layer << ", " << name;
      EXPECT_LT(tensor_difference(a, b, "gradient_directions"), 1e-3) << layer;
    }
    const fs::path f = run_on(small, kThere, ranks, "tuned", tuned);
    const json a = read_json(tuned_plain / kTrainingFile), b = read_json(f / kTrainingFile);
    ASSERT_EQ(a["loss"].size(), 3u);
    for (std::size_t step = 0; step < 3; ++step) {
      EXPECT_NEAR(a["loss"][step].get<double>(), b["loss"][step].get<double>(),
                  1e-4 * (1 + a["loss"][step].get<double>()));
      EXPECT_NEAR(a["gradient_norm"][step].get<double>(), b["gradient_norm"][step].get<double>(),
                  1e-3 * (1 + a["gradient_norm"][step].get<double>()));
    }
    for (const auto& [name, tensor] : moe::load_model(tuned_plain / kModelFile, std::nullopt).tensors)
      EXPECT_LT((tensor - moe::load_model(f / kModelFile, std::nullopt).tensors.at(name)).abs().max().item<double>(),
                3e-3)
          << name << ": three steps of 1e-3";
    const fs::path e = run_on(small, kThere, ranks, "evaluated", evaluated);
    for (const char* name : {"predicted", "label_rank"})
      EXPECT_EQ(tensor_difference(evaluated_plain / kPredictionsFile, e / kPredictionsFile, name), 0) << name;
    for (const auto& [name, counts] : model::load_weights(evaluated_plain / kRoutingFile).tensors)
      EXPECT_EQ(tensor_difference(evaluated_plain / kRoutingFile, e / kRoutingFile, name), 0) << name;
    const json plain = read_json(evaluated_plain / kEvaluationFile), there = read_json(e / kEvaluationFile);
    EXPECT_EQ(plain["top1_correct"], there["top1_correct"]);
    for (std::size_t l = 0; l < plain["layers"].size(); ++l) {
      EXPECT_NEAR(plain["layers"][l].value("router_entropy", 0.0), there["layers"][l].value("router_entropy", 0.0),
                  1e-4);
    }
  }
}

TEST(DeviceAddresses, OfTheCpuStayAndOthersHaveTheirOwnWhereBytesDiffer) {
  const SmallRun small;
  const Pipeline plain(small.config({"run.device=cpu"})), there(small.config({"run.device=libtorch_cpu"}));
  for (const run::StageNode& node : plain.graph().nodes()) {
    EXPECT_FALSE(node.spec.settings.contains("device")) << node.id;
    EXPECT_NE(node.spec.key(), there.graph().node(node.id).spec.key()) << node.id;
  }
  for (const char* id : {"collect", "finetune/experts", "evaluate/dense"})
    EXPECT_EQ(there.graph().node(id).spec.settings.at("device"), "libtorch_cpu") << id;
  // Of exact arithmetic: only what they read is another.
  EXPECT_FALSE(there.graph().node("cluster").spec.settings.contains("device"));
  EXPECT_EQ(there.graph().node("collect").spec.settings.at("precision"), "bfloat16") << "model.precision: auto";
  EXPECT_EQ(plain.graph().node("collect").spec.settings.at("precision"), "int16");
  EXPECT_FALSE(plain.identity().contains("device"));
  if (model::visible_cuda_devices() == 0) {
    const Pipeline automatic(small.config({}));
    EXPECT_EQ(automatic.graph().node("collect").spec.key(), plain.graph().node("collect").spec.key());
  }
}

TEST(DeviceChoices, WhatADeviceDoesNotHaveIsRefusedWithTheKey) {
  const SmallRun small;
  const auto message = [](ExitCode code, const std::function<void()>& action) -> std::string {
    try {
      action();
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    return "no error";
  };
  const std::string integers = message(ExitCode::config, [&] {
    Pipeline(small.config({"run.device=libtorch_cpu", "model.precision=int16"}));
  });
  EXPECT_NE(integers.find("model.precision: int16"), std::string::npos) << integers;
  EXPECT_NE(integers.find("libtorch_cpu"), std::string::npos) << integers;
  if (model::visible_cuda_devices() > 0) GTEST_SKIP() << "there is a GPU here";
  const RunConfig wanted = small.config({"run.device=cuda"});
  Pipeline planned(wanted);  // a plan needs no GPU
  EXPECT_EQ(planned.device(), DeviceKind::cuda);
  for (const int ranks : {1, 2}) {
    const std::string none = message(ExitCode::distributed, [&] { run_stages(wanted, ranks, 1, {"collect"}); });
    EXPECT_NE(none.find("run.device: cuda, but rank 0 has no GPU"), std::string::npos) << none;
    EXPECT_NE(none.find("set run.device to cpu"), std::string::npos) << none;
  }
}

}  // namespace
}  // namespace moextract::stages::test
