// Layers fitted in order, and static layers beside routed ones, in a whole run.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <nlohmann/json.hpp>

#include "comm/backends.h"
#include "core/error.h"
#include "core/file.h"
#include "model/vit.h"
#include "moe/expert_mlp.h"
#include "moe/expert_router.h"
#include "run/log.h"
#include "stages/assemble/expert_ranking.h"
#include "stages/assemble/fit_experts.h"
#include "stages/evaluate/evaluate.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A deeper model than the small run's, so that several layers follow each other.
class DeepRun : public SmallRun {
 public:
  DeepRun() {
    moe::LoadedModel model = moe::load_model(weights_file(), std::nullopt);
    model.description.vit.depth = 4;
    moe::save_model(file("deep.safetensors"), model.description, model::initial_vit_tensors(model.description.vit, 9));
  }
  RunConfig with(std::vector<std::string> more, const std::string& store = "store") const {
    std::vector<std::string> settings{"model.weights=" + file("deep.safetensors").string(),
                                      "assemble.method=least_squares",
                                      "cluster.tap=x",
                                      "moments.micro_batch=4",
                                      "finetune.enabled=false",
                                      "assemble.target_macs=0.75"};
    settings.insert(settings.end(), more.begin(), more.end());
    return config(settings, store);
  }
};

json assembly_of(const fs::path& folder) {
  return json::parse(read_text_file(folder / kAssemblyFile));
}

class SequentialFits : public testing::TestWithParam<std::vector<std::string>> {};

TEST_P(SequentialFits, GiveTheSameBytesOnAnyRanksThreadsAndMemory) {
  const DeepRun deep;
  const fs::path alone = run_stages(deep.with(GetParam(), "alone"), 1, 1, {"assemble"}).at("assemble/experts");
  for (const fs::directory_entry& entry : fs::directory_iterator(alone))
    EXPECT_FALSE(entry.path().filename().string().starts_with("sequential")) << "layers are kept only while it runs";
  for (const auto& [ranks, threads, gigabytes] :
       {std::tuple{1, 2, "0"}, std::tuple{2, 1, "4"}, std::tuple{3, 2, "0.0001"}, std::tuple{4, 1, "4"}}) {
    std::vector<std::string> settings = GetParam();
    settings.push_back(std::string("assemble.stream_gb=") + gigabytes);
    const auto other = run_stages(deep.with(settings, "store" + std::to_string(ranks)), ranks, threads, {"assemble"});
    EXPECT_EQ(content(other.at("assemble/experts")), content(alone)) << ranks << " ranks of " << threads << " threads";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Storages, SequentialFits,
    testing::Values(std::vector<std::string>{"assemble.sequential=all", "assemble.storage=own_output",
                                             "moments.flip=true", "moments.shifts=1", "model.short_last_block=true"},
                    std::vector<std::string>{"assemble.sequential=experts", "assemble.storage=shared",
                                             "assemble.sequential_ridge=0.1", "moments.importance=false"},
                    std::vector<std::string>{"assemble.sequential=all", "assemble.storage=separate", "router.top_k=2",
                                             "router.tau=0.5", "router.class_token=own"}));

/// Dense stream less compressed one after each layer, [images, tokens, d], and where the compressed model's tokens
/// went.
struct Streams {
  std::vector<at::Tensor> difference, expert;
};

Streams streams_of(const moe::LoadedModel& dense, const moe::LoadedModel& compressed, const data::ImageSet& images) {
  const at::NoGradGuard no_grad;
  const model::InputBatch batch =
      model::load_batch(images, dense.description.preprocess, 0, images.size(), model::BadImages::stop);
  Streams streams;
  std::vector<at::Tensor> before;
  moe::make_network(dense.description, dense.tensors)->logits(batch.images, [&](std::int64_t, const auto& trace) {
    before.push_back(trace.residual + trace.y);
  });
  moe::make_network(compressed.description, compressed.tensors)
      ->logits(batch.images, [&](std::int64_t layer, const auto& trace) {
        streams.difference.push_back(before[static_cast<std::size_t>(layer)] - trace.residual - trace.y);
        streams.expert.push_back(trace.expert);
      });
  return streams;
}

TEST(SequentialFit, LeavesNoMeanDeviationAndLessThanTheFitToTheDenseModelDoes) {
  const DeepRun deep;
  const std::vector<std::string> common{"assemble.storage=own_output", "moments.importance=false",
                                        "router.class_token=routed"};
  const auto made = [&](const char* choice) {
    std::vector<std::string> settings = common;
    settings.push_back(std::string("assemble.sequential=") + choice);
    return settings;
  };
  const auto plain = run_stages(deep.with(made("none")), 1, 1, {"assemble"}),
             repaired = run_stages(deep.with(made("experts")), 1, 1, {"assemble"});
  EXPECT_NE(plain.at("assemble/experts"), repaired.at("assemble/experts"));
  EXPECT_EQ(plain.at("moments"), repaired.at("moments")) << "the statistics of the dense model are the same";
  const moe::LoadedModel dense = moe::load_model(deep.file("deep.safetensors"), std::nullopt),
                         off = moe::load_model(plain.at("assemble/experts") / kModelFile, std::nullopt),
                         on = moe::load_model(repaired.at("assemble/experts") / kModelFile, std::nullopt);
  const RunConfig config = deep.with({});
  const Pipeline pipeline(config);
  const data::ImageSet& images = *pipeline.images("calibration");
  const Streams without = streams_of(dense, off, images), with = streams_of(dense, on, images);
  std::int64_t compared = 0;
  for (std::size_t layer = 1; layer < 4; ++layer) {
    if (!with.expert[layer].defined()) continue;
    ++compared;
    EXPECT_TRUE(with.difference[layer].defined());
    const at::Tensor rows = with.difference[layer].reshape({-1, 16}).to(at::kDouble);
    const std::int64_t experts = with.expert[layer].max().item<std::int64_t>() + 1;
    for (std::int64_t e = 0; e < experts; ++e) {
      const at::Tensor index = (with.expert[layer] == e).nonzero().squeeze(1);
      if (index.numel() == 0) continue;
      EXPECT_LT(rows.index_select(0, index).mean(0).abs().max().item<double>(), 1e-4)
          << "layer " << layer << ", expert " << e;
    }
    EXPECT_LT(with.difference[layer].square().sum().item<double>(),
              without.difference[layer].square().sum().item<double>())
        << "layer " << layer;
  }
  EXPECT_GE(compared, 2);
  // The stated deviation is that before the layer's fit: with the layer itself dense. No less than none.
  const json assembly = assembly_of(repaired.at("assemble/experts"));
  EXPECT_EQ(assembly["choices"]["sequential"], "experts");
  EXPECT_FALSE(assembly_of(plain.at("assemble/experts"))["choices"].contains("sequential"));
  for (std::size_t layer = 1; layer < 4; ++layer) {
    if (assembly["layers"][layer]["kind"] != "experts") continue;
    EXPECT_GT(assembly["layers"][layer]["stream_deviation"].get<double>(), 0);
    EXPECT_EQ(assembly["layers"][layer]["repair_ridge"].size(), assembly["layers"][layer]["output_error"].size());
  }
}

TEST(SequentialFit, KeepsWhatLayersCost) {
  const DeepRun deep;
  for (const char* storage : {"own_output", "shared"}) {
    const std::string own = std::string("assemble.storage=") + storage;
    const json plain = assembly_of(run_stages(deep.with({own}), 1, 1, {"assemble"}).at("assemble/experts")),
               all = assembly_of(
                   run_stages(deep.with({own, "assemble.sequential=all"}), 1, 1, {"assemble"}).at("assemble/experts"));
    for (const char* what : {"macs_per_image", "parameters", "active_share"}) EXPECT_EQ(plain[what], all[what]) << what;
  }
}

TEST(SequentialFit, GoesOnWhereItWasStopped) {
  const DeepRun deep;
  const std::vector<std::string> settings{"assemble.sequential=all", "assemble.storage=own_output"};
  const fs::path whole = run_stages(deep.with(settings, "whole"), 1, 1, {"assemble"}).at("assemble/experts");
  const RunConfig config = deep.with(settings, "stopped");
  const auto layer_is_there = [&] {
    if (!fs::exists(deep.file("stopped"))) return false;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(deep.file("stopped"))) {
      if (entry.path().filename() == "sequential-002.safetensors") return true;
    }
    return false;
  };
  try {
    comm::run_threads(2, [&](comm::Communicator& comm) {
      Pipeline pipeline(config);
      Workers workers(1, [] { at::set_num_threads(1); });
      run::Context context{comm, workers, run::make_logger(1, 2, false), layer_is_there};
      pipeline.graph().execute(pipeline.nodes_of("assemble"), context, "test");
    });
    FAIL() << "it was not stopped";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::resume) << error.what();
  }
  EXPECT_TRUE(layer_is_there());
  const auto after = run_stages(config, 3, 1, {"assemble"});
  EXPECT_EQ(content(after.at("assemble/experts")), content(whole));
}

TEST(SequentialFit, NeedsSecondMoments) {
  const SmallRun small;
  for (const auto& [setting, key] : {std::pair("assemble.sequential=all", "assemble.sequential"),
                                     std::pair("assemble.static_layers=true", "assemble.static_layers")}) {
    try {
      Pipeline(small.config({setting}));
      ADD_FAILURE() << "no error";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::config);
      EXPECT_NE(std::string(error.what()).find(key), std::string::npos) << error.what();
    }
  }
}

/// Assembles with statistics that `change` has altered, and returns the facts.
json assembled(const DeepRun& deep, const RunConfig& config, const std::function<void(LayerMoments&)>& change,
               model::TensorMap* tensors = nullptr) {
  const fs::path folder = run_stages(config, 1, 1, {"moments"}).at("moments");
  const AssemblyChoices choices = settle(config.assemble, config.router, true);
  const moe::LoadedModel model = moe::load_model(deep.file("deep.safetensors"), std::nullopt);
  json facts;
  comm::run_threads(2, [&](comm::Communicator& comm) {
    Workers workers(1, [] { at::set_num_threads(1); });
    run::Context context{comm, workers, run::make_logger(1, 2, false)};
    const AssembleInputs inputs{model, {}, {}, folder, ""};
    const MomentsOf moments = [&](std::int64_t layer) {
      LayerMoments m = load_layer_moments(folder, layer);
      change(m);
      return m;
    };
    model::TensorMap made = model.tensors;
    const FittedModel fitted = fit_experts(choices, inputs, moments, context, made);
    // What the budget counted is what the model costs.
    const auto network = moe::make_network(model.description, made);
    EXPECT_NEAR(model::macs_per_image(*network, fitted.shares), fitted.macs, 1e-6);
    EXPECT_EQ(model::count_parameters(made), fitted.parameters);
    if (!comm.is_root()) return;
    facts = fitted.facts;
    if (tensors != nullptr) *tensors = made;
  });
  return facts;
}

/// Where there is one expert, there is nothing for a control to choose.
void expect_controls_to_run(const DeepRun& deep, const RunConfig& config, const model::TensorMap& tensors) {
  const fs::path clusters = run_stages(config, 1, 1, {"cluster"}).at("cluster");
  const moe::LoadedModel dense = moe::load_model(deep.file("deep.safetensors"), std::nullopt);
  moe::save_model(deep.file("static.safetensors"), dense.description, tensors);
  const moe::LoadedModel model = moe::load_model(deep.file("static.safetensors"), std::nullopt);
  const Pipeline pipeline(config);
  for (const moe::Routing routing : {moe::Routing::random, moe::Routing::oracle, moe::Routing::best}) {
    comm::run_threads(1, [&](comm::Communicator& comm) {
      Workers workers(1, [] { at::set_num_threads(1); });
      run::Context context{comm, workers, run::make_logger(1, 2, false)};
      const fs::path folder = deep.file("evaluated");
      fs::create_directories(folder);
      const json counts = evaluate({.model = model,
                                    .images = *pipeline.images("validation"),
                                    .routing = routing,
                                    .dense = &dense,
                                    .clusters = clusters},
                                   context, folder);
      EXPECT_TRUE(fs::exists(folder / kEvaluationFile)) << counts.dump();
    });
  }
}

TEST(StaticLayers, StandWhereTheExpertsAreAllAlike) {
  const DeepRun deep;
  for (const char* storage : {"own_output", "shared"}) {
    const RunConfig config =
        deep.with({"assemble.static_layers=true", std::string("assemble.storage=") + storage, "cluster.k=4"});
    const auto alike = [](LayerMoments& m) {
      for (std::int64_t e = 0; e < m.k(); ++e) {
        const auto to = static_cast<std::size_t>(e);
        m.experts[to].weight = static_cast<double>(m.experts[to].count);  // no token counts more than another
        m.experts[to].mean = m.experts[0].mean;
        m.experts[to].covariance = m.experts[0].covariance;
        m.experts[to].variance = m.experts[0].variance;
        m.directions[e] = m.directions[0];
      }
    };
    model::TensorMap tensors;
    const json facts = assembled(deep, config, alike, &tensors);
    std::int64_t fixed = 0;
    for (const json& layer : facts["layers"]) {
      ASSERT_TRUE(layer.contains("output_error_compared")) << layer.dump();
      const std::vector<double> errors = layer.at("output_error_compared");
      EXPECT_LE(errors[1], errors[0]) << "the router's cost buys neurons";
      if (layer.at("kind") == "dense") continue;  // one expert with all neurons
      ++fixed;
      EXPECT_EQ(layer.value("why", ""), "routing gains nothing") << layer.dump();
      ASSERT_TRUE(layer.contains("token_share")) << layer.dump();
      EXPECT_EQ(layer.at("token_share").size(), 2u) << "one expert, and the class token's";
      const moe::RouterWeights router =
          moe::get_router(model::mlp_prefix(layer.at("layer").get<std::int64_t>()), tensors);
      EXPECT_EQ(moe::router_macs(router), 0);
    }
    EXPECT_GE(fixed, 1);
    expect_controls_to_run(deep, config, tensors);
  }
}

TEST(StaticLayers, DoNotStandWhereExpertsDiffer) {
  const DeepRun deep;
  const RunConfig config = deep.with({"assemble.static_layers=true", "assemble.storage=own_output", "cluster.k=4"});
  const auto apart = [](LayerMoments& m) {  // each uses its own eight neurons
    for (std::int64_t e = 0; e < m.k(); ++e) {
      at::Tensor scale = at::full({32}, 1e-3, at::kDouble);
      scale.narrow(0, 8 * e, 8).fill_(1.0);
      moe::SecondMoments& own = m.experts[static_cast<std::size_t>(e)];
      own.covariance = own.covariance * scale.unsqueeze(0) * scale.unsqueeze(1);
      own.variance = own.covariance.diagonal().clone();
      own.mean = own.mean * scale;
    }
  };
  const json facts = assembled(deep, config, apart);
  std::int64_t routed = 0;
  for (const json& layer : facts["layers"]) {
    if (layer["kind"] == "dense") continue;
    ++routed;
    EXPECT_FALSE(layer.contains("why")) << layer.dump();
    EXPECT_EQ(layer["k"], 5);
  }
  EXPECT_GE(routed, 2);
}

TEST(StaticLayers, AreNoneWithoutTheSwitch) {
  const DeepRun deep;
  const auto folders = run_stages(deep.with({"assemble.storage=own_output"}), 1, 1, {"assemble"}),
             off = run_stages(deep.with({"assemble.storage=own_output", "assemble.static_layers=false"}), 1, 1,
                              {"assemble"});
  EXPECT_EQ(folders.at("assemble/experts"), off.at("assemble/experts"));
  for (const json& layer : assembly_of(folders.at("assemble/experts"))["layers"])
    EXPECT_FALSE(layer.contains("output_error_compared"));
}

TEST(StaticLayers, HaveTheMomentsOfAllTheirTokens) {
  LayerMoments m;
  m.router.keys = at::zeros({2, 3});
  m.prefix_apart = true;
  const at::Tensor i = at::arange(40, at::kDouble), rows = at::stack({i.sin(), (i * 1.7).cos(), i * 0.1}, 1);
  for (const auto& [first, count] : {std::pair{0, 10}, std::pair{10, 20}, std::pair{30, 10}}) {
    const at::Tensor own = rows.narrow(0, first, count), centred = own - own.mean(0);
    const at::Tensor covariance = at::mm(centred.t(), centred) / count;
    m.experts.push_back({count, static_cast<double>(count), own.mean(0), covariance, covariance.diagonal().clone()});
    m.token_share.push_back(count / 40.0);
  }
  m.directions = at::stack({at::eye(3, at::kDouble), 4 * at::eye(3, at::kDouble), 9 * at::eye(3, at::kDouble)});
  const LayerMoments one = as_one_expert(m);
  const at::Tensor routed = rows.narrow(0, 0, 30), centred = routed - routed.mean(0);
  ASSERT_EQ(one.experts.size(), 2u);
  EXPECT_EQ(one.k(), 1);
  EXPECT_EQ(one.experts[0].count, 30);
  EXPECT_LT((one.experts[0].mean - routed.mean(0)).abs().max().item<double>(), 1e-12);
  EXPECT_LT((one.experts[0].covariance - at::mm(centred.t(), centred) / 30).abs().max().item<double>(), 1e-12);
  EXPECT_TRUE(at::equal(one.experts[1].covariance, m.experts[2].covariance)) << "the class token stays apart";
  EXPECT_NEAR(one.token_share[0], 0.75, 1e-12);
  EXPECT_LT((one.directions[0] - 3 * at::eye(3, at::kDouble)).abs().max().item<double>(), 1e-12);
  EXPECT_TRUE(at::equal(one.directions[1], m.directions[2]));
}

}  // namespace
}  // namespace moextract::stages::test
