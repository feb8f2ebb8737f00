// The trainer: the same bits on any ranks and threads, and after an interruption; what ends it.
#include "train/trainer.h"

#include <atomic>
#include <cmath>
#include <mutex>

#include "comm/backends.h"
#include "data/image_set.h"
#include "moe/assembler.h"
#include "moe/model_file.h"
#include "tests/pipeline/model/model_cases.h"
#include "train/checkpoint.h"

namespace moextract::train {
namespace {

using model::TensorMap;
using model::test::expect_error;
using model::test::same_bits;

constexpr int kImages = 30;

/// Three classes of 8x8 pictures: a bright row at a height that tells the class, and noise.
std::unique_ptr<data::ImageSet> synthetic_set(const model::test::TemporaryFolder& folder) {
  const auto big_endian = [](std::uint32_t v) {
    return std::string{static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
                       static_cast<char>(v)};
  };
  std::string images = big_endian(0x803) + big_endian(kImages) + big_endian(8) + big_endian(8);
  std::string labels = big_endian(0x801) + big_endian(kImages);
  RandomStream random(1, 1);
  for (std::uint32_t i = 0; i < kImages; ++i) {
    labels += static_cast<char>(i % 3);
    for (std::uint32_t pixel = 0; pixel < 64; ++pixel) {
      images += static_cast<char>(random.below(60) + (pixel / 8 / 2 == i % 3 ? 180 : 0));
    }
  }
  data::ImageSetParams params;
  params.source = folder.write("set-images-idx3-ubyte", images);
  folder.write("set-labels-idx1-ubyte", labels);
  return data::open_image_set(params);
}

/// The same, but every seventh picture is damaged.
class DamagedSet : public data::ImageSet {
 public:
  explicit DamagedSet(const data::ImageSet& whole) : whole_(whole) {
    for (std::int64_t i = 0; i < whole.size(); ++i) entries_.push_back({whole.id(i), whole.label(i), 0, 0});
    classes_ = whole.classes();
  }
  std::vector<std::byte> read(std::int64_t index) const override { return whole_.read(index); }
  data::Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    if (index % 7 == 0) throw data::ImageError(id(index) + ": truncated");
    return whole_.decode(index, bytes);
  }

 private:
  const data::ImageSet& whole_;
};

class TrainerTest : public testing::Test {
 protected:
  TrainerTest() : images_(synthetic_set(folder_)) {
    params_.steps = 8;
    params_.batch = 10;
    params_.micro_batch = 3;  // the last one is smaller
    params_.learning_rate = 5e-3;
    params_.warmup_share = 0.25;
    params_.augment = {.flip = true, .shift = 1, .erase = 0.3};
    params_.checkpoint_every = 3;
    params_.distill_weight = 0.5;
    params_.temperature = 2;
    start_ = model::initial_vit_tensors(description_.vit, 3);
    teacher_tensors_ = model::test::random_vit_tensors(description_.vit);
    teacher_ = moe::make_network(description_, teacher_tensors_);
    // Experts in the first block, with shared rows.
    moe::ClusterMoments m;
    m.k = 2, m.hidden = 12, m.width = 8;
    m.count = {1, 1};
    m.h_mean.assign(24, 0.1);
    m.h_variance.assign(24, 1.0);
    RandomStream random(1, 1);
    for (int i = 0; i < 16; ++i) m.x_mean.push_back(random.normal());
    const std::vector<std::vector<std::int64_t>> sets{{0, 1, 2, 3, 4, 5, 6}, {4, 5, 6, 7, 8, 9}};
    moe::assemble_experts(0, m, sets, moe::Storage::shared, moe::Compensation::mean_shift, start_);
  }
  TrainingTask task() const {
    TrainingTask t;
    t.images = images_.get();
    t.preprocess = description_.preprocess;
    t.start = start_;
    t.make_network = [this](const TensorMap& tensors) { return moe::make_network(description_, tensors); };
    t.teacher = teacher_.get();
    t.checkpoint_key = "this run";
    return t;
  }
  TrainingOutcome run(const TrainingTask& task, int threads = 1) const {
    Workers workers(threads, [] { at::set_num_threads(1); });
    return train(task, params_, *comm::make_self(), workers);
  }
  /// The outcome of each rank.
  std::vector<TrainingOutcome> run_on(int ranks, int threads, const TrainingTask& task) const {
    std::vector<TrainingOutcome> outcomes(static_cast<std::size_t>(ranks));
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      Workers workers(threads, [] { at::set_num_threads(1); });
      outcomes[static_cast<std::size_t>(comm.rank())] = train(task, params_, comm, workers);
    });
    return outcomes;
  }
  static void expect_same_history(const TrainingOutcome& a, const TrainingOutcome& b) {
    ASSERT_EQ(a.history.size(), b.history.size());
    for (std::size_t i = 0; i < a.history.size(); ++i) {
      EXPECT_EQ(a.history[i].step, b.history[i].step);
      EXPECT_EQ(a.history[i].loss, b.history[i].loss);
      EXPECT_EQ(a.history[i].learning_rate, b.history[i].learning_rate);
      EXPECT_EQ(a.history[i].gradient_norm, b.history[i].gradient_norm);
    }
  }

  model::test::TemporaryFolder folder_;
  std::unique_ptr<data::ImageSet> images_;
  model::ModelDescription description_ = model::test::tiny_description();
  TrainerParams params_;
  TensorMap start_, teacher_tensors_;
  std::unique_ptr<model::Network> teacher_;
};

TEST_F(TrainerTest, SameBitsOnAnyRanksAndThreads) {
  const TrainingOutcome expected = run(task());
  ASSERT_EQ(expected.history.size(), 8u);
  EXPECT_FALSE(same_bits(expected.tensors.at("head.weight"), start_.at("head.weight")));
  for (const int ranks : {1, 2, 3, 4}) {
    for (const int threads : {1, 2}) {
      SCOPED_TRACE(fmt::format("{} ranks of {} threads", ranks, threads));
      for (const TrainingOutcome& outcome : run_on(ranks, threads, task())) {
        EXPECT_TRUE(same_bits(outcome.tensors, expected.tensors));
        expect_same_history(outcome, expected);
      }
    }
  }
}

TEST_F(TrainerTest, TheSeedCounts) {
  const TrainingOutcome expected = run(task());
  params_.seed = 2;
  EXPECT_FALSE(same_bits(run(task()).tensors, expected.tensors));
}

TEST_F(TrainerTest, KeysIndicesAndTheStartStayAsTheyAre) {
  TensorMap before;
  for (const auto& [name, tensor] : start_) before.emplace(name, tensor.clone());
  const TrainingOutcome outcome = run(task());
  EXPECT_TRUE(same_bits(start_, before));
  for (const char* name : {"router.weight", "experts.offsets", "experts.neurons", "experts.rows"}) {
    const std::string full = "blocks.0.mlp." + std::string(name);
    EXPECT_TRUE(same_bits(outcome.tensors.at(full), before.at(full))) << name;
  }
  for (const auto& [name, tensor] : outcome.tensors) {
    EXPECT_FALSE(tensor.requires_grad()) << name;
    if (tensor.is_floating_point() && !name.ends_with("router.weight")) {
      EXPECT_FALSE(same_bits(tensor, before.at(name))) << name << " was not trained";
    }
  }
}

TEST_F(TrainerTest, LearnsTheClassesFromTheirLabels) {
  params_.steps = 200;
  params_.learning_rate = 1e-2;
  params_.augment = {.flip = false};
  TrainingTask t = task();
  t.teacher = nullptr;
  const TrainingOutcome outcome = run(t, 2);
  EXPECT_GT(outcome.history.front().loss, 0.8);  // of chance, log 3
  EXPECT_LT(outcome.history.back().loss, 0.2);
  const auto network = moe::make_network(description_, outcome.tensors);
  int correct = 0;
  for (std::int64_t i = 0; i < kImages; ++i) {
    at::Tensor input = at::empty({1, 1, 8, 8});
    data::preprocess(images_->load(i), description_.preprocess, {input.data_ptr<float>(), 64});
    const at::NoGradGuard no_grad;
    correct += network->logits(input).argmax(1).item<std::int64_t>() == images_->label(i);
  }
  EXPECT_GE(correct, 28);
  RecordProperty("correct", correct);
  RecordProperty("last_loss", std::to_string(outcome.history.back().loss));
}

TEST_F(TrainerTest, AResumedRunIsTheUndisturbedOne) {
  const TrainingOutcome expected = run(task());
  for (const std::int64_t stop_at : {0, 3, 5, 7}) {
    for (const auto& [ranks, again] : {std::pair{1, 1}, std::pair{2, 3}, std::pair{3, 1}}) {
      SCOPED_TRACE(fmt::format("stopped before step {} on {} ranks, resumed on {}", stop_at + 1, ranks, again));
      const std::filesystem::path path = folder_ / fmt::format("checkpoint-{}-{}", stop_at, ranks);
      TrainingTask stopping = task();
      stopping.checkpoint = path;
      std::atomic<std::int64_t> asked = 0;
      const int of = ranks;
      // One rank alone is told to stop; all do.
      stopping.should_stop = [&asked, stop_at, of] { return ++asked == stop_at * of + 1; };
      expect_error(ExitCode::resume, {fmt::format("{} of 8 steps", stop_at)}, [&] { run_on(of, 2, stopping); });
      const auto saved = load_checkpoint(path, "this run");
      ASSERT_TRUE(saved);
      EXPECT_EQ(saved->step, stop_at);
      TrainingTask rest = task();
      rest.checkpoint = path;
      for (const TrainingOutcome& outcome : run_on(again, 1, rest)) {
        EXPECT_EQ(outcome.resumed_from, stop_at);
        EXPECT_TRUE(same_bits(outcome.tensors, expected.tensors));
        expect_same_history(outcome, expected);
      }
    }
  }
}

TEST_F(TrainerTest, AStopWithoutACheckpointDoesNotClaimThatStepsAreSaved) {
  TrainingTask stopping = task();
  stopping.should_stop = [] { return true; };
  expect_error(ExitCode::resume, {"asked to stop in step 1 of 8", "nothing is saved"}, [&] { run(stopping); });
}

TEST_F(TrainerTest, CheckpointsAreWrittenOnTheWayAndHoldTheSameBytesOnAnyRanks) {
  TrainingTask one = task(), three = task();
  one.checkpoint = folder_ / "one";
  three.checkpoint = folder_ / "three";
  run(one);
  run_on(3, 1, three);
  EXPECT_EQ(load_checkpoint(folder_ / "one", "this run")->step, 6);
  EXPECT_EQ(data::test::read(folder_ / "one"), data::test::read(folder_ / "three"));
}

TEST_F(TrainerTest, ACheckpointOfAnotherRunIsAConflict) {
  TrainingTask t = task();
  t.checkpoint = folder_ / "checkpoint";
  run(t);
  t.checkpoint_key = "another run";
  expect_error(ExitCode::conflict, {(folder_ / "checkpoint").string(), "Delete it"}, [&] { run(t); });
  expect_error(ExitCode::conflict, {"Delete it"}, [&] { run_on(2, 1, t); });
}

TEST_F(TrainerTest, ADamagedCheckpointSaysToDeleteIt) {
  TrainingTask t = task();
  t.checkpoint = folder_ / "checkpoint";
  run(t);
  const std::string whole = data::test::read(t.checkpoint);
  for (const std::string& content : {std::string(), whole.substr(0, whole.size() / 2), std::string("no checkpoint")}) {
    folder_.write("checkpoint", content);
    expect_error(ExitCode::input, {t.checkpoint.string(), "Delete it"}, [&] { run(t); });
  }
  model::save_weights(t.checkpoint, {{"a", at::zeros({1})}}, {});
  expect_error(ExitCode::input, {t.checkpoint.string(), "Delete it"}, [&] { run(t); });
  // Tensors of another model under the right key.
  Checkpoint other;
  other.key = "this run";
  other.tensors = {{"head.weight", at::zeros({1})}};
  save_checkpoint(t.checkpoint, other);
  expect_error(ExitCode::input, {t.checkpoint.string(), "Delete"}, [&] { run(t); });
}

TEST_F(TrainerTest, DivergenceIsANumericsErrorOnAllRanks) {
  params_.learning_rate = 1e8;
  params_.warmup_share = 0;
  params_.steps = 50;
  for (const int ranks : {1, 3}) {
    std::atomic<int> failed = 0;
    EXPECT_THROW(comm::run_threads(ranks,
                                   [&](comm::Communicator& comm) {
                                     Workers workers(2, [] { at::set_num_threads(1); });
                                     try {
                                       train(task(), params_, comm, workers);
                                     } catch (const UserError& error) {
                                       EXPECT_EQ(error.code(), ExitCode::numerics) << error.what();
                                       EXPECT_NE(std::string(error.what()).find("diverged"), std::string::npos);
                                       EXPECT_NE(std::string(error.what()).find("step "), std::string::npos);
                                       ++failed;
                                       throw;
                                     }
                                   }),
                 UserError);
    EXPECT_EQ(failed, ranks);
  }
}

TEST_F(TrainerTest, BadPicturesStopOrAreSkippedAndCounted) {
  const DamagedSet damaged(*images_);
  TrainingTask t = task();
  t.images = &damaged;
  expect_error(ExitCode::input, {"truncated"}, [&] { run(t); });
  expect_error(ExitCode::input, {"truncated"}, [&] { run_on(2, 1, t); });
  t.skip_bad_images = true;
  params_.steps = 6;  // two passes: each of the five damaged pictures comes up twice
  const TrainingOutcome outcome = run(t);
  EXPECT_EQ(outcome.skipped_images, 10);
  for (const TrainingOutcome& other : run_on(3, 2, t)) {
    EXPECT_EQ(other.skipped_images, 10);
    EXPECT_TRUE(same_bits(other.tensors, outcome.tensors));
  }
}

TEST_F(TrainerTest, ReportsEachStepOnRankZeroAlone) {
  TrainingTask t = task();
  std::mutex mutex;
  std::vector<std::int64_t> steps;
  t.on_step = [&](const TrainingRecord& record, std::int64_t of) {
    const std::lock_guard lock(mutex);
    steps.push_back(record.step);
    EXPECT_EQ(of, 8);
    EXPECT_GT(record.gradient_norm, 0);
  };
  run_on(3, 1, t);
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6, 7, 8}));
}

constexpr Device kThere{DeviceKind::libtorch_cpu, 0};

TEST_F(TrainerTest, OnADeviceTheStepsAreThoseOfTheCpu) {
  const TrainingOutcome plain = run(task());
  TrainingTask t = task();
  t.device = kThere;
  const TrainingOutcome there = run(t);
  ASSERT_EQ(there.history.size(), plain.history.size());
  // The same numbers but for the order of float32 sums, in pictures' patches, the teacher and AdamW.
  EXPECT_NEAR(there.history[0].gradient_norm, plain.history[0].gradient_norm, 1e-4 * plain.history[0].gradient_norm);
  for (std::size_t i = 0; i < plain.history.size(); ++i)
    EXPECT_NEAR(there.history[i].loss, plain.history[i].loss, 1e-3 * (1 + plain.history[i].loss)) << i;
  for (const auto& [name, tensor] : plain.tensors) {
    if (!tensor.is_floating_point()) {
      EXPECT_TRUE(same_bits(there.tensors.at(name), tensor)) << name;
      continue;
    }
    EXPECT_LT(model::test::largest_difference(there.tensors.at(name), tensor), 1e-2) << name << ": two full steps";
  }
  EXPECT_FALSE(same_bits(there.tensors, plain.tensors)) << "or the device was not used";
}

TEST_F(TrainerTest, OnADeviceBitsDoNotDependOnRanksThreadsOrAnInterruption) {
  TrainingTask t = task();
  t.device = kThere;
  const TrainingOutcome expected = run(t);
  for (const auto& [ranks, threads] : {std::pair{1, 2}, std::pair{2, 1}, std::pair{3, 2}}) {
    for (const TrainingOutcome& outcome : run_on(ranks, threads, t)) {
      EXPECT_TRUE(same_bits(outcome.tensors, expected.tensors)) << ranks << " ranks of " << threads << " threads";
      expect_same_history(outcome, expected);
    }
  }
  TrainingTask stopping = t;
  stopping.checkpoint = folder_ / "there";
  std::atomic<int> asked = 0;
  stopping.should_stop = [&asked] { return ++asked == 2 * 5 + 1; };
  expect_error(ExitCode::resume, {"5 of 8 steps"}, [&] { run_on(2, 1, stopping); });
  TrainingTask rest = t;
  rest.checkpoint = folder_ / "there";
  const TrainingOutcome outcome = run(rest, 2);
  EXPECT_EQ(outcome.resumed_from, 5);
  EXPECT_TRUE(same_bits(outcome.tensors, expected.tensors));
  expect_same_history(outcome, expected);
}

TEST_F(TrainerTest, OnADeviceDivergenceNamesTheTensorOrTheLoss) {
  params_.learning_rate = 1e8;
  params_.warmup_share = 0;
  params_.steps = 50;
  TrainingTask t = task();
  t.device = kThere;
  expect_error(ExitCode::numerics, {"step ", "diverged"}, [&] { run(t, 2); });
  params_.steps = 6;
  params_.learning_rate = 5e-3;
  const DamagedSet damaged(*images_);
  t.images = &damaged;
  t.skip_bad_images = true;
  EXPECT_EQ(run(t, 2).skipped_images, 10);
}

TEST(TrainingSteps, ComeFromEpochsIfNotGiven) {
  TrainerParams params;
  params.batch = 32;
  params.epochs = 2;
  EXPECT_EQ(training_steps(params, 100), 7);  // 6.25, and the rest counts
  EXPECT_EQ(training_steps(params, 32), 2);
  params.epochs = 0.5;
  EXPECT_EQ(training_steps(params, 100), 2);
  params.steps = 5;
  EXPECT_EQ(training_steps(params, 100), 5);
}

}  // namespace
}  // namespace moextract::train
