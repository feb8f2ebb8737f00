// Times the clustering of a part of a file of rows, on this process or under mpirun; rank 0 prints one JSON line.
//
//   cost_driver kmeans ROWS.f16 WIDTH ROWS COLUMNS K ITERATIONS THREADS
//   cost_driver hdbscan ROWS.f16 WIDTH ROWS COLUMNS MIN_CLUSTER_SIZE MIN_SAMPLES THREADS
//
// ROWS rows of the file are taken, of each the first COLUMNS of WIDTH values; ranks take equal parts.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/kmeans.h"
#include "cluster/memory_rows.h"
#include "comm/backends.h"
#include "core/error.h"
#include "core/workers.h"

namespace {

using namespace moextract;

cluster::MemoryRows read_part(const std::string& path, std::int64_t width, std::int64_t rows, std::int64_t columns,
                              comm::Communicator& comm) {
  const std::int64_t first = rows * comm.rank() / comm.size(), last = rows * (comm.rank() + 1) / comm.size();
  std::ifstream file(path, std::ios::binary);
  if (!file || columns > width) fail(ExitCode::input, "{}: cannot be read so", path);
  file.seekg(first * width * 2);
  std::vector<std::uint16_t> row(static_cast<std::size_t>(width)), all;
  all.reserve(static_cast<std::size_t>((last - first) * columns));
  for (std::int64_t i = first; i < last; ++i) {
    file.read(reinterpret_cast<char*>(row.data()), width * 2);
    if (!file) fail(ExitCode::input, "{}: has fewer than {} rows", path, rows);
    all.insert(all.end(), row.begin(), row.begin() + columns);
  }
  return {std::move(all), columns, first, 1 << 20};
}

double slowest(double seconds, comm::Communicator& comm) {
  return comm.all_reduce_value(seconds, comm::Reduction::max);
}

int run(comm::Communicator& comm, const std::vector<std::string>& a) {
  if (a.size() != 8) fail(ExitCode::usage, "usage: see the head of the source");
  const auto number = [&](std::size_t i) { return static_cast<std::int64_t>(std::stoll(a[i])); };
  const std::int64_t rows = number(3), columns = number(4);
  const cluster::MemoryRows source = read_part(a[1], number(2), rows, columns, comm);
  Workers workers(static_cast<int>(number(7)));
  comm.barrier();
  const auto start = std::chrono::steady_clock::now();
  std::string line;
  if (a[0] == "kmeans") {
    cluster::KMeansParams params;
    params.k = number(5);
    params.max_iterations = number(6);
    params.tolerance = 0;
    params.init = cluster::KMeansInit::random;
    params.init_sample = params.k;
    const cluster::KMeansFit fit = cluster::fit(source, params, comm, workers);
    double rest = 0;
    for (std::size_t i = 1; i < fit.model.history.size(); ++i) rest += fit.model.history[i].seconds;
    line =
        fmt::format(R"("k":{},"iterations":{},"first_iteration":{:.5f},"iteration":{:.5f})", params.k,
                    fit.model.history.size(), slowest(fit.model.history.front().seconds, comm),
                    slowest(rest / static_cast<double>(std::max<std::size_t>(1, fit.model.history.size() - 1)), comm));
  } else {
    cluster::hdbscan::Params params;
    params.min_cluster_size = number(5);
    params.min_samples = number(6);
    params.sample_rows = rows;
    const cluster::hdbscan::Fit fit = cluster::hdbscan::fit(source, params, comm, workers);
    line = fmt::format(R"("neighbours":{:.4f},"spanning_tree":{:.4f},"clusters":{},"searched_rows":{})",
                       slowest(fit.times.neighbours, comm), slowest(fit.times.spanning_tree, comm), fit.model.k(),
                       fit.model.effort.searched_rows);
  }
  const double seconds = slowest(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(), comm);
  if (comm.is_root()) {
    fmt::print("{{\"method\":\"{}\",\"rows\":{},\"d\":{},\"ranks\":{},\"threads\":{},\"seconds\":{:.4f},{}}}\n", a[0],
               rows, columns, comm.size(), workers.size(), seconds, line);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  comm::MpiSession session(argc, argv);
  const auto world = session.world();
  try {
    return run(*world, {argv + 1, argv + argc});
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
