// What a user can get wrong: one message that names the place and the next step, the documented exit code, nothing
// lost.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "comm/backends.h"
#include "core/file.h"
#include "model/vit.h"
#include "run/log.h"
#include "run/run_folder.h"
#include "stages/assemble/fit_experts.h"
#include "stages/assemble/unmet_target.h"
#include "stages/collect/collect.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

template <class Work>
void expect_error(ExitCode code, const std::vector<std::string>& parts, Work&& work) {
  try {
    work();
    FAIL() << "no error";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    for (const std::string& part : parts)
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << "\nlacks: " << part;
  }
}

TEST(BadInput, UnknownKeysNameFileLineAndTheNearestKey) {
  const SmallRun small;
  small.write("config.yaml", "model:\n  weights: model.safetensors\ncluster:\n  kk: 3\n");
  expect_error(ExitCode::config, {"config.yaml:4:", "cluster.kk", "cluster.k"}, [&] { small.config({}); });
}

TEST(BadInput, MistypedValues) {
  const SmallRun small;
  small.write("config.yaml", "cluster:\n  k: many\n");
  expect_error(ExitCode::config, {"config.yaml:2:6", "cluster.k", "whole number", "many"}, [&] { small.config({}); });
  const SmallRun other;
  expect_error(ExitCode::config, {"--set assemble.share=2", "1"}, [&] { other.config({"assemble.share=2"}); });
}

TEST(BadInput, MissingFiles) {
  const SmallRun small;
  expect_error(ExitCode::input, {"model.weights", "nowhere.safetensors"},
               [&] { Pipeline(small.config({"model.weights=" + small.file("nowhere.safetensors").string()})); });
  expect_error(ExitCode::input, {"nothing-idx3"},
               [&] { Pipeline(small.config({"data.validation.source=" + small.file("nothing-idx3").string()})); });
}

TEST(BadInput, TensorsThatDoNotFitNameTheTensorAndBothShapes) {
  const SmallRun small;
  model::VitParams vit{
      .image_size = 8, .patch_size = 2, .channels = 1, .width = 16, .depth = 2, .heads = 2, .hidden = 32, .classes = 4};
  model::TensorMap tensors = model::initial_vit_tensors(vit, 1);
  tensors["head.weight"] = at::zeros({5, 16});
  model::save_weights(small.file("foreign.safetensors"), tensors, {});
  const std::vector<std::string> settings{"model.weights=" + small.file("foreign.safetensors").string(),
                                          "model.name=foreign",
                                          "model.image_size=8",
                                          "model.patch_size=2",
                                          "model.channels=1",
                                          "model.width=16",
                                          "model.depth=2",
                                          "model.heads=2",
                                          "model.hidden=32",
                                          "model.classes=4",
                                          "model.resize=0"};
  expect_error(ExitCode::model, {"foreign.safetensors", "head.weight", "[5, 16]", "[4, 16]"},
               [&] { run_stages(small.config(settings), 2, 1, {"collect"}); });
  tensors.erase("head.weight");
  model::save_weights(small.file("foreign.safetensors"), tensors, {});
  expect_error(ExitCode::model, {"head.weight", "missing"},
               [&] { run_stages(small.config(settings), 1, 1, {"collect"}); });
}

TEST(BadInput, NotANumberInWeightsAndActivations) {
  const SmallRun small;
  model::VitParams vit{
      .image_size = 8, .patch_size = 2, .channels = 1, .width = 16, .depth = 2, .heads = 2, .hidden = 32, .classes = 4};
  model::ModelDescription description{"small", vit, {.resize = 0, .crop = 8, .channels = 1}};
  model::TensorMap tensors = model::initial_vit_tensors(vit, 1);
  tensors["blocks.1.mlp.fc1.bias"][3] = std::numeric_limits<float>::quiet_NaN();
  moe::save_model(small.file("nan.safetensors"), description, tensors);
  expect_error(ExitCode::numerics, {"nan.safetensors", "blocks.1.mlp.fc1.bias"}, [&] {
    run_stages(small.config({"model.weights=" + small.file("nan.safetensors").string()}), 2, 1, {"collect"});
  });
  tensors["blocks.1.mlp.fc1.bias"][3] = 1e6F;  // finite in float32, not in float16
  moe::save_model(small.file("huge.safetensors"), description, tensors);
  expect_error(ExitCode::numerics, {"layer 1", "neuron 3", "image 0"}, [&] {
    run_stages(small.config({"model.weights=" + small.file("huge.safetensors").string()}), 3, 1, {"collect"});
  });
}

TEST(BadInput, MoreClustersThanRows) {
  const SmallRun small;
  expect_error(ExitCode::input, {"100000", "480"},
               [&] { run_stages(small.config({"cluster.k=100000"}), 2, 1, {"cluster"}); });
  EXPECT_EQ(content(run_stages(small.config({}), 1, 1, {"collect"}).at("collect")).size(), 4u)
      << "what was collected is kept";
}

TEST(BadInput, TargetsThatCannotBeMetNameTheNearest) {
  const SmallRun small;
  expect_error(ExitCode::config, {"assemble.target_macs", "0.01", "smallest"},
               [&] { run_stages(small.config({"assemble.target_macs=0.01"}), 1, 1, {"assemble"}); });
  expect_error(ExitCode::config, {"target_active", "target_macs"},
               [&] { run_stages(small.config({"assemble.target_active=0.5"}), 1, 1, {"assemble"}); });
  expect_error(ExitCode::config, {"assemble.target_parameters", "0.01", "smallest"}, [&] {
    run_stages(
        small.config({"assemble.target_macs=null", "assemble.target_parameters=0.01", "assemble.method=least_squares"}),
        2, 1, {"assemble"});
  });
}

TEST(BadInput, TheNearestTargetIsOneThatIsMet) {
  const auto message = [](const char* key, double asked, double least, bool experts) {
    try {
      fail_unmet(key, asked, least, experts);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::config);
      return std::string(error.what());
    }
  };
  const auto says = [&](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text << "\nlacks: " << part;
  };
  says(message("assemble.target_macs", 0.4, 0.438241, true), "cost 0.4383. Ask for that or more");
  says(message("assemble.target_macs", 0.4, 0.4382, true), "cost 0.4382.");
  says(message("assemble.target_macs", 0.4, 0.99996, true), "cost 1. Ask for that");
  says(message("assemble.target_macs", 1, 1.0051, true), "cost 1.006. That is more than the dense model");
  says(message("assemble.target_parameters", 1.2, 1.0051, true), "cost 1.006. Ask for that or more");
  says(message("assemble.target_macs", 0.4, 1, false), "assemble.one_cluster");
}

TEST(BadInput, DamagedLeftoversAreMadeAgain) {
  const SmallRun small;
  const RunConfig config = small.config({"assemble.method=least_squares", "cluster.tap=x"});
  const auto folders = run_stages(config, 1, 1, {"moments"});
  for (const char* stage : {"cluster", "moments"}) {
    const std::filesystem::path folder = folders.at(stage);
    const auto before = content(folder);
    for (const char* name : {"DONE", "manifest.json"}) std::filesystem::remove(folder / name);
    const std::filesystem::path damaged = folder / "layer-001.safetensors";
    std::fstream file(damaged, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-9, std::ios::end);
    const char byte = static_cast<char>(file.peek());
    file.seekp(-9, std::ios::end);
    file.put(static_cast<char>(byte ^ 1));
    file.close();
    ASSERT_NE(content(folder), before);
    for (const int ranks : {1, 2}) {
      EXPECT_EQ(content(run_stages(config, ranks, 1, {stage}).at(stage)), before) << stage;
    }
  }
}

TEST(BadInput, MoreClassesThanTheModelKnowsAreFoundBeforeAnyWork) {
  const SmallRun small;
  small.write("validation.csv", "file,label\na.png,0\nb.png,9\n");
  small.write("a.png", "");
  small.write("b.png", "");
  expect_error(ExitCode::input, {"data.validation.source", "10 classes", "knows 4"},
               [&] { Pipeline(small.config({"data.validation.source=" + small.file("validation.csv").string()})); });
}

TEST(BadInput, ChoicesThatDoNotGoTogether) {
  const SmallRun small;
  const auto expect = [&](const std::vector<std::string>& settings, const std::vector<std::string>& parts) {
    expect_error(ExitCode::config, parts, [&] { Pipeline(small.config(settings)); });
  };
  expect({"assemble.storage=own_output"}, {"assemble.storage", "own_output", "least_squares"});
  expect({"assemble.storage=low_rank"}, {"assemble.storage", "low_rank", "least_squares"});
  expect({"assemble.score=elimination", "assemble.statistics=recorded"}, {"assemble.statistics", "streamed"});
  expect({"assemble.compensation=least_squares", "assemble.statistics=recorded"}, {"assemble.statistics", "streamed"});
  expect({"router.class_token=dense"}, {"router.class_token", "assemble.statistics"});
  expect({"router.kind=random", "router.top_k=2"}, {"router.top_k"});
  expect({"assemble.target_macs=null", "assemble.budget=threshold"}, {"budget", "target_macs"});
  expect({"assemble.method=least_squares", "assemble.target_macs=null"}, {"budget", "target_active"});
  expect({"assemble.method=least_squares", "moments.products=diagonal"}, {"moments.products", "full"});
}

/// The moments stage's file of the first layer, changed before the assembly. Returns what is told of the layers.
nlohmann::json with_moments(const SmallRun& small, const std::vector<std::string>& settings,
                            const std::function<void(LayerMoments&)>& change, ExitCode code,
                            const std::vector<std::string>& parts) {
  const RunConfig config = small.config(settings);
  const auto folders = run_stages(config, 1, 1, {"moments"});
  const Pipeline pipeline(config);
  const AssemblyChoices choices = settle(config.assemble, config.router, true);
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  nlohmann::json facts;
  comm::run_threads(2, [&](comm::Communicator& comm) {
    Workers workers(1, [] { at::set_num_threads(1); });
    run::Context context{comm, workers, run::make_logger(1, 2, false)};
    AssembleInputs inputs{model, {}, {}, folders.at("moments"), "the model"};
    inputs.tap = "x";
    const MomentsOf moments = [&](std::int64_t layer) {
      LayerMoments m = load_layer_moments(folders.at("moments"), layer);
      m.identity = "the model";
      change(m);
      return m;
    };
    model::TensorMap tensors = model.tensors;
    if (parts.empty()) {
      FittedModel fitted = fit_experts(choices, inputs, moments, context, tensors);
      if (comm.is_root()) facts = std::move(fitted.facts);
      for (const auto& [name, tensor] : tensors)
        EXPECT_TRUE(!tensor.is_floating_point() || at::isfinite(tensor).all().item<bool>()) << name;
    } else {
      try {
        fit_experts(choices, inputs, moments, context, tensors);
        ADD_FAILURE() << "no error";
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), code);
        for (const std::string& part : parts)
          EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    }
  });
  return facts;
}

const std::vector<std::string> kFitted{"assemble.method=least_squares", "assemble.storage=own_output", "cluster.tap=x",
                                       "moments.micro_batch=4"};

TEST(BadInput, StatisticsThatAreNotTheModels) {
  const SmallRun small;
  with_moments(small, kFitted, [](LayerMoments& m) { m.identity = "another"; }, ExitCode::input,
               {"another model", "another instead of the model"});
  with_moments(small, kFitted, [](LayerMoments& m) { m.tap = "h"; }, ExitCode::input,
               {"another tap", "h instead of x"});
  with_moments(small, kFitted,
               [](LayerMoments& m) {
                 m.router.keys = at::zeros({3, 5});
               },
               ExitCode::input, {"another model", "5 inputs"});
  with_moments(small, kFitted,
               [](LayerMoments& m) {
                 for (moe::SecondMoments& e : m.experts) e.covariance = at::Tensor();
               },
               ExitCode::input, {"moments.products", "full"});
  with_moments(small, kFitted,
               [](LayerMoments& m) {
                 m.prefix_apart = false;
                 m.experts.pop_back();
               },
               ExitCode::input, {"router.class_token"});
}

TEST(BadInput, SingularAndEmptyStatisticsAreDefined) {
  const SmallRun small;
  const auto singular = [](LayerMoments& m) {
    for (moe::SecondMoments& e : m.experts) {
      e.covariance = at::ones_like(e.covariance);  // of rank one
      e.variance = at::ones_like(e.variance);
    }
  };
  with_moments(small, kFitted, singular, ExitCode::ok, {});
  const auto emptied = [](LayerMoments& m) {
    moe::SecondMoments& e = m.experts.front();
    e = {0, 0.0, at::zeros_like(e.mean), at::zeros_like(e.covariance), at::zeros_like(e.variance)};
    m.token_share[1] += m.token_share[0];
    m.token_share[0] = 0;
  };
  with_moments(small, kFitted, emptied, ExitCode::ok, {});
  std::vector<std::string> with_minimum = kFitted;
  with_minimum.push_back("assemble.min_tokens=100000");
  const nlohmann::json facts = with_moments(small, with_minimum, emptied, ExitCode::ok, {});
  EXPECT_EQ(facts["layers"][0]["experts_of_few_tokens"], facts["layers"][0]["rows"].size());
}

TEST(BadInput, ShardsOfAnotherModelAndAnUnrecordedTap) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const auto folders = run_stages(config, 1, 1, {"cluster"});
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  comm::run_threads(1, [&](comm::Communicator& comm) {
    Workers workers(1, [] { at::set_num_threads(1); });
    run::Context context{comm, workers, run::make_logger(1, 1, false)};
    const AssembleInputs inputs{
        model, shard_paths(folders.at("collect"), 60, config.collect), folders.at("cluster"), {}, "another hash"};
    expect_error(ExitCode::input, {"another model", "another hash"}, [&] {
      assemble_experts(settle(config.assemble, config.router, true), inputs, context, small.file("assembled"));
    });
  });
}

TEST(BadInput, StagesWithoutWhatTheyNeed) {
  const SmallRun small;
  expect_error(ExitCode::config, {"data.calibration.source"},
               [&] { Pipeline(small.config({"data.calibration.source="})).nodes_of("collect"); });
  expect_error(ExitCode::config, {"model.weights", "nothing to train"},
               [&] { Pipeline(small.config({})).nodes_of("train"); });
  expect_error(ExitCode::config, {"assemble.statistics", "streamed"},
               [&] { Pipeline(small.config({})).nodes_of("moments"); });
  expect_error(ExitCode::config, {"vit_tiny_patch16_224"}, [&] {
    Pipeline(small.config({"model.weights=", "model.name=vit_tiny_patch16_225"}));
  });
}

TEST(BadInput, TruncatedImagesStopOrAreSkippedAndCounted) {
  const SmallRun small;
  std::filesystem::create_directories(small.file("pictures/a"));
  std::filesystem::create_directories(small.file("pictures/b"));
  const auto golden = std::filesystem::path(MOEXTRACT_SOURCE_DIR) / "tests/golden/images";
  std::vector<std::filesystem::path> jpegs;
  for (const auto& entry : std::filesystem::directory_iterator(golden)) {
    if (entry.path().extension() == ".jpg" || entry.path().extension() == ".jpeg") jpegs.push_back(entry.path());
  }
  ASSERT_FALSE(jpegs.empty());
  for (int i = 0; i < 6; ++i)
    std::filesystem::copy_file(jpegs.front(), small.file(fmt::format("pictures/{}/{}.jpg", i % 2 ? "a" : "b", i)));
  const auto broken = small.file("pictures/a/3.jpg");
  std::filesystem::resize_file(broken, std::filesystem::file_size(broken) / 2);
  const std::string source = "data.calibration.source=" + small.file("pictures").string();
  const std::vector<std::string> common{source, "model.resize=8", "model.resize_mode=squash", "cluster.k=2"};
  std::vector<std::string> settings = common;
  expect_error(ExitCode::input, {"3.jpg", "data.on_bad_image"},
               [&] { run_stages(small.config(settings), 2, 1, {"collect"}); });
  settings.insert(settings.end(), {"data.on_bad_image=skip", "data.max_bad_share=0.1"});
  expect_error(ExitCode::input, {"1 of 6", "data.max_bad_share"},
               [&] { run_stages(small.config(settings), 2, 1, {"collect"}); });
  settings.back() = "data.max_bad_share=0.2";
  const RunConfig config = small.config(settings);
  run_stages(config, 2, 1, {"collect"});
  EXPECT_EQ(Pipeline(config).graph().manifest("collect")["counts"]["skipped"], 1);
  EXPECT_EQ(Pipeline(config).graph().manifest("collect")["counts"]["images"], 5);
  // Each of them is named in a file, also if the shards were found.
  const std::filesystem::path folder = Pipeline(config).graph().folder("collect");
  const auto before = content(folder);
  const nlohmann::json named = read_json(folder / kBadImagesFile).at("images");
  ASSERT_EQ(named.size(), 1u);
  EXPECT_EQ(named[0].at("name"), "a/3.jpg");
  EXPECT_EQ(named[0].at("index"), 1);  // after a/1.jpg
  const std::string why = named[0].at("why");
  EXPECT_NE(why.find("damaged JPEG"), std::string::npos) << why;
  EXPECT_EQ(why.find(small.folder().string()), std::string::npos) << "the place of the set determines nothing: " << why;
  for (const char* gone : {"DONE", "manifest.json", kBadImagesFile}) std::filesystem::remove(folder / gone);
  run_stages(config, 1, 1, {"collect"});
  EXPECT_EQ(content(folder), before);
  EXPECT_EQ(Pipeline(config).graph().manifest("collect")["counts"]["shards_found"], 1);
  // A finished artefact is asked again whether it may be used, by all that read it.
  settings.back() = "data.max_bad_share=0.1";
  for (const char* stage : {"collect", "cluster"}) {
    expect_error(ExitCode::input,
                 {"1 of 6", "data.max_bad_share allows (0.1)", "3.jpg", "all are named in", kBadImagesFile},
                 [&] { run_stages(small.config(settings), 2, 1, {stage}); });
  }
  EXPECT_EQ(Pipeline(config).graph().state("collect"), run::ArtefactState::done);
  std::filesystem::remove(folder / kBadImagesFile);
  check_bad_share({{"images", 5}, {"skipped", 1}}, 0.2, folder);
  expect_error(ExitCode::input, {"1 of 6", "see the warnings above"}, [&] {
    check_bad_share({{"images", 5}, {"skipped", 1}}, 0.1, folder);
  });
}

TEST(BadInput, EveryBadPictureIsNamedWhateverRankMetIt) {
  const SmallRun small;
  std::string table = "file,label\n";
  const std::string good =
      read_text_file(std::filesystem::path(MOEXTRACT_SOURCE_DIR) / "tests/golden/images/grey_1bit.png");
  for (int i = 0; i < 40; ++i) {
    const std::string name = fmt::format("{:02}.png", i);
    small.write(name, i % 3 == 1 ? "no picture" : good);
    table += fmt::format("{},{}\n", name, i % 4);
  }
  small.write("set.csv", table);
  std::map<std::string, std::string> first;
  for (const int ranks : {1, 2, 4}) {
    const RunConfig config = small.config(
        {"data.calibration.source=" + small.file("set.csv").string(), "model.resize=8", "model.resize_mode=squash",
         "data.on_bad_image=skip", "data.max_bad_share=0.5", "collect.images_per_shard=8"},
        "store" + std::to_string(ranks));
    const std::filesystem::path folder = run_stages(config, ranks, 2, {"collect"}).at("collect");
    const nlohmann::json named = read_json(folder / kBadImagesFile).at("images");
    ASSERT_EQ(named.size(), 13u);
    for (std::size_t i = 0; i < named.size(); ++i) {
      EXPECT_EQ(named[i].at("index"), 3 * i + 1);
      EXPECT_EQ(named[i].at("name"), fmt::format("{:02}.png", 3 * i + 1));
    }
    if (ranks == 1) first = content(folder);
    EXPECT_EQ(content(folder), first);
  }
}

TEST(BadInput, AFolderOfAnotherConfigurationIsLeftAlone) {
  const SmallRun small;
  const std::filesystem::path folder = small.file("run");
  run::claim_run_folder(folder, Pipeline(small.config({})).identity(), nlohmann::json::object());
  run::claim_run_folder(folder, Pipeline(small.config({})).identity(), nlohmann::json::object());
  expect_error(ExitCode::conflict, {"cluster.k", "3 there", "5 now", "run.folder"}, [&] {
    run::claim_run_folder(folder, Pipeline(small.config({"cluster.k=5"})).identity(), nlohmann::json::object());
  });
}

}  // namespace
}  // namespace moextract::stages::test
