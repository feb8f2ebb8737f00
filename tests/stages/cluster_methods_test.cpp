// The cluster stage beyond k-means on h: HDBSCAN, an automatic k, other taps, and what follows it.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cluster/row_moments.h"
#include "comm/backends.h"
#include "core/file.h"
#include "core/float16.h"
#include "core/random.h"
#include "run/artefact.h"
#include "run/log.h"
#include "stages/cluster/cluster.h"
#include "stages/cluster/preactivation_map.h"
#include "stages/cluster/tried_state.h"
#include "stages/invariants.h"
#include "stages/report/report.h"
#include "store/safetensors.h"
#include "store/shard_rows.h"
#include "tests/stages/shard_rows.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const std::vector<std::string> kHdbscan{"cluster.method=hdbscan",
                                        "cluster.tap=x",
                                        "cluster.hdbscan.min_cluster_size=12",
                                        "cluster.hdbscan.min_samples=3",
                                        "cluster.hdbscan.pca_components=6",
                                        "cluster.hdbscan.sample_rows=300",
                                        "cluster.hdbscan.held_back_rows=40",
                                        "finetune.enabled=false",
                                        "baseline.enabled=false"};

std::vector<std::string> with(std::vector<std::string> settings, const std::vector<std::string>& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

json summary(const fs::path& folder, std::int64_t layer) {
  return load_layer_clusters(folder, layer).summary;
}

TEST(ClusterMethods, HdbscanGivesTheSameBytesOnAnyRanks) {
  const SmallRun small;
  const auto one = run_stages(small.config(kHdbscan, "one"), 1, 1, {"cluster"});
  for (const auto& [ranks, threads] : {std::pair{2, 2}, std::pair{3, 1}, std::pair{4, 1}}) {
    const auto other = run_stages(small.config(kHdbscan, "store" + std::to_string(ranks)), ranks, threads, {"cluster"});
    EXPECT_EQ(content(one.at("cluster")), content(other.at("cluster"))) << ranks << " ranks";
  }
  const fs::path folder = one.at("cluster");
  const json manifest = run::ArtefactStore::manifest_of(folder);
  EXPECT_EQ(manifest.at("counts").at("sampled_rows"), json({300, 300}));
  EXPECT_EQ(manifest.at("counts").at("held_back").at(0).at("rows"), 40);
  EXPECT_EQ(broken_invariants(folder, manifest), std::vector<std::string>());
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const json facts = summary(folder, layer);
    EXPECT_EQ(facts.at("method"), "hdbscan");
    EXPECT_EQ(facts.at("tree").at(0).at("size"), 300);
    const store::SafetensorsFile trees(folder / fmt::format("layer-{:03}.hdbscan.safetensors", layer));
    EXPECT_EQ(trees.tensors().at("spanning_tree.weight").shape, std::vector<std::int64_t>{299});
    EXPECT_EQ(json::parse(read_text_file(folder / fmt::format("layer-{:03}.hdbscan.json", layer))).at("sampled_rows"),
              300);
  }
}

TEST(ClusterMethods, ARunGoesThroughWithEveryNoisePolicy) {
  const SmallRun small;
  for (const std::string noise : {"nearest_centroid", "dropped", "own_cluster"}) {
    SCOPED_TRACE(noise);
    const RunConfig config = small.config(with(kHdbscan, {"cluster.hdbscan.noise=" + noise}), noise);
    const auto folders = run_stages(config, 2, 1);
    const LayerClusters clusters = load_layer_clusters(folders.at("cluster"), 0);
    const auto dropped = std::count(clusters.labels.begin(), clusters.labels.end(), -1);
    if (clusters.summary.at("clusters_found") >= 2 && noise == "dropped") {
      EXPECT_EQ(dropped, clusters.summary.at("noise_rows"));
      EXPECT_GT(dropped, 0);
    } else {
      EXPECT_EQ(dropped, 0);
    }
    if (clusters.summary.at("clusters_found") >= 2) {
      EXPECT_EQ(clusters.k, clusters.summary.at("clusters_found").get<int>() + (noise == "own_cluster" ? 1 : 0));
    }
    const Pipeline pipeline(config);
    write_report(pipeline, {}, small.file(noise + "-report"));
    EXPECT_NE(read_text_file(small.file(noise + "-report") / "report.html").find("condensed tree"), std::string::npos);
  }
}

TEST(ClusterMethods, FewerThanTwoClustersAreOneAndTheLayerStaysDense) {
  const SmallRun small;
  const auto folders =
      run_stages(small.config(with(kHdbscan, {"cluster.hdbscan.min_cluster_size=200", "assemble.target_macs=1"})), 1, 1,
                 {"cluster", "assemble"});
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const LayerClusters clusters = load_layer_clusters(folders.at("cluster"), layer);
    EXPECT_EQ(clusters.k, 1);
    EXPECT_EQ(clusters.summary.at("clusters_found"), 0);
    EXPECT_EQ(std::count(clusters.labels.begin(), clusters.labels.end(), 0), 480);
  }
}

TEST(ClusterMethods, AnAutomaticKMayDifferByLayerAndTheRunGoesThrough) {
  const SmallRun small;
  const std::vector<std::string> settings{"cluster.automatic_k=silhouette", "cluster.tap=x",
                                          "cluster.k_range.most=6",         "finetune.enabled=false",
                                          "cluster.agreement_seeds=2",      "cluster.n_init=2"};
  for (const bool fitted : {false, true}) {
    const RunConfig config = small.config(
        with(settings, fitted ? std::vector<std::string>{"assemble.method=least_squares", "assemble.storage=own_output",
                                                         "moments.micro_batch=4"}
                              : std::vector<std::string>{}),
        fitted ? "fitted" : "moee");
    const auto folders = run_stages(config, 2, 1);
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const json facts = summary(folders.at("cluster"), layer);
      const json tried = facts.at("automatic_k").at("tried");
      ASSERT_EQ(tried.size(), 5u);
      json best = tried[0];
      for (const json& one : tried) {
        if (one.at("score") > best.at("score")) best = one;
      }
      EXPECT_EQ(facts.at("k"), best.at("k"));
      EXPECT_EQ(facts.at("seed_agreement").at("each").size(), 2u);
      EXPECT_TRUE(facts.at("quality").at("silhouette").is_number());
      std::ifstream lines(folders.at("cluster") / fmt::format("layer-{:03}.iterations.jsonl", layer));
      std::string line;
      std::size_t count = 0;
      while (std::getline(lines, line)) {
        EXPECT_EQ(json::parse(line).at("inertia"), facts.at("history").at(count));
        ++count;
      }
      EXPECT_EQ(count, facts.at("history").size());
    }
  }
}

TEST(ClusterMethods, KMeansTakesHdbscansNumberOfClusters) {
  const SmallRun small;
  const auto found = run_stages(small.config(kHdbscan, "hdbscan"), 1, 1, {"cluster"}).at("cluster");
  std::vector<std::string> settings = with(kHdbscan, {"cluster.automatic_k=hdbscan"});
  std::erase(settings, "cluster.method=hdbscan");
  fs::path folder;
  for (const int ranks : {1, 3}) {
    folder = run_stages(small.config(settings, fmt::format("kmeans-{}", ranks)), ranks, 1, {"cluster"}).at("cluster");
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const json facts = summary(folder, layer);
      EXPECT_EQ(facts.at("method"), "kmeans");
      EXPECT_EQ(facts.at("k"), std::max(1, summary(found, layer).at("clusters_found").get<int>()));
      EXPECT_EQ(facts.at("automatic_k").at("criterion"), "hdbscan");
    }
  }
  EXPECT_EQ(
      run_stages(small.config(with(settings, {"cluster.k_range.most=9", "cluster.k=3", "cluster.hdbscan.noise=dropped",
                                              "cluster.hdbscan.held_back_rows=7"}),
                              "same"),
                 1, 1, {"cluster"})
          .at("cluster")
          .filename(),
      folder.filename())
      << "what is not read changes no address";
}

TEST(ClusterMethods, LayersOfDifferentKGoThroughAllStages) {
  // What an automatic choice may leave: one layer of 2, one of 5.
  const SmallRun small;
  const std::vector<std::string> fitted{"cluster.tap=x",          "assemble.method=least_squares",
                                        "finetune.enabled=false", "assemble.storage=own_output",
                                        "moments.micro_batch=4",  "baseline.enabled=false"};
  for (const bool variance : {true, false}) {
    const std::string store = variance ? "variance" : "fitted";
    const auto settings = variance ? std::vector<std::string>{"finetune.enabled=false"} : fitted;
    const RunConfig config = small.config(settings, store);
    const auto five = run_stages(small.config(with(settings, {"cluster.k=5"}), store), 1, 1, {"cluster"});
    const auto clusters = run_stages(config, 1, 1, {"cluster"});
    fs::copy_file(layer_clusters_path(five.at("cluster"), 1), layer_clusters_path(clusters.at("cluster"), 1),
                  fs::copy_options::overwrite_existing);
    fs::remove(clusters.at("cluster") / "DONE");  // as if interrupted: finished layers are kept as they are
    const auto folders = run_stages(config, 2, 1);
    const json layers = json::parse(read_text_file(folders.at("assemble/experts") / "assembly.json")).at("layers");
    EXPECT_EQ(layers[1].at("k").get<int>() - layers[0].at("k").get<int>(), 2) << layers.dump();
  }
}

template <class T>
std::vector<T> values_of(const store::SafetensorsFile& file, const std::string& name) {
  const store::TensorView& view = file.tensors().at(name);
  std::vector<T> values(view.data.size() / sizeof(T));
  std::memcpy(values.data(), view.data.data(), view.data.size());
  return values;
}

TEST(ClusterMethods, BalancedClustersAreEvenAndTheRouterKnowsTheirPrices) {
  const SmallRun small;
  const auto folders =
      run_stages(small.config({"cluster.balance=0.1", "cluster.tap=x", "cluster.max_iterations=20",
                               "finetune.enabled=false", "assemble.method=least_squares", "assemble.storage=own_output",
                               "moments.micro_batch=4", "baseline.enabled=false"}),
                 2, 1, {"assemble"});
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    const auto sizes = summary(folders.at("cluster"), layer).at("sizes").get<std::vector<std::int64_t>>();
    EXPECT_LE(*std::max_element(sizes.begin(), sizes.end()), 176);  // 1.1 * 480 / 3
    const store::SafetensorsFile clusters(layer_clusters_path(folders.at("cluster"), layer)),
        moments(folders.at("moments") / fmt::format("layer-{:03}.safetensors", layer));
    const auto centroids = values_of<float>(clusters, "centroids");
    const auto prices = values_of<double>(clusters, "prices");
    const auto bias = values_of<float>(moments, "router.bias");
    ASSERT_EQ(prices.size(), 3u);
    ASSERT_EQ(bias.size(), 3u);
    for (std::size_t c = 0; c < 3; ++c) {
      double squares = prices[c];
      for (std::size_t j = 0; j < 16; ++j) squares += std::pow(static_cast<double>(centroids[c * 16 + j]), 2);
      EXPECT_NEAR(bias[c], -0.5 * squares, 1e-6 * squares);
    }
  }
}

TEST(ClusterMethods, TriedKAreFoundAgainOnAllRanks) {
  const SmallRun small;
  const fs::path path = tried_state_path(small.folder(), 1);
  comm::run_threads(3, [&](comm::Communicator& comm) {
    Workers workers(1);
    run::Context context{comm, workers, run::make_logger(1, 3, false)};
    TriedState state(path, "a/1");
    EXPECT_TRUE(state.load(context).empty());
    comm.barrier();
    if (comm.is_root()) state.add({.k = 2, .score = 1.0 / 3, .error = 0.5, .inertia = 7});
    comm.barrier();
    const std::vector<cluster::TriedK> again = TriedState(path, "a/1").load(context);
    ASSERT_EQ(again.size(), 1u);
    EXPECT_EQ(again[0].score, 1.0 / 3);
    EXPECT_TRUE(TriedState(path, "b/1").load(context).empty());
    comm.barrier();
    if (comm.is_root()) std::ofstream(path) << "{\"version\":";
    comm.barrier();
    EXPECT_TRUE(TriedState(path, "a/1").load(context).empty());
  });
}

TEST(ClusterTaps, MappedRowsAreThoseOfLongDouble) {
  constexpr std::int64_t kRows = 37, kWidth = 5, kHidden = 23;
  RandomStream random(3, 4);
  RowMap layer{.outputs = kWidth, .inputs = kHidden, .weight = {}, .bias = {}};
  for (std::int64_t i = 0; i < kWidth * kHidden; ++i) layer.weight.push_back(static_cast<float>(random.normal()));
  for (std::int64_t i = 0; i < kWidth; ++i) layer.bias.push_back(static_cast<float>(random.normal()));
  std::vector<float> h;
  for (std::int64_t i = 0; i < kRows * kHidden; ++i) h.push_back(static_cast<float>(random.normal()));
  std::vector<std::uint16_t> bits(h.size()), y(kRows * kWidth), whole(y.size());
  to_float16(h, bits);
  from_float16(bits, h);
  for (const int threads : {1, 2}) {
    Workers workers(threads);
    map_rows(layer, bits, y, workers);
    if (threads == 1) whole = y;
    EXPECT_EQ(y, whole);
    // A part of the rows gives the part of the outputs.
    std::vector<std::uint16_t> part(3 * kWidth);
    map_rows(layer, std::span(bits).subspan(20 * kHidden, 3 * kHidden), part, workers);
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 20 * kWidth));
  }
  for (std::int64_t r = 0; r < kRows; ++r) {
    for (std::int64_t i = 0; i < kWidth; ++i) {
      long double sum = layer.bias[i];
      for (std::int64_t j = 0; j < kHidden; ++j)
        sum += static_cast<long double>(layer.weight[i * kHidden + j]) * h[r * kHidden + j];
      const float expected = static_cast<float>(sum);
      std::uint16_t rounded = 0;
      to_float16(std::span(&expected, 1), std::span(&rounded, 1));
      EXPECT_EQ(y[r * kWidth + i], rounded);
    }
  }
}

/// Rows of normal values, some columns of large mean, in float16.
std::vector<float> rows_in_float16(std::int64_t rows, std::int64_t width, std::uint64_t seed) {
  RandomStream random(seed, 1);
  std::vector<float> values;
  for (std::int64_t i = 0; i < rows * width; ++i) {
    const auto column = static_cast<double>(i % width);
    values.push_back(static_cast<float>(random.normal() * (1 + column) + 20 * column));
  }
  std::vector<std::uint16_t> bits(values.size());
  to_float16(values, bits);
  from_float16(bits, values);
  return values;
}

struct MappedRows {
  RowMap map;
  std::vector<double> rows;  // [n, width], map applied
};

/// The map that the stage makes of `x` [n, width] and `first`, on one rank; moments come from a shard.
MappedRows standardise(const std::vector<float>& x, const RowMap& first) {
  const std::int64_t width = first.inputs;
  const SmallRun small;
  const fs::path path = small.file("x.h5");
  test::write_shard(path, 0, x, width, {}, 0);
  MappedRows made;
  comm::run_threads(1, [&](comm::Communicator& comm) {
    Workers workers(2);
    const ShardRowSource source(store::list_shards(std::vector{path}), 0,
                                {.tap = ClusterTap::x, .x_width = width, .block_rows = 17}, workers);
    made.map = preactivation_map(first, cluster::stream_row_moments(source, width, false, comm, workers), workers);
  });
  const auto rows = static_cast<std::int64_t>(x.size()) / width;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t i = 0; i < width; ++i) {
      double sum = static_cast<double>(made.map.bias[i]);
      for (std::int64_t j = 0; j < width; ++j)
        sum += static_cast<double>(made.map.weight[i * width + j]) * static_cast<double>(x[r * width + j]);
      made.rows.push_back(sum);
    }
  }
  return made;
}

double squared_distance(const std::vector<double>& rows, std::int64_t width, std::int64_t a, std::int64_t b) {
  double sum = 0;
  for (std::int64_t i = 0; i < width; ++i) {
    const double difference = rows[a * width + i] - rows[b * width + i];
    sum += difference * difference;
  }
  return sum;
}

TEST(ClusterTaps, DistancesAreThoseOfStandardisedPreactivations) {
  constexpr std::int64_t kRows = 90, kWidth = 6, kHidden = 11, kDead = 4;
  const std::vector<float> x = rows_in_float16(kRows, kWidth, 5);
  RandomStream random(6, 1);
  RowMap first{.outputs = kHidden, .inputs = kWidth, .weight = {}, .bias = {}};
  for (std::int64_t i = 0; i < kHidden * kWidth; ++i)
    first.weight.push_back(i / kWidth == kDead ? 0.0f : static_cast<float>(random.normal() * (i < kWidth ? 100 : 1)));
  // Pre-activations neuron by neuron, each divided by its own deviation.
  std::vector<double> z(kRows * kHidden);
  for (std::int64_t j = 0; j < kHidden; ++j) {
    double mean = 0, squares = 0;
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t i = 0; i < kWidth; ++i)
        z[r * kHidden + j] +=
            static_cast<double>(first.weight[j * kWidth + i]) * static_cast<double>(x[r * kWidth + i]);
      mean += z[r * kHidden + j] / kRows;
    }
    for (std::int64_t r = 0; r < kRows; ++r) squares += std::pow(z[r * kHidden + j] - mean, 2);
    const double deviation = std::sqrt(squares / (kRows - 1));
    for (std::int64_t r = 0; r < kRows && j != kDead; ++r) z[r * kHidden + j] /= deviation;
  }
  const MappedRows made = standardise(x, first);
  for (std::int64_t r = 1; r < kRows; ++r) {
    const double wanted = squared_distance(z, kHidden, r, r / 2);
    EXPECT_NEAR(squared_distance(made.rows, kWidth, r, r / 2), wanted, 1e-3 * wanted) << "rows " << r << ", " << r / 2;
  }
  for (std::int64_t i = 0; i < kWidth; ++i) {
    double mean = 0;
    for (std::int64_t r = 0; r < kRows; ++r) mean += made.rows[r * kWidth + i] / kRows;
    EXPECT_NEAR(mean, 0, 1e-3) << "centred, so that float16 keeps what tells rows apart";
  }
}

TEST(ClusterTaps, InputsThatDoNotVaryStayApartFromNothing) {
  const std::vector<float> x(30 * 3, 2.5f);
  const RowMap first{.outputs = 4, .inputs = 3, .weight = std::vector<float>(12, 1.0f), .bias = {}};
  const MappedRows made = standardise(x, first);
  EXPECT_EQ(made.map.weight, (std::vector<float>{1, 0, 0, 0, 1, 0, 0, 0, 1}));
  for (const double value : made.rows) EXPECT_EQ(value, 0);
}

TEST(ClusterTaps, KeptRowsAreThoseOfTheShards) {
  const SmallRun small;
  const RunConfig config = small.config({});
  const auto folders = run_stages(config, 1, 1, {"collect"});
  const std::vector<store::ShardExtent> shards =
      store::list_shards(shard_paths(folders.at("collect"), 60, config.collect));
  const RowMap output{.outputs = 16, .inputs = 32, .weight = std::vector<float>(16 * 32, 0.25f), .bias = {}};
  const RowMap standardised{.outputs = 16, .inputs = 16, .weight = std::vector<float>(16 * 16, 0.5f), .bias = {}};
  Workers workers(2);
  for (const ClusterTap tap : {ClusterTap::h, ClusterTap::x, ClusterTap::both, ClusterTap::y, ClusterTap::z}) {
    std::vector<std::uint16_t> first;
    for (const std::int64_t keep : {std::int64_t{0}, std::int64_t{1} << 30}) {
      const ShardRowSource source(shards, 1,
                                  {.tap = tap,
                                   .x_width = 16,
                                   .h_width = 32,
                                   .block_rows = 50,
                                   .keep_bytes = keep,
                                   .map = tap == ClusterTap::y ? &output : &standardised},
                                  workers);
      const std::int64_t width = tap == ClusterTap::both ? 48 : tap == ClusterTap::h ? 32 : 16;
      EXPECT_EQ(source.dimension(), width);
      for (int pass = 0; pass < 3; ++pass) {
        std::vector<std::uint16_t> rows;
        std::int64_t next = 0;
        source.for_each_block([&](const cluster::RowBlock& block) {
          EXPECT_EQ(block.first_local, next);
          EXPECT_EQ(block.first_global, next);
          next += block.count;
          rows.insert(rows.end(), block.rows.begin(), block.rows.end());
        });
        EXPECT_EQ(next, 480);
        if (first.empty()) first = rows;
        EXPECT_EQ(rows, first);
      }
    }
    if (tap == ClusterTap::both) {
      const store::ShardReader reader(shards[0].path);
      std::vector<std::uint16_t> x(16), h(32);
      reader.read_rows(1, store::Tap::x, 7, 1, x);
      reader.read_rows(1, store::Tap::h, 7, 1, h);
      EXPECT_TRUE(std::equal(x.begin(), x.end(), first.begin() + 7 * 48));
      EXPECT_TRUE(std::equal(h.begin(), h.end(), first.begin() + 7 * 48 + 16));
    }
  }
}

TEST(ClusterTaps, ARunGoesThroughOnEachTap) {
  const SmallRun small;
  for (const std::string tap : {"both", "y", "z"}) {
    const RunConfig config = small.config({"cluster.tap=" + tap, "finetune.enabled=false"}, tap);
    const auto one = run_stages(config, 1, 1),
               two = run_stages(small.config({"cluster.tap=" + tap, "finetune.enabled=false"}, tap + "2"), 3, 2);
    EXPECT_EQ(summary(one.at("cluster"), 0).at("tap"), tap);
    EXPECT_EQ(content(one.at("cluster")), content(two.at("cluster")));
  }
}

TEST(ClusterSettings, OnlyThoseInUseAreInTheAddress) {
  const SmallRun small;
  const auto folder = [&](const std::vector<std::string>& settings) {
    return Pipeline(small.config(settings)).graph().folder("cluster");
  };
  const fs::path kmeans = folder({});
  EXPECT_EQ(folder({"cluster.hdbscan.min_samples=9"}), kmeans);
  EXPECT_EQ(folder({"cluster.k_range.most=9"}), kmeans);
  EXPECT_EQ(folder({"cluster.keep_bytes=0"}), kmeans);
  EXPECT_NE(folder({"cluster.n_init=2"}), kmeans);
  const fs::path automatic = folder({"cluster.automatic_k=gap"});
  EXPECT_NE(automatic, kmeans);
  EXPECT_EQ(folder({"cluster.automatic_k=gap", "cluster.k=7"}), automatic);
  EXPECT_NE(folder({"cluster.automatic_k=gap", "cluster.k_range.most=9"}), automatic);
  EXPECT_NE(folder({"cluster.automatic_k=gap", "cluster.k_range.references=9"}), automatic);
  EXPECT_EQ(folder({"cluster.automatic_k=gap", "cluster.k_range.seeds=9"}), automatic);
  const fs::path stable = folder({"cluster.automatic_k=stability"});
  EXPECT_NE(folder({"cluster.automatic_k=stability", "cluster.k_range.seeds=9"}), stable);
  EXPECT_EQ(folder({"cluster.automatic_k=stability", "cluster.k_range.references=9", "cluster.k_range.sample_rows=9"}),
            stable);
  EXPECT_NE(folder({"cluster.init_rounds=2"}), kmeans);
  EXPECT_EQ(folder({"cluster.init=random", "cluster.init_rounds=2"}), folder({"cluster.init=random"}));
  const fs::path hdbscan = folder({"cluster.method=hdbscan"});
  EXPECT_EQ(folder({"cluster.method=hdbscan", "cluster.k=7", "cluster.n_init=3", "cluster.quality_rows=9"}), hdbscan);
  EXPECT_NE(folder({"cluster.method=hdbscan", "cluster.seed=3"}), hdbscan);
}

}  // namespace
}  // namespace moextract::stages::test
