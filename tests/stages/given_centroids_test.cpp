// cluster.init: given, and the other settings of k-means' start, through configuration and stage.
#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "run/log.h"
#include "stages/cluster/cluster.h"
#include "stages/cluster/given_centroids.h"
#include "store/safetensors.h"
#include "store/shard_rows.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kWidth = 16, kClusters = 3;

/// Other values of each layer, within the reach of the rows.
std::vector<float> some_centroids(std::int64_t layer) {
  std::vector<float> values;
  for (std::int64_t i = 0; i < kClusters * kWidth; ++i)
    values.push_back(static_cast<float>((i * 37 + layer * 11) % 23) / 16.0f - 0.7f);
  return values;
}

void write_centroids(const fs::path& path, const std::map<std::string, std::vector<float>>& layers,
                     std::int64_t k = kClusters) {
  std::map<std::string, store::TensorView> tensors;
  for (const auto& [name, values] : layers) {
    store::TensorView view;
    view.type = store::TensorType::f32;
    view.shape = {k, static_cast<std::int64_t>(values.size()) / k};
    view.data = std::as_bytes(std::span(values));
    tensors.emplace(name, view);
  }
  store::write_safetensors(path, tensors, {});
}

class GivenCentroids : public testing::Test {
 protected:
  GivenCentroids() { write_centroids(file_, good()); }
  static std::map<std::string, std::vector<float>> good() {
    return {{"centroids.0", some_centroids(0)}, {"centroids.1", some_centroids(1)}};
  }
  std::vector<std::string> settings(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"cluster.tap=x", "cluster.init=given", "cluster.centroids=" + file_.string(),
                               "cluster.max_iterations=4", "cluster.tolerance=0"});
    return more;
  }
  void refuses(ExitCode code, const std::vector<std::string>& more, const std::vector<std::string>& parts) const {
    try {
      Pipeline(small_.config(settings(more)));
      ADD_FAILURE() << "no error";
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      for (const std::string& part : parts)
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what() << "\nlacks: " << part;
    }
  }
  SmallRun small_;
  fs::path file_ = small_.file("given.safetensors");
};

TEST_F(GivenCentroids, AreWhereEachLayerStarts) {
  const RunConfig config = small_.config(settings(), "one");
  const auto one = run_stages(config, 1, 1, {"cluster"});
  const auto three = run_stages(small_.config(settings(), "three"), 3, 2, {"cluster"});
  EXPECT_EQ(content(one.at("cluster")), content(three.at("cluster")));
  const auto shards = store::list_shards(shard_paths(one.at("collect"), 60, config.collect));
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    // The library on the same rows.
    std::vector<std::uint16_t> rows;
    store::stream_rows(shards, layer, store::Tap::x, 100,
                       [&](std::int64_t, std::int64_t, std::span<const std::uint16_t> block) {
                         rows.insert(rows.end(), block.begin(), block.end());
                       });
    Workers workers(1);
    const cluster::KMeansFit expected = cluster::fit(cluster::MemoryRows(rows, kWidth),
                                                     {.k = kClusters,
                                                      .max_iterations = 4,
                                                      .tolerance = 0,
                                                      .init = cluster::KMeansInit::given,
                                                      .initial = some_centroids(layer)},
                                                     *comm::make_self(), workers);
    const LayerClusters found = load_layer_clusters(one.at("cluster"), layer);
    EXPECT_EQ(found.labels, expected.labels);
    EXPECT_EQ(found.summary.at("inertia"), expected.model.inertia);
    EXPECT_EQ(found.summary.at("history").at(0), expected.model.history.at(0).inertia);
  }
}

TEST_F(GivenCentroids, TheirContentIsPartOfTheAddress) {
  const auto folder = [&](const std::vector<std::string>& more) {
    return Pipeline(small_.config(settings(more))).graph().folder("cluster");
  };
  const fs::path first = folder({});
  const auto identity = Pipeline(small_.config(settings())).identity();
  fs::copy_file(file_, small_.file("copy.safetensors"));
  EXPECT_EQ(folder({"cluster.centroids=" + small_.file("copy.safetensors").string()}), first);
  EXPECT_EQ(folder({"cluster.n_init=5", "cluster.init_sample=99", "cluster.init_rounds=2"}), first) << "not read";
  EXPECT_EQ(folder({"cluster.method=hdbscan"}), folder({"cluster.method=hdbscan", "cluster.centroids="}));
  auto other = good();
  other["centroids.1"][5] += 1;
  write_centroids(file_, other);
  EXPECT_NE(folder({}), first);
  EXPECT_NE(Pipeline(small_.config(settings())).identity(), identity);
}

TEST_F(GivenCentroids, AreCheckedBeforeAnyWork) {
  refuses(ExitCode::config, {"cluster.centroids="}, {"cluster.centroids", "centroids.0"});
  refuses(ExitCode::config, {"cluster.init=random"}, {"cluster.centroids", "cluster.init"});
  refuses(ExitCode::config, {"cluster.automatic_k=silhouette"}, {"cluster.automatic_k", "cluster.init"});
  refuses(ExitCode::config, {"cluster.agreement_seeds=2"}, {"cluster.agreement_seeds", "cluster.init"});
  refuses(ExitCode::input, {"cluster.centroids=" + small_.file("nowhere.safetensors").string()},
          {"nowhere.safetensors", "does not exist"});
  refuses(ExitCode::input, {"cluster.k=4"}, {"given.safetensors", "centroids.0", "F32 [3, 16]", "F32 [4, 16]"});
  refuses(ExitCode::config, {"cluster.tap=z"}, {"cluster.init", "cluster.tap is z", "cluster another tap"});
  refuses(ExitCode::input, {"cluster.tap=h"}, {"given.safetensors", "centroids.0", "F32 [3, 16]", "F32 [3, 32]"});
  write_centroids(file_, {{"centroids.0", some_centroids(0)}});
  refuses(ExitCode::input, {}, {"given.safetensors", "no tensor centroids.1"});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity(), 7e4f}) {
    auto broken = good();
    broken["centroids.1"][2 * kWidth + 9] = bad;
    write_centroids(file_, broken);
    refuses(ExitCode::input, {}, {"given.safetensors", "centroids.1", "value 9 of centroid 2", "at most 65536"});
  }
  std::ofstream(file_) << "no tensors";
  refuses(ExitCode::input, {}, {"given.safetensors"});
}

TEST_F(GivenCentroids, AFileThatChangesMeanwhileEndsAllRanks) {
  for (const int ranks : {1, 3}) {
    write_centroids(file_, good());
    const RunConfig config = small_.config(settings(), "changed" + std::to_string(ranks));
    const auto folders = run_stages(config, 1, 1, {"collect"});
    ClusterParams params = config.cluster;
    write_centroids(file_, {{"centroids.0", some_centroids(0)}});
    std::atomic<int> ended = 0;
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      Workers workers(1);
      run::Context context{comm, workers, run::make_logger(1, ranks, false)};
      fs::create_directories(small_.file("out"));
      try {
        cluster_layers(params, {shard_paths(folders.at("collect"), 60, config.collect), 2}, context,
                       small_.file("out"));
      } catch (const UserError& error) {
        EXPECT_EQ(error.code(), ExitCode::input);
        EXPECT_NE(std::string(error.what()).find("centroids.1"), std::string::npos) << error.what();
        ++ended;
      }
    });
    EXPECT_EQ(ended, ranks);
    fs::remove_all(small_.file("out"));
  }
}

TEST(StartSettings, OversamplingIsReadByTheParallelStartAlone) {
  const SmallRun small;
  const auto folder = [&](const std::vector<std::string>& more) {
    return Pipeline(small.config(more)).graph().folder("cluster");
  };
  EXPECT_EQ(folder({"cluster.init_oversampling=2"}), folder({}));
  EXPECT_NE(folder({"cluster.init_oversampling=3"}), folder({}));
  EXPECT_EQ(folder({"cluster.init_oversampling=3", "cluster.init=random"}), folder({"cluster.init=random"}));
  EXPECT_EQ(small.config({"cluster.init_oversampling=0.5"}).cluster.kmeans.init_oversampling, 0.5);
  for (const char* bad : {"cluster.init_oversampling=0", "cluster.init_oversampling=1001"})
    EXPECT_THROW(small.config({bad}), UserError) << bad;
  // It reaches the draws: fewer candidates give other first centroids.
  const auto inertia = [&](const std::string& value) {
    const auto folders = run_stages(small.config({"cluster.k=7", "cluster.init_rounds=1", "cluster.max_iterations=1",
                                                  "cluster.init_oversampling=" + value}),
                                    2, 1, {"cluster"});
    return load_layer_clusters(folders.at("cluster"), 0).summary.at("history").at(0).get<double>();
  };
  EXPECT_NE(inertia("2"), inertia("40"));
}

}  // namespace
}  // namespace moextract::stages::test
