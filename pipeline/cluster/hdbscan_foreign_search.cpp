#include "cluster/hdbscan_foreign_search.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <limits>
#include <numeric>

#include "cluster/hdbscan_kernel.h"
#include "cluster/hdbscan_leave.h"

namespace moextract::cluster::hdbscan {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kUnitRows = 96;

// A float no smaller than the square of `value`, also of a `value` whose square root or quotient was rounded.
float square_at_least(double value) {
  const double square = value * value * (1 + 1e-14);
  const auto near = static_cast<float>(square);
  return static_cast<double>(near) >= square ? near : std::nextafter(near, kInfinity);
}
float square_at_most(double value) {
  const double square = value * value * (1 - 1e-14);
  const auto near = static_cast<float>(square);
  return static_cast<double>(near) <= square ? near : std::nextafter(near, -kInfinity);
}

void lower(std::atomic<double>& shared, double value) {
  double seen = shared.load(std::memory_order_relaxed);
  while (value < seen && !shared.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

// What all units share.
struct Search {
  const MutualReachability& reach;
  const FastRows& fast;
  std::span<const std::int32_t> component;
  const Panels& panels;
  std::span<const float> core_bounds;         // squares of core distances, by panel column
  std::vector<std::atomic<double>>& best_of;  // lightest edge known of each component
};

// Up to kUnitRows queries against all rows.
class SearchUnit {
 public:
  SearchUnit(const Search& search, std::span<const ForeignQuery> queries) : search_(search), queries_(queries) {
    norms_.fill(std::numeric_limits<float>::quiet_NaN());
    bounds_.fill(-kInfinity);
    limits_.fill(-kInfinity);
    weights_.fill(-1);
    for (std::size_t q = 0; q < queries.size(); ++q) {
      norms_[q] = search.fast.norms[static_cast<std::size_t>(queries[q].row)];
      set_limit(q, queries[q].limit);
    }
    const std::int32_t first = component_of(0), last = component_of(queries.size() - 1);
    only_component_ = first == last ? first : -1;
  }

  void run(std::span<ForeignAnswer> answers) {
    TileHits hits;
    TileJob job;
    job.dimension = search_.fast.dimension;
    const Panels& panels = search_.panels;
    for (std::int64_t p = 0; p < panels.count(); ++p) {
      const std::int32_t* numbers = panels.rows(p);
      if (is_own_panel(numbers)) continue;
      catch_up();
      job.panel = panels.panel(p);
      job.column_norms = panels.norms(p);
      job.column_bounds = search_.core_bounds.data() + p * kPanelColumns;
      for (std::size_t top = 0; top < queries_.size(); top += kGroupRows) {
        for (std::size_t r = 0; r < kGroupRows; ++r) {
          job.rows[r] = search_.fast.row(queries_[std::min(top + r, queries_.size() - 1)].row);
        }
        job.row_norms = norms_.data() + top;
        job.row_bounds = bounds_.data() + top;
        job.row_limits = limits_.data() + top;
        if (!kernels().front().both(job, hits)) continue;
        for (std::size_t r = 0; r < kGroupRows; ++r) {
          for (std::uint64_t bits = hits.by_row[r]; bits != 0; bits &= bits - 1) {
            consider(top + r, numbers[std::countr_zero(bits)]);
          }
        }
      }
    }
    for (std::size_t q = 0; q < queries_.size(); ++q) {
      const Edge& best = best_[q];
      const bool exact = best.weight <= weights_[q];
      answers[q] = {queries_[q].row, exact ? (best.low == queries_[q].row ? best.high : best.low) : -1,
                    exact ? best.weight : weights_[q]};
    }
  }

 private:
  std::int32_t component_of(std::size_t q) const {
    return search_.component[static_cast<std::size_t>(queries_[q].row)];
  }
  // Panels hold rows in the order of components.
  bool is_own_panel(const std::int32_t* numbers) const {
    const auto is_own = [&](std::int32_t row) {
      return row < 0 || search_.component[static_cast<std::size_t>(row)] == only_component_;
    };
    return only_component_ >= 0 && is_own(numbers[0]) && is_own(numbers[kPanelColumns - 1]);
  }
  void set_limit(std::size_t q, double weight) {
    if (weight == weights_[q]) return;
    weights_[q] = weight;
    bounds_[q] = square_at_least(weight * search_.reach.alpha);
    limits_[q] = square_at_least(weight);
  }
  // Takes over what other units have found for the same components.
  void catch_up() {
    for (std::size_t q = 0; q < queries_.size(); ++q) {
      const double best = search_.best_of[static_cast<std::size_t>(component_of(q))].load(std::memory_order_relaxed);
      if (best < weights_[q]) set_limit(q, best);
    }
  }
  void consider(std::size_t q, std::int32_t j) {
    const std::int32_t i = queries_[q].row;
    if (search_.component[static_cast<std::size_t>(j)] == component_of(q)) return;
    if (search_.reach.core[static_cast<std::size_t>(j)] > weights_[q]) return;
    const Edge edge = search_.reach.edge(i, j, search_.reach.distance(i, j));
    if (!(edge < best_[q])) return;
    best_[q] = edge;
    if (edge.weight < weights_[q]) set_limit(q, edge.weight);
    lower(search_.best_of[static_cast<std::size_t>(component_of(q))], edge.weight);
    // The edge leads both ways.
    lower(search_.best_of[static_cast<std::size_t>(search_.component[static_cast<std::size_t>(j)])], edge.weight);
  }

  const Search& search_;
  std::span<const ForeignQuery> queries_;
  std::int32_t only_component_ = -1;
  std::array<float, kUnitRows> norms_, bounds_, limits_;
  std::array<double, kUnitRows> weights_;  // all lighter foreign edges, and those of this weight, have been seen
  std::array<Edge, kUnitRows> best_ = {};
};

}  // namespace

std::vector<ForeignAnswer> search_foreign(const MutualReachability& reach, const FastRows& fast,
                                          std::span<const std::int32_t> component, std::vector<ForeignQuery> queries,
                                          comm::Communicator& comm, Workers& workers,
                                          const std::function<bool()>& should_stop) {
  std::vector<std::int32_t> order(component.size());
  std::iota(order.begin(), order.end(), 0);
  const auto by_component = [&](std::int32_t a, std::int32_t b) {
    return component[static_cast<std::size_t>(a)] < component[static_cast<std::size_t>(b)];
  };
  std::stable_sort(order.begin(), order.end(), by_component);
  std::stable_sort(queries.begin(), queries.end(),
                   [&](const ForeignQuery& a, const ForeignQuery& b) { return by_component(a.row, b.row); });
  const Panels panels(fast, order, workers);
  std::vector<float> core_bounds(static_cast<std::size_t>(panels.count() * kPanelColumns), kInfinity);
  for (std::size_t at = 0; at < order.size(); ++at) {
    core_bounds[at] = square_at_most(reach.core[static_cast<std::size_t>(order[at])]);
  }
  std::vector<std::atomic<double>> best_of(component.size());
  for (auto& best : best_of) best.store(std::numeric_limits<double>::infinity(), std::memory_order_relaxed);
  for (const ForeignQuery& query : queries) {
    lower(best_of[static_cast<std::size_t>(component[static_cast<std::size_t>(query.row)])], query.limit);
  }

  const Search search{reach, fast, component, panels, core_bounds, best_of};
  const auto total = static_cast<std::int64_t>(queries.size());
  const std::int64_t units = (total + kUnitRows - 1) / kUnitRows;
  const std::int64_t mine = (units - comm.rank() + comm.size() - 1) / comm.size();
  std::vector<ForeignAnswer> answers(static_cast<std::size_t>(mine * kUnitRows), ForeignAnswer{-1, -1, 0});
  const Leave leave(should_stop, comm);
  leave.for_each(workers, mine, kUnitRows * fast.count * fast.dimension, [&](std::int64_t at, int) {
    const std::int64_t first = (at * comm.size() + comm.rank()) * kUnitRows;
    const auto count = static_cast<std::size_t>(std::min(kUnitRows, total - first));
    SearchUnit unit(search, std::span(queries).subspan(static_cast<std::size_t>(first), count));
    unit.run(std::span(answers).subspan(static_cast<std::size_t>(at * kUnitRows), count));
  });
  std::erase_if(answers, [](const ForeignAnswer& answer) { return answer.row < 0; });
  return comm.size() > 1 ? comm.all_gather(std::span<const ForeignAnswer>(answers)) : answers;
}

}  // namespace moextract::cluster::hdbscan
