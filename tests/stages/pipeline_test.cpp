// The graph as a whole: the same bytes on any number of ranks and threads, reuse, and what a change makes new.
#include <gtest/gtest.h>

#include <ATen/ATen.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "stages/assemble/assemble.h"
#include "stages/evaluate/evaluate.h"
#include "stages/report/report.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::vector<std::string> kFitted{
    "assemble.method=least_squares", "assemble.storage=own_output", "cluster.tap=x",
    "model.short_last_block=true",   "moments.micro_batch=4",       "finetune.steps=2"};

/// Experts of hidden values, several a token, chosen by a small MLP; the class token has its own.
const std::vector<std::string> kMixed{"assemble.compensation=least_squares",
                                      "assemble.storage=low_rank",
                                      "assemble.rank=2",
                                      "assemble.score=weighted_variance",
                                      "assemble.budget=layer_share",
                                      "router.kind=mlp",
                                      "router.steps=20",
                                      "router.hidden=4",
                                      "router.top_k=2",
                                      "router.tau=0.5",
                                      "router.class_token=own",
                                      "moments.importance=false",
                                      "moments.memory_gb=0.01",
                                      "moments.micro_batch=4",
                                      "finetune.steps=2"};

/// Means and variances of all tokens; layers weighed by what compressing them does.
const std::vector<std::string> kTried{
    "assemble.statistics=streamed", "assemble.budget=sensitivity", "assemble.sensitivity_images=10",
    "assemble.storage=separate",    "router.kind=linear",          "router.class_token=routed",
    "moments.inputs=true",          "moments.micro_batch=4",       "finetune.steps=2"};

/// Static pruning.
const std::vector<std::string> kStatic{"assemble.method=least_squares", "cluster.k=1", "router.class_token=routed",
                                       "moments.micro_batch=4", "finetune.steps=2"};

class AnyRanks : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(AnyRanks, GiveTheSameBytes) {
  const SmallRun small;
  const auto reference = run_stages(small.config(GetParam(), "reference"), 1, 1);
  ASSERT_GE(reference.size(), 10u);
  struct Layout {
    int ranks, threads;
  };
  for (const auto& [ranks, threads] : {Layout{1, 2}, Layout{2, 1}, Layout{3, 1}, Layout{4, 2}}) {
    const std::string store = "store" + std::to_string(ranks) + "x" + std::to_string(threads);
    const auto other = run_stages(small.config(GetParam(), store), ranks, threads);
    for (const auto& [id, folder] : reference) {
      ASSERT_FALSE(content(folder).empty()) << id;
      EXPECT_EQ(content(folder), content(other.at(id)))
          << id << " on " << ranks << " ranks of " << threads << " threads";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Pipelines, AnyRanks,
                         testing::Values(std::vector<std::string>{},
                                         std::vector<std::string>{"assemble.storage=separate",
                                                                  "cluster.spherical=true"},
                                         kFitted, kMixed, kTried, kStatic));

TEST(Pipeline, FindsFinishedStagesAndMakesOnlyWhatASettingChanges) {
  const SmallRun small;
  const auto first = run_stages(small.config({"finetune.enabled=false"}), 1, 1);
  const auto stamp = fs::last_write_time(first.at("collect") / "DONE");
  const auto second = run_stages(small.config({"finetune.enabled=false", "assemble.target_macs=0.9"}), 2, 1);
  EXPECT_EQ(first.at("collect"), second.at("collect"));
  EXPECT_EQ(first.at("cluster"), second.at("cluster"));
  EXPECT_EQ(first.at("evaluate/dense"), second.at("evaluate/dense"));
  EXPECT_NE(first.at("assemble/experts"), second.at("assemble/experts"));
  EXPECT_NE(first.at("assemble/vbp"), second.at("assemble/vbp")) << "VBP meets the experts' MACs";
  EXPECT_EQ(fs::last_write_time(first.at("collect") / "DONE"), stamp);
}

TEST(Pipeline, ADamagedArtefactIsMadeAgain) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const auto folders = run_stages(config, 1, 1, {"cluster"});
  const auto before = content(folders.at("collect"));
  fs::resize_file(folders.at("collect") / "shard-000001.h5", 100);
  run_stages(config, 1, 1, {"cluster"});
  EXPECT_EQ(content(folders.at("collect")), before);
}

TEST(Pipeline, BudgetsAreMetAndStatedTruthfully) {
  const SmallRun small;
  const auto with = [](std::vector<std::string> settings, std::initializer_list<const char*> more) {
    settings.insert(settings.end(), more.begin(), more.end());
    return settings;
  };
  for (const std::vector<std::string>& extra :
       {std::vector<std::string>{}, kFitted, kMixed, kTried, with(kFitted, {"router.kind=cosine", "cluster.tap=h"}),
        with(kFitted, {"cluster.k=1", "router.class_token=routed", "assemble.budget=layer_share"}),
        with(kFitted, {"router.kind=random", "assemble.score=random"}),
        with({}, {"assemble.budget=threshold", "assemble.score=mean", "router.kind=nearest"})}) {
    std::vector<std::string> settings = extra;
    settings.insert(settings.end(), {"finetune.enabled=false", "run.name=budget"});
    const RunConfig config = small.config(settings);
    const auto folders = run_stages(config, 1, 2);
    const json experts = read_json(folders.at("assemble/experts") / kAssemblyFile),
               vbp = read_json(folders.at("assemble/vbp") / kAssemblyFile);
    const double dense = experts["dense_macs_per_image"], macs = experts["macs_per_image"];
    EXPECT_LE(macs, 0.8 * dense * (1 + 1e-12));
    EXPECT_GT(macs, 0.7 * dense) << "a budget should be used: " << experts["choices"].dump();
    EXPECT_LE(vbp["macs_per_image"].get<double>(), macs * (1 + 1e-12));
    EXPECT_NEAR(vbp["macs_per_image"].get<double>(), macs, 2.0 * 16 * 17 + 1) << "within one neuron of the experts";

    // An independent count over the file that was written.
    const moe::LoadedModel model = moe::load_model(folders.at("assemble/experts") / kModelFile, std::nullopt);
    const model::VitParams& vit = model.description.vit;
    double count = static_cast<double>(vit.patches() * 4 * 16);
    const double d = 16;
    for (std::int64_t layer = 0; layer < vit.depth; ++layer) {
      const double tokens = 17, kept = vit.short_last_block && layer + 1 == vit.depth ? 1 : 17;
      count += tokens * 2 * d * d + kept * 2 * d * d + 2 * kept * tokens * d;
      const auto facts = experts["layers"][static_cast<std::size_t>(layer)];
      if (facts["kind"] == "dense") {
        count += kept * 2 * d * 32;
        continue;
      }
      const moe::LayerSummary summary = moe::summarise_layer(layer, model.tensors);
      const bool prefix = facts.value("prefix_expert", false);
      if (facts["kind"] == "pruned") {
        count += kept * 2 * d * static_cast<double>(summary.union_size);
        continue;
      }
      for (std::size_t e = 0; e < summary.sizes.size(); ++e) {
        count += kept * facts["token_share"][e].get<double>() * 2 * d * static_cast<double>(summary.sizes[e]);
      }
      const std::string mlp = "blocks." + std::to_string(layer) + ".mlp.";
      double router = static_cast<double>(model.tensors.at(mlp + "router.weight").numel());
      if (model.tensors.contains(mlp + "router.hidden.weight"))
        router += static_cast<double>(model.tensors.at(mlp + "router.hidden.weight").numel());
      if (model.tensors.contains(mlp + "router.random")) router = 0;
      count += (prefix ? kept - 1 : kept) * router;
    }
    count += 16 * 4;
    EXPECT_NEAR(count, macs, 1e-6 * macs);
  }
}

TEST(Pipeline, EvaluationCountsEveryImageOnceAndMatchesItsOwnForward) {
  const SmallRun small;
  const auto folders = run_stages(small.config({"finetune.enabled=false"}), 3, 1);
  const json evaluation = read_json(folders.at("evaluate/dense") / kEvaluationFile);
  EXPECT_EQ(evaluation["images"], 40);
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  const auto network = moe::make_network(model.description, model.tensors);
  data::ImageSetParams images;
  images.source = small.file("val-images-idx3-ubyte");
  const auto set = data::open_image_set(images);
  const model::WeightsFile answers = model::load_weights(folders.at("evaluate/dense") / kPredictionsFile);
  std::int64_t right = 0;
  for (std::int64_t i = 0; i < set->size(); ++i) {
    const model::InputBatch batch = model::load_batch(*set, model.description.preprocess, i, 1, model::BadImages::stop);
    const at::Tensor logits = network->logits(batch.images).contiguous();
    const float* row = logits.const_data_ptr<float>();
    const std::int64_t answer = std::max_element(row, row + 4) - row;
    EXPECT_EQ(answers.tensors.at("predicted")[i].item<std::int64_t>(), answer);
    EXPECT_EQ(answers.tensors.at("label_rank")[i].item<std::int64_t>() == 0, answer == set->label(i));
    right += answer == set->label(i) ? 1 : 0;
  }
  EXPECT_EQ(evaluation["top1_correct"], right);

  // Where tokens went: every token once, by class and by position; the expert of a token tells at most its own entropy.
  const json routed = read_json(folders.at("evaluate/experts") / kEvaluationFile);
  const model::WeightsFile routing = model::load_weights(folders.at("evaluate/experts") / kRoutingFile);
  for (const json& layer : routed["layers"]) {
    if (layer["tokens"].empty()) continue;
    const std::string name = "layer." + std::to_string(layer["layer"].get<int>());
    const at::Tensor by_class = routing.tensors.at(name + ".by_class").to(at::kDouble),
                     by_position = routing.tensors.at(name + ".by_position").to(at::kDouble);
    EXPECT_EQ(by_class.sum().item<double>(), 40.0 * 17);
    EXPECT_TRUE(at::equal(by_class.sum(1), by_position.sum(1)));
    EXPECT_TRUE((by_position.sum(0) == 40).all().item<bool>()) << "each position of each image once";
    const at::Tensor p = by_class / by_class.sum(), outer = at::outer(p.sum(1), p.sum(0));
    const double information = at::where(p > 0, p * (p / outer).log2(), at::zeros_like(p)).sum().item<double>();
    EXPECT_NEAR(layer["class_information"].get<double>(), information, 1e-9);
    EXPECT_LE(information, layer["usage_entropy"].get<double>() + 1e-9);
  }

  const AnswerChanges itself = compare_answers(folders.at("evaluate/dense"), folders.at("evaluate/dense"));
  EXPECT_EQ(itself.agreeing, 40);
  EXPECT_EQ(itself.gained + itself.lost, 0);
  const AnswerChanges changes = compare_answers(folders.at("evaluate/dense"), folders.at("evaluate/vbp"));
  EXPECT_EQ(read_json(folders.at("evaluate/vbp") / kEvaluationFile)["top1_correct"].get<std::int64_t>() - right,
            changes.gained - changes.lost);
}

TEST(Pipeline, TheShortLastBlockChangesNoAnswer) {
  const SmallRun small;
  const auto whole = run_stages(small.config({}), 1, 1, {"evaluate"}),
             brief = run_stages(small.config({"model.short_last_block=true"}), 1, 1, {"evaluate"});
  const json a = read_json(whole.at("evaluate/dense") / kEvaluationFile),
             b = read_json(brief.at("evaluate/dense") / kEvaluationFile);
  EXPECT_EQ(a["top1_correct"], b["top1_correct"]);
  EXPECT_LT(b["macs_per_image"].get<double>(), a["macs_per_image"].get<double>());
  // No method is measured by a cut that saves next to nothing there.
  const json experts = read_json(brief.at("assemble/experts") / kAssemblyFile)["layers"],
             vbp = read_json(brief.at("assemble/vbp") / kAssemblyFile)["layers"];
  EXPECT_EQ(experts[1]["kind"], "dense");
  EXPECT_EQ(vbp[1]["kept"], 32);
  EXPECT_LT(vbp[0]["kept"].get<int>(), 32);
}

TEST(Pipeline, BothBudgetsAreMetAtOnce) {
  const SmallRun small;
  std::vector<std::string> settings = kFitted;
  settings.insert(settings.end(),
                  {"finetune.enabled=false", "assemble.storage=shared", "assemble.target_parameters=0.85",
                   "assemble.target_macs=0.75", "assemble.fisher=0.9", "moments.flip=true"});
  const auto folders = run_stages(small.config(settings), 1, 2);
  const json experts = read_json(folders.at("assemble/experts") / kAssemblyFile);
  const double dense = experts["dense_parameters"], parameters = experts["parameters"];
  EXPECT_LE(parameters, 0.85 * dense);
  EXPECT_GT(parameters, 0.8 * dense) << "a budget is used, but for neurons that no expert chose after the cut";
  EXPECT_LE(experts["macs_per_image"].get<double>(),
            0.75 * experts["dense_macs_per_image"].get<double>() * (1 + 1e-12));
  const moe::LoadedModel model = moe::load_model(folders.at("assemble/experts") / kModelFile, std::nullopt);
  std::int64_t count = 0;
  for (const auto& [name, tensor] : model.tensors) count += tensor.is_floating_point() ? tensor.numel() : 0;
  EXPECT_EQ(static_cast<double>(count), parameters);
}

TEST(Pipeline, OneClusterStaysDense) {
  const SmallRun small;
  const auto folders =
      run_stages(small.config({"cluster.k=1", "assemble.target_macs=1", "finetune.enabled=false"}), 2, 1);
  const json experts = read_json(folders.at("assemble/experts") / kAssemblyFile);
  for (const json& layer : experts["layers"]) EXPECT_EQ(layer["kind"], "dense");
  EXPECT_EQ(experts["macs_per_image"], experts["dense_macs_per_image"]);
}

TEST(Pipeline, TheReportHoldsWhatTheStagesFound) {
  const SmallRun small;
  const RunConfig config = small.config({});
  run_stages(config, 1, 2);
  const Pipeline pipeline(config);
  const std::string table =
      write_report(pipeline, {.program_version = "test", .hosts = {}, .outcomes = {}}, small.file("report"));
  const json results = read_json(small.file("report") / "results.json");
  ASSERT_EQ(results["variants"].size(), 5u);
  EXPECT_EQ(results["variants"][0]["name"], "dense");
  EXPECT_EQ(results["layers"].size(), 2u);
  EXPECT_EQ(results["finetune"].size(), 2u);
  EXPECT_NE(table.find("VBP"), std::string::npos);
  EXPECT_NE(read_text_file(small.file("report") / "report.html").find("</html>"), std::string::npos);
}

TEST(Pipeline, TrainingFromScratchLearnsTheSmallTask) {
  const SmallRun small;
  const auto folders = run_stages(
      small.config({"model.weights=", "model.name=tiny", "model.image_size=8", "model.patch_size=2", "model.channels=1",
                    "model.width=16", "model.depth=2", "model.heads=2", "model.hidden=32", "model.classes=4",
                    "train.epochs=12", "train.batch=12", "train.micro_batch=4", "train.learning_rate=3e-3",
                    "train.flip=false", "finetune.enabled=false"}),
      2, 1, {"train", "evaluate"});
  EXPECT_GE(read_json(folders.at("evaluate/dense") / kEvaluationFile)["top1_correct"].get<int>(), 30)
      << "chance is 10 of 40";
}

}  // namespace
}  // namespace moextract::stages::test
