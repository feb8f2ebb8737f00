#include "cluster/hdbscan_neighbours.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <utility>

#include "cluster/hdbscan_candidates.h"
#include "cluster/hdbscan_kernel.h"
#include "cluster/hdbscan_leave.h"
#include "core/error.h"

namespace moextract::cluster::hdbscan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kBlockPanels = 4;
constexpr std::int64_t kBlockRows = kBlockPanels * kPanelColumns;

// A block of up to kBlockRows rows as the left side of products, with its own copy of the bounds: other workers lower
// the shared ones meanwhile, and a bound that is a little old only lets more through.
class LeftBlock {
 public:
  LeftBlock(const FastRows& rows, const Candidates& candidates, std::int64_t first)
      : rows_(rows), first_(first), count_(std::min(kBlockRows, rows.count - first)) {
    norms_.fill(std::numeric_limits<float>::quiet_NaN());
    bounds_.fill(-kInfinity);
    for (std::int64_t r = 0; r < count_; ++r) {
      norms_[static_cast<std::size_t>(r)] = rows.norms[static_cast<std::size_t>(first + r)];
      bounds_[static_cast<std::size_t>(r)] = candidates.bound(first + r);
    }
  }

  std::int64_t groups() const { return (count_ + kGroupRows - 1) / kGroupRows; }
  void fill(TileJob& job, std::int64_t group) const {
    const std::int64_t top = group * kGroupRows;
    for (std::int64_t r = 0; r < kGroupRows; ++r) {
      job.rows[static_cast<std::size_t>(r)] = rows_.row(first_ + std::min(top + r, count_ - 1));
    }
    job.row_norms = norms_.data() + top;
    job.row_bounds = bounds_.data() + top;
  }
  std::int64_t row(std::int64_t group, std::int64_t r) const { return first_ + group * kGroupRows + r; }
  float& bound_of(std::int64_t row) { return bounds_[static_cast<std::size_t>(row - first_)]; }

 private:
  const FastRows& rows_;
  std::int64_t first_, count_;
  std::array<float, kBlockRows> norms_, bounds_;
};

// The pairs of rows of two blocks, each pair offered to both; of one block with itself, the pairs i < j.
void visit_block_pair(const FastRows& fast, const Panels& panels, std::int64_t left, std::int64_t right,
                      Candidates& candidates) {
  LeftBlock block(fast, candidates, left * kBlockRows);
  TileHits hits;
  TileJob job;
  job.dimension = fast.dimension;
  for (std::int64_t p = right * kBlockPanels; p < std::min(panels.count(), (right + 1) * kBlockPanels); ++p) {
    const std::int32_t* numbers = panels.rows(p);
    std::array<float, kPanelColumns> column_bounds;
    for (int c = 0; c < kPanelColumns; ++c) {
      column_bounds[static_cast<std::size_t>(c)] = numbers[c] < 0 ? -kInfinity : candidates.bound(numbers[c]);
    }
    job.panel = panels.panel(p);
    job.column_norms = panels.norms(p);
    job.column_bounds = column_bounds.data();
    for (std::int64_t group = 0; group < block.groups(); ++group) {
      block.fill(job, group);
      if (!kernels().front().either(job, hits)) continue;
      for (std::int64_t r = 0; r < kGroupRows; ++r) {
        const std::int64_t i = block.row(group, r);
        const auto at = static_cast<std::size_t>(r);
        for (std::uint64_t left_bits = hits.by_row[at] | hits.by_column[at]; left_bits != 0;
             left_bits &= left_bits - 1) {
          const int c = std::countr_zero(left_bits);
          const std::int32_t j = numbers[c];
          if (left == right && j <= i) continue;
          const float low = hits.t[at * kPanelColumns + static_cast<std::size_t>(c)];
          const float high = low + fast.spread[static_cast<std::size_t>(i)] + fast.spread[static_cast<std::size_t>(j)];
          if (hits.by_row[at] >> c & 1) block.bound_of(i) = candidates.offer(i, j, low, high);
          if (hits.by_column[at] >> c & 1) {
            column_bounds[static_cast<std::size_t>(c)] = candidates.offer(j, static_cast<std::int32_t>(i), low, high);
          }
        }
      }
    }
  }
}

// Pair number -> blocks: diagonals first, which gives every row a bound early; then along the diagonals' parallels, so
// that pairs with the same blocks are rarely worked on at the same time.
std::pair<std::int64_t, std::int64_t> blocks_of_pair(std::int64_t pair, std::int64_t blocks) {
  std::int64_t gap = 0;
  for (std::int64_t length = blocks; pair >= length; --length, ++gap) pair -= length;
  return {pair, pair + gap};
}

struct Found {
  double distance;
  std::int32_t row, index;
};

// Each rank has seen some of a row's pairs. The smallest of the ranks' bounds holds for all of them, but with many
// ranks, each of which has seen few pairs, much lies below it, and all that does is exchanged. So the least bound that
// `length` candidates of all ranks are within is looked for, by bisection over the floats: to 1 part in 4,000.
void agree_on_bounds(Candidates& candidates, std::int64_t n, std::int64_t length, comm::Communicator& comm,
                     Workers& workers) {
  std::vector<float> bounds(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) bounds[static_cast<std::size_t>(i)] = candidates.bound(i);
  comm.all_reduce(std::span(bounds), comm::Reduction::min);
  if (comm.size() > 2) {
    constexpr int kRounds = 20;
    std::vector<std::uint32_t> low(bounds.size(), 0);  // bits of floats that are not negative ascend as they do
    std::vector<float> middle(bounds.size());
    std::vector<std::int32_t> within(bounds.size());
    for (int round = 0; round < kRounds; ++round) {
      constexpr std::int64_t kUnit = 1024;
      workers.for_each((n + kUnit - 1) / kUnit, [&](std::int64_t unit, int) {
        for (std::int64_t i = unit * kUnit; i < std::min(n, (unit + 1) * kUnit); ++i) {
          const auto at = static_cast<std::size_t>(i);
          const auto high = std::bit_cast<std::uint32_t>(bounds[at]);
          middle[at] = std::bit_cast<float>(low[at] + (high - low[at]) / 2);
          within[at] = candidates.count_within(i, middle[at]);
        }
      });
      comm.all_reduce(std::span(within), comm::Reduction::sum);
      for (std::size_t i = 0; i < within.size(); ++i) {
        if (within[i] >= length) {
          bounds[i] = middle[i];
        } else {
          low[i] = std::bit_cast<std::uint32_t>(middle[i]);
        }
      }
    }
  }
  for (std::int64_t i = 0; i < n; ++i) candidates.lower_bound(i, bounds[static_cast<std::size_t>(i)]);
}

}  // namespace

NeighbourLists nearest_neighbours(std::span<const float> rows, const FastRows& fast, const Panels& panels,
                                  std::int64_t length, comm::Communicator& comm, Workers& workers,
                                  const std::function<bool()>& should_stop) {
  const std::int64_t n = fast.count;
  NeighbourLists lists;
  lists.count = n;
  lists.length = std::min(length, n - 1);
  if (lists.length <= 0) {
    lists.length = 0;
    return lists;
  }
  MOEX_ASSERT(n <= std::numeric_limits<std::int32_t>::max(), "rows are counted in 32 bits");
  Candidates candidates(rows, n, rows, fast.dimension, lists.length);
  const std::int64_t blocks = (n + kBlockRows - 1) / kBlockRows;
  const std::int64_t pairs = blocks * (blocks + 1) / 2;
  const std::int64_t mine = (pairs - comm.rank() + comm.size() - 1) / comm.size();
  const Leave leave(should_stop, comm);
  leave.for_each(workers, mine, kBlockRows * kBlockRows * fast.dimension, [&](std::int64_t unit, int) {
    const auto [left, right] = blocks_of_pair(unit * comm.size() + comm.rank(), blocks);
    visit_block_pair(fast, panels, left, right, candidates);
  });

  if (comm.size() > 1) agree_on_bounds(candidates, n, lists.length, comm, workers);
  lists.index.resize(static_cast<std::size_t>(n * lists.length));
  lists.distance.resize(static_cast<std::size_t>(n * lists.length));
  // A stretch of rows at a time bounds what is gathered.
  constexpr std::int64_t kStretch = 16384;
  std::vector<std::vector<Candidates::Neighbour>> nearest(static_cast<std::size_t>(std::min(n, kStretch)));
  for (std::int64_t first = 0; first < n; first += kStretch) {
    const std::int64_t count = std::min(kStretch, n - first);
    constexpr std::int64_t kUnit = 64;
    workers.for_each((count + kUnit - 1) / kUnit, [&](std::int64_t unit, int) {
      for (std::int64_t i = unit * kUnit; i < std::min(count, (unit + 1) * kUnit); ++i) {
        nearest[static_cast<std::size_t>(i)] = candidates.nearest(first + i);
      }
    });
    if (comm.size() > 1) {
      std::vector<Found> found;
      for (std::int64_t i = 0; i < count; ++i) {
        for (const auto& [distance, index] : nearest[static_cast<std::size_t>(i)]) {
          found.push_back({distance, static_cast<std::int32_t>(i), index});
        }
        nearest[static_cast<std::size_t>(i)].clear();
      }
      for (const Found& one : comm.all_gather(std::span<const Found>(found))) {
        nearest[static_cast<std::size_t>(one.row)].push_back({one.distance, one.index});
      }
      for (std::int64_t i = 0; i < count; ++i) {
        std::sort(nearest[static_cast<std::size_t>(i)].begin(), nearest[static_cast<std::size_t>(i)].end());
      }
    }
    for (std::int64_t i = 0; i < count; ++i) {
      const auto& found = nearest[static_cast<std::size_t>(i)];
      MOEX_ASSERT(static_cast<std::int64_t>(found.size()) >= lists.length, "a row has fewer neighbours than there are");
      for (std::int64_t k = 0; k < lists.length; ++k) {
        const auto at = static_cast<std::size_t>((first + i) * lists.length + k);
        lists.index[at] = found[static_cast<std::size_t>(k)].index;
        lists.distance[at] = found[static_cast<std::size_t>(k)].distance;
      }
    }
  }
  return lists;
}

NeighbourLists nearest_among(std::span<const float> from, const FastRows& fast_from, std::span<const float> to,
                             const FastRows& fast_to, const Panels& panels, std::int64_t length, Workers& workers) {
  const std::int64_t m = fast_from.count;
  NeighbourLists lists;
  lists.count = m;
  lists.length = std::min(length, fast_to.count);
  lists.index.resize(static_cast<std::size_t>(m * lists.length));
  lists.distance.resize(static_cast<std::size_t>(m * lists.length));
  if (m == 0 || lists.length == 0) return lists;
  Candidates candidates(from, m, to, fast_to.dimension, lists.length);
  std::array<float, kPanelColumns> no_column_bounds;
  no_column_bounds.fill(-kInfinity);
  workers.for_each((m + kBlockRows - 1) / kBlockRows, [&](std::int64_t unit, int) {
    LeftBlock block(fast_from, candidates, unit * kBlockRows);
    TileHits hits;
    TileJob job;
    job.dimension = fast_to.dimension;
    job.column_bounds = no_column_bounds.data();
    for (std::int64_t p = 0; p < panels.count(); ++p) {
      const std::int32_t* numbers = panels.rows(p);
      job.panel = panels.panel(p);
      job.column_norms = panels.norms(p);
      for (std::int64_t group = 0; group < block.groups(); ++group) {
        block.fill(job, group);
        if (!kernels().front().either(job, hits)) continue;
        for (std::int64_t r = 0; r < kGroupRows; ++r) {
          const std::int64_t i = block.row(group, r);
          const auto at = static_cast<std::size_t>(r);
          for (std::uint64_t bits = hits.by_row[at]; bits != 0; bits &= bits - 1) {
            const int c = std::countr_zero(bits);
            const float low = hits.t[at * kPanelColumns + static_cast<std::size_t>(c)];
            const float high = low + fast_from.spread[static_cast<std::size_t>(i)] +
                               fast_to.spread[static_cast<std::size_t>(numbers[c])];
            block.bound_of(i) = candidates.offer(i, numbers[c], low, high);
          }
        }
      }
    }
    for (std::int64_t i = unit * kBlockRows; i < std::min(m, (unit + 1) * kBlockRows); ++i) {
      const auto found = candidates.nearest(i);
      MOEX_ASSERT(static_cast<std::int64_t>(found.size()) == lists.length, "a row has fewer neighbours than there are");
      for (std::int64_t k = 0; k < lists.length; ++k) {
        const auto at = static_cast<std::size_t>(i * lists.length + k);
        lists.index[at] = found[static_cast<std::size_t>(k)].index;
        lists.distance[at] = found[static_cast<std::size_t>(k)].distance;
      }
    }
  });
  return lists;
}

}  // namespace moextract::cluster::hdbscan
