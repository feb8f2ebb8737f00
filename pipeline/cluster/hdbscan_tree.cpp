#include "cluster/hdbscan_tree.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/error.h"

namespace moextract::cluster::hdbscan {

std::vector<Merge> single_linkage(std::span<const Edge> edges) {
  const auto n = static_cast<std::int64_t>(edges.size()) + 1;
  std::vector<std::int64_t> above(static_cast<std::size_t>(2 * n - 1));
  std::iota(above.begin(), above.end(), std::int64_t{0});
  const auto top = [&](std::int64_t node) {
    while (above[static_cast<std::size_t>(node)] != node) {
      std::int64_t& up = above[static_cast<std::size_t>(node)];
      up = above[static_cast<std::size_t>(up)];
      node = up;
    }
    return node;
  };
  std::vector<Merge> merges;
  merges.reserve(edges.size());
  const auto size_of = [&](std::int64_t node) {
    return node < n ? 1 : merges[static_cast<std::size_t>(node - n)].size;
  };
  for (const Edge& edge : edges) {
    const std::int64_t left = top(edge.low), right = top(edge.high);
    MOEX_ASSERT(left != right, "the edges of a spanning tree form no circle");
    const std::int64_t made = n + static_cast<std::int64_t>(merges.size());
    above[static_cast<std::size_t>(left)] = above[static_cast<std::size_t>(right)] = made;
    merges.push_back({left, right, edge.weight, size_of(left) + size_of(right)});
  }
  return merges;
}

std::vector<CondensedEdge> condense(std::span<const Merge> merges, std::int64_t min_cluster_size) {
  std::vector<CondensedEdge> tree;
  if (merges.empty()) return tree;
  const auto n = static_cast<std::int64_t>(merges.size()) + 1;
  const auto size_of = [&](std::int64_t node) {
    return node < n ? 1 : merges[static_cast<std::size_t>(node - n)].size;
  };
  struct Open {
    std::int64_t node, cluster;
  };
  std::vector<std::int64_t> fallen, next;
  // All rows below `node` leave `cluster`, level by level.
  const auto leave = [&](std::int64_t node, std::int64_t cluster, double lambda) {
    fallen.assign(1, node);
    while (!fallen.empty()) {
      next.clear();
      for (const std::int64_t one : fallen) {
        if (one < n) {
          tree.push_back({cluster, one, lambda, 1});
        } else {
          const Merge& merge = merges[static_cast<std::size_t>(one - n)];
          next.push_back(merge.left);
          next.push_back(merge.right);
        }
      }
      fallen.swap(next);
    }
  };
  // In breadth: clusters are numbered level by level.
  std::vector<Open> queue = {{2 * n - 2, n}};
  std::int64_t next_cluster = n + 1;
  for (std::size_t at = 0; at < queue.size(); ++at) {
    const auto [node, cluster] = queue[at];
    if (node < n) continue;
    const Merge& merge = merges[static_cast<std::size_t>(node - n)];
    const double lambda = merge.distance > 0 ? 1 / merge.distance : std::numeric_limits<double>::infinity();
    const bool left_stays = size_of(merge.left) >= min_cluster_size;
    const bool right_stays = size_of(merge.right) >= min_cluster_size;
    if (left_stays && right_stays) {
      for (const std::int64_t child : {merge.left, merge.right}) {
        tree.push_back({cluster, next_cluster, lambda, size_of(child)});
        queue.push_back({child, next_cluster++});
      }
      continue;
    }
    if (!left_stays) leave(merge.left, cluster, lambda);
    if (!right_stays) leave(merge.right, cluster, lambda);
    if (left_stays) queue.push_back({merge.left, cluster});
    if (right_stays) queue.push_back({merge.right, cluster});
  }
  return tree;
}

std::vector<double> outlier_scores(std::span<const CondensedEdge> tree, std::int64_t rows) {
  std::int64_t clusters = 1;
  for (const CondensedEdge& edge : tree) clusters = std::max(clusters, edge.parent - rows + 1);
  std::vector<double> death(static_cast<std::size_t>(clusters), 0.0);
  for (const CondensedEdge& edge : tree) {
    double& mine = death[static_cast<std::size_t>(edge.parent - rows)];
    mine = std::max(mine, edge.lambda);
  }
  // Children have greater numbers than their parents and their edges come later.
  for (auto edge = tree.rbegin(); edge != tree.rend(); ++edge) {
    if (edge->child < rows) continue;
    double& above = death[static_cast<std::size_t>(edge->parent - rows)];
    above = std::max(above, death[static_cast<std::size_t>(edge->child - rows)]);
  }
  std::vector<double> scores(static_cast<std::size_t>(rows), 0.0);
  for (const CondensedEdge& edge : tree) {
    if (edge.child >= rows) continue;
    const double last = death[static_cast<std::size_t>(edge.parent - rows)];
    if (last == 0 || std::isinf(edge.lambda)) continue;
    scores[static_cast<std::size_t>(edge.child)] = std::isinf(last) ? 1 : (last - edge.lambda) / last;
  }
  return scores;
}

}  // namespace moextract::cluster::hdbscan
