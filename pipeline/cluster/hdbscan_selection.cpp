// The choice of clusters out of the condensed tree, declared in hdbscan_tree.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "cluster/hdbscan_tree.h"

namespace moextract::cluster::hdbscan {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A cluster of the condensed tree; its index + rows is its number there. Parents come before children.
struct Cluster {
  std::int64_t parent = -1, left = -1, right = -1;
  double birth = 0;  // lambda; 0 for the root
  double largest_lambda = 0;
  double stability = 0;
  std::int64_t size = 0;
};

std::vector<Cluster> gather_clusters(std::span<const CondensedEdge> tree, std::int64_t rows) {
  std::vector<Cluster> clusters(1);
  clusters[0].size = rows;
  for (const CondensedEdge& edge : tree) {
    if (edge.child < rows) continue;
    const std::int64_t child = edge.child - rows, parent = edge.parent - rows;
    clusters.resize(std::max(clusters.size(), static_cast<std::size_t>(child) + 1));
    Cluster& mine = clusters[static_cast<std::size_t>(child)];
    mine.parent = parent;
    mine.birth = edge.lambda;
    mine.size = edge.size;
    Cluster& above = clusters[static_cast<std::size_t>(parent)];
    (above.left < 0 ? above.left : above.right) = child;
  }
  for (const CondensedEdge& edge : tree) {
    Cluster& mine = clusters[static_cast<std::size_t>(edge.parent - rows)];
    mine.largest_lambda = std::max(mine.largest_lambda, edge.lambda);
    if (edge.lambda > mine.birth) mine.stability += (edge.lambda - mine.birth) * static_cast<double>(edge.size);
  }
  return clusters;
}

class Choice {
 public:
  Choice(std::vector<Cluster> clusters, const SelectionRules& rules)
      : clusters_(std::move(clusters)), rules_(rules), chosen_(clusters_.size(), 0) {
    for (const Cluster& cluster : clusters_) best_.push_back(cluster.stability);
  }

  std::vector<char> run() {
    if (rules_.method == Selection::eom) {
      choose_by_mass();
    } else if (clusters_.size() > 1) {
      for (std::size_t c = 1; c < clusters_.size(); ++c) chosen_[c] = clusters_[c].left < 0;
    }
    if (rules_.epsilon > 0 && clusters_.size() > 1) merge_below_epsilon();
    return std::move(chosen_);
  }

  /// Of each cluster, the larger of its stability and of what is chosen below it (eom); its stability (leaf).
  const std::vector<double>& best() const { return best_; }

 private:
  // Excess of mass: a cluster is better than what it splits into if its stability is not less than theirs together.
  void choose_by_mass() {
    for (std::size_t c = clusters_.size(); c-- > (rules_.allow_single_cluster ? 0u : 1u);) {
      const Cluster& mine = clusters_[c];
      const double below =
          mine.left < 0 ? 0 : best_[static_cast<std::size_t>(mine.left)] + best_[static_cast<std::size_t>(mine.right)];
      const bool too_large = rules_.max_cluster_size > 0 && mine.size > rules_.max_cluster_size;
      if (below > mine.stability || too_large) {
        best_[c] = below;
      } else {
        best_[c] = mine.stability;
        chosen_[c] = 1;
      }
    }
    // The topmost stays.
    std::vector<char> covered(clusters_.size(), 0);
    for (std::size_t c = 1; c < clusters_.size(); ++c) {
      const auto parent = static_cast<std::size_t>(clusters_[c].parent);
      covered[c] = covered[parent] || chosen_[parent];
      if (covered[c]) chosen_[c] = 0;
    }
  }

  // Malzer and Baum (2019): a chosen cluster that was born below the distance epsilon gives way to its first ancestor
  // that was born above it.
  void merge_below_epsilon() {
    if (chosen_[0]) return;
    std::vector<char> kept(clusters_.size(), 0);
    for (std::size_t c = 1; c < clusters_.size(); ++c) {
      if (chosen_[c]) kept[1 / clusters_[c].birth < rules_.epsilon ? ancestor_above_epsilon(c) : c] = 1;
    }
    chosen_ = std::move(kept);
  }
  std::size_t ancestor_above_epsilon(std::size_t c) const {
    for (;;) {
      const auto parent = static_cast<std::size_t>(clusters_[c].parent);
      if (parent == 0) return rules_.allow_single_cluster ? 0 : c;
      if (1 / clusters_[parent].birth > rules_.epsilon) return parent;
      c = parent;
    }
  }

  std::vector<Cluster> clusters_;
  SelectionRules rules_;
  std::vector<char> chosen_;
  std::vector<double> best_;
};

}  // namespace

SelectedClusters select_clusters(std::span<const CondensedEdge> tree, std::int64_t rows, const SelectionRules& rules) {
  SelectedClusters selected;
  selected.labels.assign(static_cast<std::size_t>(rows), -1);
  selected.probabilities.assign(static_cast<std::size_t>(rows), 0);
  if (tree.empty()) return selected;
  const std::vector<Cluster> clusters = gather_clusters(tree, rows);
  Choice choice(clusters, rules);
  const std::vector<char> chosen = choice.run();

  selected.label_below.assign(clusters.size(), -1);
  for (std::size_t c = 0; c < clusters.size(); ++c) {
    selected.largest_lambda.push_back(clusters[c].largest_lambda);
    if (chosen[c]) {
      selected.label_below[c] = static_cast<std::int32_t>(selected.nodes.size());
      selected.nodes.push_back(rows + static_cast<std::int64_t>(c));
      selected.stabilities.push_back(clusters[c].stability);
    } else if (c > 0) {
      selected.label_below[c] = selected.label_below[static_cast<std::size_t>(clusters[c].parent)];
    }
  }

  // As one cluster of everything the root has no border of its own: its rows are those denser than epsilon, or those
  // that stay to the end.
  const bool root_chosen = chosen[0] != 0;
  double root_border = kInfinity;
  if (root_chosen && selected.nodes.size() == 1) {
    root_border = rules.epsilon > 0 ? 1 / rules.epsilon : clusters[0].largest_lambda;
  }
  selected.sizes.assign(selected.nodes.size(), 0);
  double largest = 0;
  for (const CondensedEdge& edge : tree) {
    largest = std::max(largest, edge.lambda);
    if (edge.child >= rows) continue;
    const std::int32_t label = selected.label_below[static_cast<std::size_t>(edge.parent - rows)];
    if (label < 0) continue;
    const std::int64_t node = selected.nodes[static_cast<std::size_t>(label)] - rows;
    if (node == 0 && (selected.nodes.size() > 1 || edge.lambda < root_border)) continue;
    const auto row = static_cast<std::size_t>(edge.child);
    selected.labels[row] = label;
    ++selected.sizes[static_cast<std::size_t>(label)];
    const double last = clusters[static_cast<std::size_t>(node)].largest_lambda;
    selected.probabilities[row] = last == 0 || std::isinf(edge.lambda) ? 1
                                  : std::isinf(last)                   ? 0
                                                                       : std::min(edge.lambda, last) / last;
  }
  for (std::size_t label = 0; label < selected.nodes.size(); ++label) {
    const auto size = static_cast<double>(selected.sizes[label]);
    const double stability = choice.best()[static_cast<std::size_t>(selected.nodes[label] - rows)];
    selected.persistences.push_back(std::isinf(largest) || largest == 0 || size == 0 ? 1
                                                                                     : stability / (size * largest));
  }
  return selected;
}

}  // namespace moextract::cluster::hdbscan
