#include "cluster/host_pass.h"

#include <algorithm>

#include "cluster/movement.h"

namespace moextract::cluster {
namespace {

// Rows of a tile of the assignment: as many as a core's cache holds with a panel of centroids, so that several of them
// that move to one cluster are added to its sums together.
constexpr std::int64_t kAssignedRows = 192;

}  // namespace

HostPass::Bench::Bench(std::int64_t k, std::int64_t dimension)
    : assigner(k, dimension, kAssignedRows), sizes(static_cast<std::size_t>(k)), weights(static_cast<std::size_t>(k)) {}

HostPass::HostPass(const RowSource& source, const PassFacts& facts, Workers& workers, std::int64_t bounds_bytes,
                   std::int64_t rounded_bytes)
    : facts_(facts),
      layout_(facts),
      workers_(workers),
      pass_(source, workers, kAssignedRows),
      sums_(facts.k, facts.dimension, facts.total_rows, facts.largest, workers.size()),
      bounds_(source.local_rows(), facts.k, facts.has_prices ? 0 : bounds_bytes),
      rounded_(source.local_rows(), facts.dimension, rounded_bytes),
      labels_(static_cast<std::size_t>(source.local_rows()), -1),
      benches_(static_cast<std::size_t>(workers.size()), Bench(facts.k, facts.dimension)) {}

void HostPass::run(const NearestCentroids& nearest) {
  if (!assigned_to_.empty()) {
    std::vector<double> moved = movements(assigned_to_, nearest.centroids(), facts_.k);
    for (double& length : moved) length *= 1 + 1e-9;
    bounds_.move(moved);
  }
  if (!bounds_.is_filled()) bounds_.start(nearest.spread());
  for (Bench& bench : benches_) {
    std::fill(bench.sizes.begin(), bench.sizes.end(), 0);
    std::fill(bench.weights.begin(), bench.weights.end(), 0);
    bench.moved = 0;
  }
  pass_.run([&](const TileView& tile, int worker) { assign_tile(nearest, tile, worker); });
  bounds_.finish();
  rounded_.finish();
  assigned_to_.assign(nearest.centroids().begin(), nearest.centroids().end());
}

void HostPass::reduce(std::span<std::int64_t> words, comm::Communicator& comm) {
  std::fill_n(words.begin(), layout_.size(), 0);
  sums_.total(layout_.sums_of(words));
  const auto sizes = layout_.sizes_of(words), weights = layout_.weights_of(words);
  for (const Bench& bench : benches_) {
    for (std::size_t c = 0; c < sizes.size(); ++c) {
      sizes[c] += bench.sizes[c];
      weights[c] += bench.weights[c];
    }
    layout_.moved_of(words) += bench.moved;
  }
  comm.all_reduce(words, comm::Reduction::sum);
}

void HostPass::assign_tile(const NearestCentroids& nearest, const TileView& tile, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  const RowMemory memory{bounds_, rounded_, facts_.spherical, workers_.size() * kAssignedRows};
  const auto before =
      std::span(labels_).subspan(static_cast<std::size_t>(tile.first_local), static_cast<std::size_t>(tile.count));
  const std::span<const std::int32_t> labels = bench.assigner.assign(nearest, tile, before, memory);
  bench.moves.clear();
  for (std::int64_t i = 0; i < tile.count; ++i) settle(tile, i, labels[static_cast<std::size_t>(i)], worker);
  add_moves(tile, worker);
}

// The tile's moves, cluster by cluster.
void HostPass::add_moves(const TileView& tile, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  std::sort(bench.moves.begin(), bench.moves.end(),
            [](const Bench::Move& a, const Bench::Move& b) { return a.cluster < b.cluster; });
  for (std::size_t n = 0; n < bench.moves.size();) {
    const std::int32_t cluster = bench.moves[n].cluster;
    bench.moved_rows.clear();
    bench.signs.clear();
    for (; n < bench.moves.size() && bench.moves[n].cluster == cluster; ++n) {
      bench.moved_rows.push_back(tile.row(bench.moves[n].i).data());
      bench.signs.push_back(bench.moves[n].sign);
    }
    sums_.add(worker, cluster, bench.moved_rows, bench.signs);
  }
  bench.moves.clear();
}

void HostPass::settle(const TileView& tile, std::int64_t i, std::int32_t label, int worker) {
  Bench& bench = benches_[static_cast<std::size_t>(worker)];
  std::int32_t& before = labels_[static_cast<std::size_t>(tile.first_local + i)];
  const std::int64_t weight = tile.weight(i);
  ++bench.sizes[static_cast<std::size_t>(label)];
  bench.weights[static_cast<std::size_t>(label)] += weight;
  if (label == before) return;
  if (weight == 1 && !facts_.spherical && !sums_.split()) {
    bench.moves.push_back({label, 1, i});
    if (before >= 0) {
      bench.moves.push_back({before, -1, i});
      tile.prefetch(i, 0);  // the row as it is, which the assignment did not read
    }
  } else if (weight > 0) {
    sums_.move(worker, bench.assigner.prepared_row(tile, i, facts_.spherical), before, label, weight);
  }
  before = label;
  ++bench.moved;
}

}  // namespace moextract::cluster
