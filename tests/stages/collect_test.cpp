// The choice of tokens, and shards that an interrupted run left.
#include "stages/collect/collect.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "comm/backends.h"
#include "core/error.h"
#include "model/vit_params.h"
#include "run/log.h"
#include "stages/collect/collect_plan.h"
#include "store/activation_shard.h"
#include "tests/stages/gate.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

TEST(ChooseTokens, DependsOnSeedAndNameAlone) {
  const model::VitParams vit;
  const CollectParams params;
  EXPECT_EQ(choose_tokens(params, vit, "a.jpg"), choose_tokens(params, vit, "a.jpg"));
  EXPECT_NE(choose_tokens(params, vit, "a.jpg"), choose_tokens(params, vit, "b.jpg"));
  CollectParams other = params;
  other.seed = 2;
  EXPECT_NE(choose_tokens(params, vit, "a.jpg"), choose_tokens(other, vit, "a.jpg"));
}

TEST(ChooseTokens, AreDifferentAscendingAndInRange) {
  const model::VitParams vit;
  CollectParams params;
  for (const ClassToken mode : {ClassToken::sampled, ClassToken::always, ClassToken::never}) {
    params.class_token = mode;
    std::set<std::int32_t> seen;
    for (int i = 0; i < 400; ++i) {
      const std::vector<std::int32_t> tokens = choose_tokens(params, vit, std::to_string(i));
      EXPECT_EQ(tokens.size(), mode == ClassToken::always ? 17u : 16u);
      EXPECT_TRUE(std::adjacent_find(tokens.begin(), tokens.end(), std::greater_equal<>()) == tokens.end());
      EXPECT_GE(tokens.front(), mode == ClassToken::never ? 1 : 0);
      EXPECT_LT(tokens.back(), 197);
      if (mode == ClassToken::always) {
        EXPECT_EQ(tokens.front(), 0);
      }
      seen.insert(tokens.begin(), tokens.end());
    }
    EXPECT_GE(seen.size(), 196u) << "every position is drawn sooner or later";
  }
  params.tokens_per_image = 0;
  params.class_token = ClassToken::sampled;
  EXPECT_EQ(choose_tokens(params, vit, "x").size(), 197u);
}

TEST(Collect, BytesDoNotDependOnRanksThreadsOrMemory) {
  const SmallRun small;
  const auto whole = content(run_stages(small.config({}), 1, 1, {"collect"}).at("collect"));
  int store = 0;
  const auto expect_same = [&](int ranks, int threads, const std::vector<std::string>& settings) {
    const RunConfig config = small.config(settings, "store" + std::to_string(++store));
    EXPECT_EQ(content(run_stages(config, ranks, threads, {"collect"}).at("collect")), whole)
        << ranks << " ranks, " << threads << " threads";
  };
  for (const int ranks : {1, 2, 3, 4, 5}) expect_same(ranks, 2, {});  // the fifth has no shard
  for (const int threads : {2, 3, 7}) expect_same(1, threads, {});
  expect_same(1, 4, {"collect.decode_threads=2"});
  expect_same(2, 2, {"collect.decode_threads=9", "collect.memory_gb=0"});
  expect_same(1, 2, {"collect.read_threads=1"});
  expect_same(2, 1, {"collect.read_threads=5"});
}

/// Another set, whose first picture is decoded only when as many pictures as `ahead` have been read.
class HeldSet final : public data::ImageSet {
 public:
  HeldSet(const data::ImageSet& whole, std::int64_t ahead) : whole_(whole), ahead_(ahead) {
    for (std::int64_t i = 0; i < whole.size(); ++i) entries_.push_back({whole.id(i), whole.label(i), i, 64});
    classes_ = whole.classes();
    fingerprint_ = whole.fingerprint();
  }
  std::vector<std::byte> read(std::int64_t index) const override {
    if (++read_ == ahead_) gate_.open();
    return whole_.read(index);
  }
  data::Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    if (index == 0) {
      EXPECT_TRUE(gate_.wait()) << "nothing is read while a picture is decoded";
      EXPECT_EQ(read_, ahead_) << "more is read than fits into the memory";
    }
    return whole_.decode(index, bytes);
  }

 private:
  const data::ImageSet& whole_;
  std::int64_t ahead_;
  mutable std::atomic<std::int64_t> read_{0};
  mutable Gate gate_;
};

TEST(Collect, ReadsAheadOfTheDecoderWithinItsMemory) {
  const SmallRun small;
  const RunConfig config = small.config({"collect.memory_gb=0"});
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  const auto whole = data::open_image_set(config.data.calibration);
  const auto collected = [&](const data::ImageSet& images, int threads, const std::string& name) {
    std::filesystem::create_directories(small.file(name));
    comm::run_threads(1, [&](comm::Communicator& comm) {
      Workers workers(threads, [] { at::set_num_threads(1); });
      run::Context context{comm, workers, run::make_logger(1, 1, false)};
      const nlohmann::json counts =
          collect(config.collect, {.model = model, .model_hash = "m", .images = images, .micro_batch = 4}, context,
                  small.file(name));
      EXPECT_EQ(counts.at("images"), 60);
      for (const char* what : {"read", "decode", "forward", "write"})
        EXPECT_GT(counts.at("thread_seconds").at(what).get<double>(), 0) << what;
      for (const char* what : {"wait_for_reading", "wait_for_writing", "wait_for_each_other"})
        EXPECT_GE(counts.at("thread_seconds").at(what).get<double>(), 0) << what;
    });
    return content(small.file(name));
  };
  const auto expected = collected(*whole, 1, "whole");
  EXPECT_EQ(expected.size(), 4u);
  for (const int threads : {1, 2, 3}) {
    // Without memory there is room for one micro-batch more than threads.
    EXPECT_EQ(collected(HeldSet(*whole, 4 * (threads + 1)), threads, "held" + std::to_string(threads)), expected);
  }
}

TEST(Collect, StoresTheTapsThatAreAskedFor) {
  const SmallRun small;
  const auto read = [](const std::filesystem::path& folder, store::Tap tap) {
    const store::ShardReader shard(folder / "shard-000001.h5");
    std::vector<std::uint16_t> rows(static_cast<std::size_t>(shard.rows() * shard.width(1, tap)));
    if (!rows.empty()) shard.read_rows(1, tap, 0, shard.rows(), rows);
    return rows;
  };
  const auto both = run_stages(small.config({}), 1, 1, {"collect"}).at("collect");
  const auto x = run_stages(small.config({"collect.taps=x"}), 1, 2, {"collect"}).at("collect");
  const auto h =
      run_stages(small.config({"collect.taps=h", "collect.compression=deflate"}), 2, 1, {"collect"}).at("collect");
  EXPECT_EQ(read(x, store::Tap::x), read(both, store::Tap::x));
  EXPECT_EQ(read(h, store::Tap::h), read(both, store::Tap::h));
  EXPECT_TRUE(read(x, store::Tap::h).empty());
  EXPECT_TRUE(read(h, store::Tap::x).empty());
  EXPECT_EQ(std::set({x, h, both}).size(), 3u) << "other settings, other artefacts";
  // What is not recorded is missed before anything runs, with the key to change.
  const auto message = [&](const std::string& taps, const std::string& stage, const std::string& tap) -> std::string {
    try {
      Pipeline(small.config({"collect.taps=" + taps, "cluster.tap=" + tap})).nodes_of(stage);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::config);
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message("x", "collect", "h"), "");
  EXPECT_EQ(message("x", "cluster", "x"), "");
  EXPECT_NE(message("x", "cluster", "h").find("cluster needs h"), std::string::npos) << message("x", "cluster", "h");
  EXPECT_NE(message("x", "cluster", "h").find("cluster.tap"), std::string::npos);
  EXPECT_NE(message("x", "cluster", "y").find("cluster needs h"), std::string::npos) << message("x", "cluster", "y");
  EXPECT_NE(message("h", "cluster", "both").find("cluster needs x"), std::string::npos);
  EXPECT_NE(message("h", "assemble", "h").find("assemble needs x"), std::string::npos) << message("h", "assemble", "h");
  EXPECT_NE(message("h", "run", "h").find("set collect.taps to both"), std::string::npos);
}

TEST(Collect, PlanIsWhatTheRunWrites) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const std::filesystem::path folder = run_stages(config, 1, 1, {"collect"}).at("collect");
  const Pipeline pipeline(config);
  const CollectPlan plan = plan_collect(config.collect, pipeline.description(), 4, {.images = 60});
  EXPECT_EQ(plan.files, 4);
  EXPECT_EQ(plan.rows, 60 * 8);
  EXPECT_EQ(plan.bytes, 60 * 8 * (2 * (16 + 32) * 2 + 12));
  double bytes = 0;
  for (const auto& [name, hash] : content(folder))
    bytes += static_cast<double>(std::filesystem::file_size(folder / name));
  EXPECT_GT(bytes, plan.bytes);
  EXPECT_LT(bytes, plan.bytes + 4 * 16e3) << "HDF5's own is a few KB a file";
}

TEST(Collect, PlanOfImageNetOn64Ranks) {
  // DeiT-B, 16 tokens an image: the numbers of docs/scaling.md, by hand.
  const auto named = model::find_named_vit("deit_base_patch16_224");
  ASSERT_TRUE(named);
  const model::ModelDescription model{named->name, named->vit, named->preprocess};
  CollectParams params;
  const CollectPlan plan =
      plan_collect(params, model, 8, {.images = 1281167, .ranks = 64, .threads = 16, .rank_rate = 1000});
  EXPECT_EQ(plan.rows, 1281167 * 16);
  EXPECT_EQ(plan.files, 5005);                                           // of 256 images
  EXPECT_EQ(plan.bytes, 1281167.0 * 16 * (12 * (768 + 3072) * 2 + 12));  // 1.89 TB
  EXPECT_EQ(plan.rank_images, 79 * 256);                                 // 5005 shards on 64 ranks
  ASSERT_TRUE(plan.seconds);
  EXPECT_DOUBLE_EQ(*plan.seconds, 20.224);
  EXPECT_EQ(plan.underway, micro_batch_bytes(params, model, 8, 0) * 60);  // what 1 GB holds; between 17 and 65
  EXPECT_EQ(micro_batch_bytes(params, model, 8, 0), 8.0 * (3 * 224 * 224 * 4 + 16 * 12 * (768 + 3072) * 2));
  // Files that wait for the decoder count.
  EXPECT_EQ(micro_batch_bytes(params, model, 8, 1e5), micro_batch_bytes(params, model, 8, 0) + 8e5);
  EXPECT_EQ(micro_batches_underway(params, model, 8, 1e5, 16), 57);
  params.memory_gb = 0;
  EXPECT_EQ(micro_batches_underway(params, model, 8, 0, 16), 17);
  params.memory_gb = 1000;
  EXPECT_EQ(micro_batches_underway(params, model, 8, 0, 16), 65);
  params.taps = CollectTaps::x;
  EXPECT_EQ(plan_collect(params, model, 8, {.images = 100}).bytes, 100.0 * 16 * (12 * 768 * 2 + 12));
}

TEST(Collect, KeepsFinishedShardsAndMakesBrokenOnesAgain) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const auto whole = content(run_stages(config, 1, 1, {"collect"}).at("collect"));
  ASSERT_EQ(whole.size(), 4u);  // 60 pictures in shards of 16
  const std::filesystem::path folder = Pipeline(config).graph().folder("collect");
  std::filesystem::remove(folder / "DONE");
  std::filesystem::remove(folder / "shard-000000.h5");
  std::filesystem::resize_file(folder / "shard-000002.h5", 1000);
  std::ofstream(folder / "shard-000003.h5") << "something else";
  const auto kept = std::filesystem::last_write_time(folder / "shard-000001.h5");
  run_stages(config, 2, 1, {"collect"});
  EXPECT_EQ(content(folder), whole);
  EXPECT_EQ(std::filesystem::last_write_time(folder / "shard-000001.h5"), kept);
}

}  // namespace
}  // namespace moextract::stages::test
