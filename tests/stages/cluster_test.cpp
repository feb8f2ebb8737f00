// Clustering of shards, stopped and killed inside a layer: it goes on from the iteration that was saved.
#include "stages/cluster/cluster.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <mutex>

#include "comm/backends.h"
#include "run/log.h"
#include "stages/cluster/layer_state.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using cluster::KMeansState;

KMeansState some_state() {
  KMeansState state{.start = 1, .iteration = 2, .centroids = {1, 2, 3, 4}, .previous = {5, 6, 7, 8}};
  state.history = {
      {.iteration = 1, .inertia = 0.1, .shift = 1e300, .moved = 5, .smallest = 1, .largest = 4, .seconds = 2},
      {.iteration = 2, .inertia = 1.0 / 3, .shift = 0, .moved = 0, .smallest = 2, .largest = 3, .seconds = 1}};
  state.empty_refilled = 3;
  state.best = {9, 10, 11, -0.0f};
  state.best_history = {{.iteration = 1, .inertia = 7}};
  state.best_converged = true;
  state.best_refilled = 4;
  return state;
}

void expect_equal(const std::vector<cluster::KMeansIteration>& a, const std::vector<cluster::KMeansIteration>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].iteration, b[i].iteration);
    EXPECT_EQ(a[i].inertia, b[i].inertia);
    EXPECT_EQ(a[i].shift, b[i].shift);
    EXPECT_EQ(a[i].moved, b[i].moved);
    EXPECT_EQ(a[i].smallest, b[i].smallest);
    EXPECT_EQ(a[i].largest, b[i].largest);
    EXPECT_EQ(a[i].seconds, b[i].seconds);
  }
}

void expect_equal(const KMeansState& a, const KMeansState& b) {
  EXPECT_EQ(a.start, b.start);
  EXPECT_EQ(a.iteration, b.iteration);
  EXPECT_EQ(a.centroids, b.centroids);
  EXPECT_EQ(a.previous, b.previous);
  EXPECT_EQ(a.best, b.best);
  EXPECT_EQ(a.empty_refilled, b.empty_refilled);
  EXPECT_EQ(a.converged, b.converged);
  EXPECT_EQ(a.best_converged, b.best_converged);
  EXPECT_EQ(a.best_refilled, b.best_refilled);
  expect_equal(a.history, b.history);
  expect_equal(a.best_history, b.best_history);
}

std::string message_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(LayerState, ComesBackFromItsFileOnAllRanks) {
  const SmallRun small;
  const fs::path path = layer_state_path(small.folder(), 3);
  EXPECT_FALSE(load_layer_state(path, "a/3"));
  const KMeansState state = some_state();
  save_layer_state(path, "a/3", state, 2);
  expect_equal(*load_layer_state(path, "a/3"), state);
  comm::run_threads(3, [&](comm::Communicator& comm) {
    std::optional<KMeansState> mine;
    share_layer_state(mine, comm);
    EXPECT_FALSE(mine);
    if (comm.rank() == 0) mine = load_layer_state(path, "a/3");
    if (comm.rank() == 2) mine = KMeansState{.start = 7};  // is ignored
    share_layer_state(mine, comm);
    ASSERT_TRUE(mine);
    expect_equal(*mine, state);
  });
  const KMeansState first{.centroids = {1, 2, 3, 4}};
  save_layer_state(path, "a/3", first, 2);
  expect_equal(*load_layer_state(path, "a/3"), first);
}

TEST(LayerState, DamagedAndForeignFilesAreNamed) {
  const SmallRun small;
  const fs::path path = layer_state_path(small.folder(), 0);
  save_layer_state(path, "a/0", some_state(), 2);
  EXPECT_NE(message_of([&] { load_layer_state(path, "a/1"); }).find("of another artefact or layer"), std::string::npos);
  for (const std::uintmax_t size : {std::uintmax_t{0}, std::uintmax_t{100}, fs::file_size(path) - 1}) {
    fs::resize_file(path, size);
    const std::string message = message_of([&] { load_layer_state(path, "a/0"); });
    EXPECT_NE(message.find("layer-000.state.safetensors"), std::string::npos) << message;
    save_layer_state(path, "a/0", some_state(), 2);
  }
}

struct Stopped {
  int ranks = 0;        ///< of them, those that left with ExitCode::resume
  std::string message;  ///< rank 0's
};

/// Runs the stage on `ranks` ranks into `folder`; rank `asked`'s question number `at` (from 1) is answered with yes.
Stopped run_cluster(const RunConfig& config, const fs::path& folder, int ranks, int asked, int at,
                    const Device& device = {}) {
  Stopped stopped;
  std::mutex mutex;
  const fs::path collected = Pipeline(config).graph().folder("collect");
  const std::vector<fs::path> shards = shard_paths(collected, 60, config.collect);
  comm::run_threads(ranks, [&](comm::Communicator& comm) {
    Workers workers(1);
    run::Context context{comm, workers, run::make_logger(1, ranks, false)};
    context.device = device;
    int question = 0;
    context.should_stop = [&] { return ++question == at && comm.rank() == asked; };
    try {
      cluster_layers(config.cluster, {shards, 2}, context, folder);
    } catch (const UserError& error) {
      const std::lock_guard lock(mutex);
      EXPECT_EQ(error.code(), ExitCode::resume) << error.what();
      ++stopped.ranks;
      if (comm.rank() == 0) stopped.message = error.what();
    }
  });
  return stopped;
}

class ClusterStage : public testing::Test {
 protected:
  ClusterStage()
      : config_(small_.config({"cluster.n_init=2", "cluster.tolerance=0", "cluster.checkpoint_seconds=0",
                               "collect.tokens_per_image=0", "cluster.k=5", "cluster.max_iterations=6"})) {
    run_stages(config_, 1, 1, {"collect"});
    run_cluster(config_, folder("whole"), 1, 0, -1);
  }
  fs::path folder(const std::string& name) const {
    fs::create_directories(small_.file(name) / "cluster-0123456789abcdef");
    return small_.file(name) / "cluster-0123456789abcdef";
  }
  /// Up to the end, on other numbers of ranks each time.
  void finish_and_compare(const fs::path& place, int ranks) const {
    EXPECT_EQ(run_cluster(config_, place, ranks, 0, -1).ranks, 0);
    EXPECT_EQ(content(place), content(folder("whole")));
  }
  SmallRun small_;
  RunConfig config_;
};

TEST_F(ClusterStage, StoppedAnywhereItEndsWithTheSameBytesOnAnyRanks) {
  int inside = 0;
  // Within the first layer, at its end, within the second.
  for (const int at : {1, 2, 3, 6, 8, 9, 11, 15, 17, 18, 19, 22, 24}) {
    const int ranks = 1 + at % 4;
    SCOPED_TRACE(fmt::format("question {} of the last of {} ranks", at, ranks));
    const fs::path place = folder("stopped" + std::to_string(at));
    const Stopped stopped = run_cluster(config_, place, ranks, ranks - 1, at);
    if (stopped.ranks == 0) {  // asked in a pass that is no iteration: not obeyed before the next one
      EXPECT_EQ(content(place), content(folder("whole")));
      continue;
    }
    EXPECT_EQ(stopped.ranks, ranks);
    EXPECT_NE(stopped.message.find("Run the same command again to go on"), std::string::npos) << stopped.message;
    if (stopped.message.find("and of the next one") != std::string::npos) {
      ++inside;
      EXPECT_TRUE(fs::exists(layer_state_path(place, 0)) || fs::exists(layer_state_path(place, 1)));
    }
    finish_and_compare(place, 1 + (at + 1) % 4);
  }
  EXPECT_GE(inside, 6);
}

TEST_F(ClusterStage, HdbscanStoppedAnywhereBeginsTheLayerAnewToTheSameBytes) {
  for (const bool by_kmeans : {false, true}) {
    config_.cluster.method = by_kmeans ? ClusterMethod::kmeans : ClusterMethod::hdbscan;
    if (by_kmeans) config_.cluster.automatic_k = AutomaticK::hdbscan;
    config_.cluster.hdbscan = {.min_cluster_size = 12, .min_samples = 3, .pca_components = 6, .sample_rows = 300};
    config_.cluster.held_back_rows = 40;
    const std::string method = by_kmeans ? "counted" : "hdbscan";
    run_cluster(config_, folder(method), 1, 0, -1);
    int inside = 0;
    for (int at = 1;; at += by_kmeans ? 5 : 2) {
      const int ranks = 1 + at % 4;
      SCOPED_TRACE(fmt::format("{}: question {} of the last of {} ranks", method, at, ranks));
      const fs::path place = folder(fmt::format("{}-{}", method, at));
      const Stopped stopped = run_cluster(config_, place, ranks, ranks - 1, at);
      if (stopped.ranks > 0) {
        EXPECT_EQ(stopped.ranks, ranks);
        EXPECT_NE(stopped.message.find("Run the same command again to go on"), std::string::npos) << stopped.message;
        if (stopped.message.find("HDBSCAN begins the next one anew") != std::string::npos) ++inside;
        EXPECT_EQ(run_cluster(config_, place, 1 + (at + 1) % 4, 0, -1).ranks, 0);
      }
      EXPECT_EQ(content(place), content(folder(method)));
      if (stopped.ranks == 0) break;
      ASSERT_LT(at, 200);
    }
    EXPECT_GE(inside, by_kmeans ? 2 : 6);
  }
}

TEST_F(ClusterStage, GivesTheSameBytesByADevicesOperators) {
  const Device device{DeviceKind::libtorch_cpu};
  for (const std::int64_t kept : {std::int64_t{0}, std::int64_t{1} << 30}) {
    config_.cluster.device_bytes = kept;
    const fs::path place = folder("device" + std::to_string(kept));
    EXPECT_EQ(run_cluster(config_, place, 2, 1, 6, device).ranks, 2);  // stopped on the way
    EXPECT_EQ(run_cluster(config_, place, 3, 0, -1, device).ranks, 0);
    EXPECT_EQ(content(place), content(folder("whole")));
  }
}

TEST_F(ClusterStage, AKilledRunLeavesTheStateOfItsLastIteration) {
  // What a kill leaves is what a copy of the folder at that time holds.
  const fs::path place = folder("killed");
  run_cluster(config_, place, 2, 0, 6);
  const fs::path state = layer_state_path(place, 0);
  ASSERT_TRUE(fs::exists(state));
  const std::string key = place.filename().string() + "/0";
  EXPECT_GT(load_layer_state(state, key)->iteration, 0);
  finish_and_compare(place, 3);
  EXPECT_FALSE(fs::exists(state));
}

TEST_F(ClusterStage, ADamagedOrForeignStateIsNotUsed) {
  for (const bool foreign : {false, true}) {
    const fs::path place = folder(foreign ? "foreign" : "damaged"), state = layer_state_path(place, 0);
    run_cluster(config_, place, 2, 0, 6);
    ASSERT_TRUE(fs::exists(state));
    if (foreign) {
      save_layer_state(state, "cluster-fedcba9876543210/0", some_state(), 2);
    } else {
      fs::resize_file(state, fs::file_size(state) / 2);
    }
    finish_and_compare(place, 2);
  }
}

TEST_F(ClusterStage, ALeftoverStateOfAFinishedLayerGoes) {
  const fs::path place = folder("leftover");
  fs::copy(folder("whole"), place, fs::copy_options::recursive);
  std::ofstream(layer_state_path(place, 0)) << "a kill between two steps";
  finish_and_compare(place, 2);
}

}  // namespace
}  // namespace moextract::stages::test
