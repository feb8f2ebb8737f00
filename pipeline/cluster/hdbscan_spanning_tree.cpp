#include "cluster/hdbscan_spanning_tree.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "cluster/hdbscan_foreign_search.h"
#include "cluster/hdbscan_leave.h"
#include "core/error.h"

namespace moextract::cluster::hdbscan {
namespace {

class Forest {
 public:
  explicit Forest(std::int64_t rows) : parent_(static_cast<std::size_t>(rows)) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }
  std::int32_t find(std::int32_t i) {
    while (parent_[static_cast<std::size_t>(i)] != i) {
      std::int32_t& up = parent_[static_cast<std::size_t>(i)];
      up = parent_[static_cast<std::size_t>(up)];
      i = up;
    }
    return i;
  }
  // Components are named by their smallest row.
  bool join(std::int32_t a, std::int32_t b) {
    a = find(a);
    b = find(b);
    parent_[static_cast<std::size_t>(std::max(a, b))] = std::min(a, b);
    return a != b;
  }

 private:
  std::vector<std::int32_t> parent_;
};

class Boruvka {
 public:
  Boruvka(const MutualReachability& reach, const FastRows& fast, const NeighbourLists& lists)
      : reach_(reach),
        fast_(fast),
        lists_(lists),
        rows_(static_cast<std::int32_t>(lists.count)),
        forest_(lists.count),
        component_(static_cast<std::size_t>(rows_)),
        size_(component_.size(), 1),
        beyond_(component_.size()),
        found_(component_.size(), -1),
        found_weight_(component_.size(), 0),
        best_(component_.size()) {
    std::iota(component_.begin(), component_.end(), 0);
    for (std::int32_t i = 0; i < rows_; ++i) beyond_[static_cast<std::size_t>(i)] = least_unlisted(i);
  }

  std::vector<Edge> run(comm::Communicator& comm, Workers& workers, SpanningTreeEffort& effort,
                        const std::function<bool()>& should_stop) {
    const Leave leave(should_stop, comm);
    tree_.reserve(component_.size());
    while (static_cast<std::int32_t>(tree_.size()) + 1 < rows_) {
      leave.ask();
      find_best_known();
      const std::vector<char> open = open_components();
      if (join_best(open)) {
        ++effort.list_rounds;
        continue;
      }
      std::vector<ForeignQuery> queries = questions();
      ++effort.search_rounds;
      effort.searched_rows += static_cast<std::int64_t>(queries.size());
      for (const ForeignAnswer& answer :
           search_foreign(reach_, fast_, component_, queries, comm, workers, should_stop)) {
        take(answer);
      }
    }
    std::sort(tree_.begin(), tree_.end());
    return std::move(tree_);
  }

 private:
  // A bound that all edges of row i to rows outside its list are above (in the order of edges).
  Edge least_unlisted(std::int32_t i) const {
    if (lists_.length == rows_ - 1) return {};
    const std::int32_t last = lists_.indices_of(i).back();
    const double reached = lists_.distances_of(i).back();
    // Unlisted rows come after `last` in the order of (distance, index), and the core distance is in the list.
    if (reach_.alpha == 1) return {reached, std::min(i, last), std::max(i, last)};
    return {reach_.weight(i, i, reached), -1, -1};
  }

  // The smallest known edge out of each component: from lists and from earlier searches.
  void find_best_known() {
    std::fill(best_.begin(), best_.end(), Edge{});
    const auto offer = [&](std::int32_t component, const Edge& edge) {
      Edge& best = best_[static_cast<std::size_t>(component)];
      if (edge < best) best = edge;
    };
    for (std::int32_t i = 0; i < rows_; ++i) {
      const std::int32_t mine = component_[static_cast<std::size_t>(i)];
      const auto see = [&](std::int32_t j, const Edge& edge) {
        offer(mine, edge);
        offer(component_[static_cast<std::size_t>(j)], edge);
      };
      const auto indices = lists_.indices_of(i);
      const auto distances = lists_.distances_of(i);
      for (std::size_t k = 0; k < indices.size(); ++k) {
        const std::int32_t j = indices[k];
        if (component_[static_cast<std::size_t>(j)] != mine) see(j, reach_.edge(i, j, distances[k]));
      }
      const std::int32_t j = found_[static_cast<std::size_t>(i)];
      if (j >= 0 && component_[static_cast<std::size_t>(j)] != mine) {
        see(j, {found_weight_[static_cast<std::size_t>(i)], std::min(i, j), std::max(i, j)});
      }
    }
  }

  bool is_open(std::int32_t i) const {
    return beyond_[static_cast<std::size_t>(i)] <
           best_[static_cast<std::size_t>(component_[static_cast<std::size_t>(i)])];
  }

  // Components of which some row may have a smaller edge than the best known.
  std::vector<char> open_components() const {
    std::vector<char> open(component_.size(), 0);
    for (std::int32_t i = 0; i < rows_; ++i) {
      if (is_open(i)) open[static_cast<std::size_t>(component_[static_cast<std::size_t>(i)])] = 1;
    }
    return open;
  }

  bool join_best(const std::vector<char>& open) {
    bool joined = false;
    for (std::int32_t c = 0; c < rows_; ++c) {
      if (component_[static_cast<std::size_t>(c)] != c || open[static_cast<std::size_t>(c)]) continue;
      const Edge& edge = best_[static_cast<std::size_t>(c)];
      MOEX_ASSERT(edge.low >= 0 && edge.high < rows_, "a component has no edge to others");
      if (forest_.join(edge.low, edge.high)) {
        tree_.push_back(edge);
        joined = true;
      }
    }
    if (!joined) return false;
    std::fill(size_.begin(), size_.end(), 0);
    for (std::int32_t i = 0; i < rows_; ++i) {
      component_[static_cast<std::size_t>(i)] = forest_.find(i);
      ++size_[static_cast<std::size_t>(component_[static_cast<std::size_t>(i)])];
    }
    return true;
  }

  std::vector<ForeignQuery> questions() const {
    const auto largest = static_cast<std::int32_t>(std::max_element(size_.begin(), size_.end()) - size_.begin());
    std::vector<ForeignQuery> queries;
    for (std::int32_t i = 0; i < rows_; ++i) {
      const std::int32_t mine = component_[static_cast<std::size_t>(i)];
      if (mine != largest && is_open(i)) queries.push_back({i, best_[static_cast<std::size_t>(mine)].weight});
    }
    return queries;
  }

  void take(const ForeignAnswer& answer) {
    const auto at = static_cast<std::size_t>(answer.row);
    if (answer.other >= 0) {
      found_[at] = answer.other;
      found_weight_[at] = answer.weight;
      // Not strictly above the found edge itself, but that one is known: is_open() is false as long as it leads out.
      beyond_[at] = {answer.weight, std::min(answer.row, answer.other), std::max(answer.row, answer.other)};
    } else {
      // Strictly heavier than the weight, so after all edges of that weight.
      beyond_[at] = {answer.weight, rows_, rows_};
    }
  }

  const MutualReachability& reach_;
  const FastRows& fast_;
  const NeighbourLists& lists_;
  std::int32_t rows_;
  Forest forest_;
  std::vector<std::int32_t> component_;  // of each row: its smallest row
  std::vector<std::int64_t> size_;       // by component
  std::vector<Edge> beyond_;             // of each row: unknown edges to other components are not smaller than this
  std::vector<std::int32_t> found_;      // of each row: the nearest foreign row when it was last searched, or -1
  std::vector<double> found_weight_;
  std::vector<Edge> best_;  // by component
  std::vector<Edge> tree_;
};

}  // namespace

std::vector<Edge> minimum_spanning_tree(const MutualReachability& reach, const FastRows& fast,
                                        const NeighbourLists& lists, comm::Communicator& comm, Workers& workers,
                                        SpanningTreeEffort* effort, const std::function<bool()>& should_stop) {
  SpanningTreeEffort spent;
  std::vector<Edge> tree = Boruvka(reach, fast, lists).run(comm, workers, spent, should_stop);
  if (effort) *effort = spent;
  return tree;
}

}  // namespace moextract::cluster::hdbscan
