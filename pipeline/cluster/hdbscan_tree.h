// From a spanning tree to clusters: single linkage, the condensed tree, the choice of clusters, and what is said of
// each row. Method: Campello, Moulavi, Zimek, Sander (2015), in the form and numbering of the Python package hdbscan.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/hdbscan_mutual_reachability.h"

namespace moextract::cluster::hdbscan {

/// One merge. Nodes 0 .. n-1 are rows, n + m is what merge m made.
struct Merge {
  std::int64_t left = 0, right = 0;
  double distance = 0;
  std::int64_t size = 0;  ///< rows below
};

/// `edges` in ascending order, a spanning tree of n rows; ties are merged in that order.
std::vector<Merge> single_linkage(std::span<const Edge> edges);

/// A row, or a cluster, that leaves a cluster at the density lambda = 1 / distance (infinity for distance 0). Rows are
/// 0 .. n-1, clusters n (the root, all rows) and up, parents before children.
struct CondensedEdge {
  std::int64_t parent = 0, child = 0;
  double lambda = 0;
  std::int64_t size = 0;  ///< rows in the child
};

/// The hierarchy in which only splits into two parts of at least `min_cluster_size` rows make new clusters. Each row
/// is the child of exactly one edge. Empty for fewer than two rows.
std::vector<CondensedEdge> condense(std::span<const Merge> merges, std::int64_t min_cluster_size);

enum class Selection { eom, leaf };

struct SelectionRules {
  Selection method = Selection::eom;
  double epsilon = 0;
  bool allow_single_cluster = false;
  std::int64_t max_cluster_size = 0;  ///< 0: no limit
};

struct SelectedClusters {
  std::vector<std::int64_t> nodes;  ///< [k] the clusters' numbers in the condensed tree, ascending: label order
  std::vector<double> stabilities;  ///< [k] sum over rows of (lambda of leaving - lambda of birth); may be infinite
  /// [k] stability / (size * largest lambda), hdbscan's cluster_persistence_: in [0, 1]. As there, of a cluster that
  /// epsilon chose over better ones below it, their stability is taken.
  std::vector<double> persistences;
  std::vector<std::int64_t> sizes;        ///< [k] rows
  std::vector<std::int32_t> labels;       ///< [n] 0 .. k-1, or -1 for noise
  std::vector<double> probabilities;      ///< [n] strength of membership in [0, 1]; 0 for noise
  std::vector<std::int32_t> label_below;  ///< [clusters] label of the selected cluster at or above node n + c, or -1
  std::vector<double> largest_lambda;     ///< [clusters] largest lambda of an edge out of node n + c
};

/// `tree` is of `rows` rows. Infinite lambdas (duplicates) are defined thus: infinity minus infinity is 0; a row that
/// stays to lambda = infinity has probability 1, others of its cluster 0.
SelectedClusters select_clusters(std::span<const CondensedEdge> tree, std::int64_t rows, const SelectionRules& rules);

/// [rows] GLOSH: 1 - lambda(row) / (largest lambda below the row's cluster). With infinite lambdas: 0 for rows that
/// reach infinity, 1 for others of such a cluster.
std::vector<double> outlier_scores(std::span<const CondensedEdge> tree, std::int64_t rows);

}  // namespace moextract::cluster::hdbscan
