// What --dry-run says of cluster's memory, against what a process takes.
#include <gtest/gtest.h>

#include <malloc.h>

#include <fstream>
#include <string>

#include "core/random.h"
#include "stages/cluster/cluster_plan.h"
#include "tests/stages/shard_rows.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

namespace fs = std::filesystem;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMeasures = false;  // sanitizers keep memory of their own
#else
constexpr bool kMeasures = true;
#endif

double status_bytes(const std::string& key) {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    double kilobytes = 0;
    if (word == key + ":" && status >> kilobytes) return 1024 * kilobytes;
  }
  return 0;
}

/// Most memory that `work` takes on top of what there was; less than 0 where the system does not tell.
double peak_bytes(const std::function<void()>& work) {
  ::mallopt(M_MMAP_THRESHOLD, 1 << 16);  // what is freed goes back to the system, and the next case takes it anew
  ::malloc_trim(0);
  std::ofstream(std::string("/proc/self/clear_refs")) << "5";
  const double before = status_bytes("VmRSS");
  if (before == 0 || status_bytes("VmHWM") > before * 1.02 + 1e6) return -1;
  work();
  return status_bytes("VmHWM") - before;
}

struct Case {
  std::string name;
  std::function<void(ClusterParams&)> change;
};

TEST(ClusterPlan, BoundsWhatAProcessTakes) {
  constexpr std::int64_t kRows = 40'000, kWidth = 256, kHidden = 512, kThreads = 2;
  const SmallRun small;
  std::vector<float> x;
  RandomStream random(1, 2);
  for (std::int64_t i = 0; i < kRows * kWidth; ++i)
    x.push_back(static_cast<float>(random.uniform() + static_cast<double>(i / kWidth % 9 == i % 9)));
  write_shard(small.file("a.h5"), 0, x, kWidth, {}, 0);
  x = {};

  ClusterParams base;
  base.tap = ClusterTap::x;
  base.kmeans.k = 64;
  base.kmeans.max_iterations = 3;
  const auto hdbscan = [](ClusterParams& p) {
    p.method = ClusterMethod::hdbscan;
    p.hdbscan.sample_rows = 6000;
    p.hdbscan.min_cluster_size = 50;
    p.held_back_rows = 500;
  };
  const Case cases[] = {
      {"defaults", [](ClusterParams&) {}},
      {"nothing is kept", [](ClusterParams& p) { p.keep_bytes = p.kmeans.bounds_bytes = p.kmeans.rounded_bytes = 0; }},
      {"a large sample",
       [](ClusterParams& p) {
         p.kmeans.init = cluster::KMeansInit::plus_plus;
         p.kmeans.init_sample = 30'000;
       }},
      {"pre-activations", [](ClusterParams& p) { p.tap = ClusterTap::z; }},
      {"gap",
       [](ClusterParams& p) {
         p.automatic_k = AutomaticK::gap;
         p.k_range = {.least = 2, .most = 4, .step = 2, .sample_rows = 8000, .references = 6};
       }},
      {"HDBSCAN with a projection", hdbscan},
      {"HDBSCAN without",
       [&](ClusterParams& p) {
         hdbscan(p);
         p.hdbscan.pca_components = 0;
         p.keep_bytes = 0;
       }},
  };
  const auto first_layer = [&](std::int64_t) {
    RowMap map{.outputs = kHidden, .inputs = kWidth, .weight = {}, .bias = {}};
    for (std::int64_t i = 0; i < kHidden * kWidth; ++i)
      map.weight.push_back(static_cast<float>(random.uniform() - 0.5));
    return map;
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    ClusterParams params = base;
    one.change(params);
    const double planned =
        plan_cluster(params, {.rows = kRows, .x_width = kWidth, .h_width = kHidden, .threads = kThreads}).memory();
    const double taken = peak_bytes([&] {
      EXPECT_EQ(cluster_shards(params, {small.file("a.h5")}, 1, small.file("clusters"), first_layer).code,
                ExitCode::ok);
    });
    if (!kMeasures || taken < 0) continue;
    // HDF5, thread stacks and the allocator's own take some megabytes; what an earlier case freed and kept, less.
    EXPECT_LT(taken, planned + 8e6);
    EXPECT_GT(taken, planned / 3);
  }
}

TEST(ClusterPlan, FollowsTheSettings) {
  ClusterParams params;
  const auto plan = [&](std::int64_t rows, std::int64_t ranks) {
    return plan_cluster(params, {.rows = rows, .x_width = 192, .h_width = 768, .ranks = ranks, .threads = 4});
  };
  const ClusterPlan one = plan(1'000'000, 1), eight = plan(1'000'000, 8);
  EXPECT_EQ(one.rows, 2.0 * 4096 * 768) << "1.5 GB are not kept";
  EXPECT_EQ(eight.rows, 2.0 * 125'000 * 768 + 2.0 * 4096 * 768);
  EXPECT_GE(eight.labels, 4.0 * 1'000'000) << "rank 0 writes the labels of all ranks";
  EXPECT_GE(one.start, 12.0 * 1'000'000);
  EXPECT_GE(eight.passes, 2.0 * 125'000 * 768) << "rounded rows are kept where a rank's fit";
  params.kmeans.rounded_bytes = 0;
  EXPECT_LT(plan(1'000'000, 8).passes + 2.0 * 125'000 * 768, eight.passes + 1);
  params.kmeans.bounds_bytes = 0;
  EXPECT_LT(plan(1'000'000, 8).passes, 50e6);
  params.method = ClusterMethod::hdbscan;
  EXPECT_EQ(plan(1'000'000, 8).passes, 0);
  EXPECT_GE(plan(1'000'000, 8).density, 24.0 * 768 * 768) << "second moments, their copy and the axes";
  const double at_30k = plan(1'000'000, 8).density;
  params.hdbscan.sample_rows *= 4;
  EXPECT_GT(plan(1'000'000, 8).density, 3 * at_30k);
}

}  // namespace
}  // namespace moextract::stages::test
