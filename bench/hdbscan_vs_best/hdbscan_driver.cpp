// Times hdbscan::fit on rows in memory: one JSON line; labels go to a file of int32.
//
//   hdbscan_driver ROWS.f16 DIMENSION MIN_CLUSTER_SIZE MIN_SAMPLES THREADS LABELS.i32
#include <fmt/format.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/hdbscan_kernel.h"
#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "core/error.h"
#include "core/file.h"
#include "core/workers.h"

namespace {

using namespace moextract;

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() != 6) {
    fail(ExitCode::usage, "usage: hdbscan_driver ROWS.f16 DIMENSION MIN_CLUSTER_SIZE MIN_SAMPLES THREADS LABELS.i32");
  }
  std::ifstream file(arguments[0], std::ios::binary | std::ios::ate);
  if (!file) fail(ExitCode::input, "{}: cannot be read", arguments[0]);
  std::vector<std::uint16_t> rows(static_cast<std::size_t>(file.tellg()) / sizeof(std::uint16_t));
  file.seekg(0);
  file.read(reinterpret_cast<char*>(rows.data()), static_cast<std::streamsize>(rows.size() * sizeof(std::uint16_t)));
  const cluster::MemoryRows source(std::move(rows), std::stol(arguments[1]));

  cluster::hdbscan::Params params;
  params.min_cluster_size = std::stol(arguments[2]);
  params.min_samples = std::stol(arguments[3]);
  params.sample_rows = source.local_rows();
  const auto comm = comm::make_self();
  const auto start = std::chrono::steady_clock::now();
  Workers workers(std::stoi(arguments[4]));
  const cluster::hdbscan::Fit fit = cluster::hdbscan::fit(source, params, *comm, workers);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file_atomically(arguments[5], std::as_bytes(std::span(fit.rows.labels)));
  fmt::print(R"({{"seconds":{:.4f},"neighbours":{:.4f},"spanning_tree":{:.4f},"clusters":{},"search_rounds":{},)"
             R"("searched_rows":{},"kernel":"{}"}})"
             "\n",
             seconds, fit.times.neighbours, fit.times.spanning_tree, fit.model.k(), fit.model.effort.search_rounds,
             fit.model.effort.searched_rows, cluster::hdbscan::kernels().front().name);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
