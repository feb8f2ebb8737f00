// Times cluster::fit on rows in memory: one JSON line a run. Also shows what the assignment's products reach beside the
// fastest such products this machine can do (--peak).
//
//   kmeans_driver ROWS.f16 DIMENSION CENTROIDS.f32 K ITERATIONS THREADS [--no-bounds] [--no-rounded] [--per-iteration]
//   kmeans_driver --peak ROWS.f16 DIMENSION K THREADS
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "cluster/kmeans.h"
#include "cluster/memory_rows.h"
#include "cluster/nearest.h"
#include "cluster/product_kernels.h"
#include "cluster/tile_pass.h"
#include "comm/backends.h"
#include "core/error.h"
#include "core/workers.h"

namespace {

using namespace moextract;
using namespace moextract::cluster;
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Of all threads of this process.
double cpu_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

template <class T>
std::vector<T> read_values(const char* path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) fail(ExitCode::input, "{}: cannot be read", path);
  std::vector<T> values(static_cast<std::size_t>(file.tellg()) / sizeof(T));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  return values;
}

int fit_once(int argc, char** argv) {
  const std::int64_t d = std::atoll(argv[2]);
  KMeansParams params;
  params.k = std::atoll(argv[4]);
  params.max_iterations = std::atoll(argv[5]);
  params.tolerance = 0;
  params.init = KMeansInit::given;
  params.initial = read_values<float>(argv[3]);
  bool each = false;
  for (int i = 7; i < argc; ++i) {
    if (std::strcmp(argv[i], "--no-bounds") == 0) params.bounds_bytes = 0;
    if (std::strcmp(argv[i], "--no-rounded") == 0) params.rounded_bytes = 0;
    if (std::strcmp(argv[i], "--per-iteration") == 0) each = true;
  }
  const MemoryRows rows(read_values<std::uint16_t>(argv[1]), d, 0, 1 << 20);
  Workers workers(std::atoi(argv[6]));
  const auto comm = comm::make_self();
  const auto start = Clock::now();
  const double cpu = cpu_seconds();
  const KMeansFit result = fit(rows, params, *comm, workers, [&](const KMeansIteration& iteration) {
    if (!each) return;
    std::fprintf(stderr, "iteration %2ld moved %8ld shift %.4f seconds %.4f\n", static_cast<long>(iteration.iteration),
                 static_cast<long>(iteration.moved), iteration.shift, iteration.seconds);
  });
  const double seconds = seconds_since(start), used = cpu_seconds() - cpu;
  std::printf(
      "{\"seconds\": %.4f, \"cpu_seconds\": %.4f, \"inertia\": %.10g, \"iterations\": %zu, \"instructions\": \"%s\"}\n",
      seconds, used, result.model.inertia, result.model.history.size(), name_of(kernels().set));
  return 0;
}

// Pairs of values multiplied and added in a second: the kernel on operands that stay in the nearest cache.
double peak_products(Workers& workers) {
  const ProductKernels& best = kernels();
  constexpr std::int64_t kDepth = 128;
  const std::int64_t rounds = 4'000'000;
  double fastest = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = Clock::now();
    workers.for_each(workers.size(), [&](std::int64_t, int) {
      const std::vector<std::int16_t> row(kDepth, 1), panels(2 * kDepth * kPanelCentroids, 1);
      std::vector<std::int32_t> out(kKernelRows * 2 * kPanelCentroids);
      const std::int16_t* rows[kKernelRows];
      std::fill(rows, rows + kKernelRows, row.data());
      for (std::int64_t i = 0; i < rounds / 64; ++i) {
        best.products(rows, panels.data(), 2, kDepth, out.data(), 2 * kPanelCentroids);
      }
    });
    const double products = static_cast<double>(rounds / 64) * kDepth * kKernelRows * 2 * kPanelCentroids;
    fastest = std::max(fastest, products * workers.size() / seconds_since(start));
  }
  return fastest;
}

// The same of float32, in registers alone: what a perfect sgemm would reach.
#if defined(__x86_64__)
typedef float Float8Lanes __attribute__((vector_size(32)));
__attribute__((target("avx2,fma"))) double float_rounds_avx2(std::int64_t rounds) {
  Float8Lanes sums[12] = {};
  Float8Lanes x = Float8Lanes{} + 1.0f, y = Float8Lanes{} + 0.5f;
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (int n = 0; n < 12; ++n) {
      asm("vfmadd231ps %1, %2, %0" : "+x"(sums[n]) : "x"(x), "x"(y));
    }
  }
  double total = 0;
  for (auto& sum : sums) total += static_cast<double>(sum[0]);
  return total;
}
typedef float Float16Lanes __attribute__((vector_size(64)));
__attribute__((target("avx512f"))) double float_rounds(std::int64_t rounds) {
  Float16Lanes sums[24] = {};
  Float16Lanes x = Float16Lanes{} + 1.0f, y = Float16Lanes{} + 0.5f;
  for (std::int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 24
    for (int n = 0; n < 24; ++n) {
      asm("vfmadd231ps %1, %2, %0" : "+v"(sums[n]) : "v"(x), "v"(y));
    }
  }
  double total = 0;
  for (auto& sum : sums) total += static_cast<double>(sum[0]);
  return total;
}
double peak_floats(Workers& workers) {
  const bool wide = __builtin_cpu_supports("avx512f");
  if (!wide && !__builtin_cpu_supports("fma")) return 0;
  const double lanes = wide ? 24 * 16 : 12 * 8;
  const std::int64_t rounds = 20'000'000;
  double fastest = 0;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = Clock::now();
    workers.for_each(workers.size(), [&](std::int64_t, int) {
      volatile double keep = wide ? float_rounds(rounds) : float_rounds_avx2(rounds);
      (void)keep;
    });
    fastest = std::max(fastest, static_cast<double>(rounds) * lanes * workers.size() / seconds_since(start));
  }
  return fastest;
}
#else
double peak_floats(Workers&) {
  return 0;
}
#endif

// The assignment as predict() does it: read the rows, round them, multiply, decide.
int measure_peak(int, char** argv) {
  const std::int64_t d = std::atoll(argv[3]), k = std::atoll(argv[4]);
  Workers workers(std::atoi(argv[5]));
  const MemoryRows rows(read_values<std::uint16_t>(argv[2]), d, 0, 1 << 20);
  const auto comm = comm::make_self();
  KMeansParams params;
  params.k = k;
  params.max_iterations = 2;
  params.init = KMeansInit::random;
  const KMeansModel model = fit(rows, params, *comm, workers).model;
  double best = 1e30;
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = Clock::now();
    predict(model, rows, false, workers);
    best = std::min(best, seconds_since(start));
  }
  const double reached = static_cast<double>(rows.local_rows()) * static_cast<double>(d * k) / best;
  const double peak = peak_products(workers), floats = peak_floats(workers);
  std::printf(
      "{\"name\": \"kmeans_vs_peak\", \"ours\": %.1f, \"peer\": %.1f, \"ratio\": %.3f, \"rows\": %ld, \"d\": %ld, "
      "\"k\": %ld, \"threads\": %d, \"instructions\": "
      "\"%s\", \"seconds\": %.4f, \"peak_int16_gmacs\": %.1f, \"share_of_int16_peak\": %.3f, "
      "\"peak_float32_gmacs\": %.1f, \"share_of_float32_peak\": %.3f}\n",
      reached / 1e9, peak / 1e9, reached / peak, static_cast<long>(rows.local_rows()), static_cast<long>(d),
      static_cast<long>(k), workers.size(), name_of(kernels().set), best, peak / 1e9, reached / peak, floats / 1e9,
      floats > 0 ? reached / floats : 0.0);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc == 6 && std::strcmp(argv[1], "--peak") == 0) return measure_peak(argc, argv);
    if (argc >= 7) return fit_once(argc, argv);
    std::fprintf(stderr, "usage: see the head of the source\n");
    return 2;
  } catch (const UserError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.code());
  }
}
