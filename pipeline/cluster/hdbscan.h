// Distributed HDBSCAN* over float16 rows: exact, and the same bits on any number of ranks and threads.
//
// fit() clusters a sample of the rows (all of them if they are few enough) and gives the other rows the cluster that
// they would fall into. Every rank holds the sample; the pairs of rows, which are the work, are dealt over ranks and
// threads. docs/clustering-hdbscan.md describes the method, the conventions and why the fast pass cannot err.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/agreement.h"
#include "cluster/hdbscan_leave.h"
#include "cluster/hdbscan_spanning_tree.h"
#include "cluster/hdbscan_tree.h"
#include "cluster/pca.h"
#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster::hdbscan {

enum class Metric {
  euclidean,
  cosine,  ///< rows at unit length (rows of zeros stay): the Euclidean distance between these, sqrt(2 - 2 cosine)
};

/// What becomes of rows in no cluster.
enum class NoisePolicy {
  dropped,           ///< they keep the label -1
  nearest_centroid,  ///< the cluster with the nearest mean (lowest label of equals); -1 if there is no cluster
  own_cluster,       ///< together one more cluster, with the label after the last
};

/// Rows whose covariance gives the principal components.
enum class PcaRows {
  all,     ///< of the whole set, streamed
  sample,  ///< those that are clustered
};

struct Params {
  std::int64_t min_cluster_size = 5;  ///< smallest group of rows that is called a cluster; 2 or more
  std::int64_t min_samples = 0;       ///< core distance = to this many-th nearest other row; 0: min_cluster_size
  Selection selection = Selection::eom;
  double cluster_selection_epsilon = 0;  ///< clusters closer than this distance are not split
  double alpha = 1;                      ///< distances are divided by this (not core distances)
  bool allow_single_cluster = false;
  std::int64_t max_cluster_size = 0;  ///< eom only: larger clusters are split; 0: no limit
  Metric metric = Metric::euclidean;
  std::int64_t pca_components = 0;  ///< rows are first projected to this many principal components; 0: not at all
  PcaRows pca_rows = PcaRows::all;
  std::int64_t sample_rows = 30'000;  ///< rows drawn to fit on; time grows with the square
  NoisePolicy noise = NoisePolicy::dropped;
  std::uint64_t seed = 1;
};

/// Seconds on this rank.
struct FitTimes {
  double sample = 0, project = 0, neighbours = 0, spanning_tree = 0, clusters = 0;
};

/// What was learnt of the sample of n rows. Indices into the sample are "rows" below; `numbers` says which they are.
struct Model {
  Params params;
  std::int64_t min_samples = 0;  ///< as used: not 0, not more than n - 1 (1 for one row)
  std::int64_t rows_in_set = 0;
  std::int64_t input_dimension = 0;   ///< of the source's rows
  PcaModel pca;                       ///< components = 0 without
  std::int64_t dimension = 0;         ///< of `points`
  std::vector<std::int64_t> numbers;  ///< [n] global row numbers, ascending
  std::vector<float> points;          ///< [n, dimension] as clustered: after the metric and the projection
  std::vector<double> core;           ///< [n] core distances
  std::vector<double> predict_core;   ///< [n] distance to the (min_samples - 1)-th nearest other row: see predict()
  std::vector<Edge> spanning_tree;    ///< [n - 1] ascending
  std::vector<Merge> linkage;         ///< [n - 1]
  std::vector<CondensedEdge> condensed;
  SelectedClusters clusters;           ///< labels and probabilities are the sample's, before the noise policy
  std::vector<double> outlier_scores;  ///< [n] GLOSH
  std::vector<float> centroids;        ///< [k, dimension] means of the clusters' sample rows, in the space of `points`
  SpanningTreeEffort effort;

  std::int64_t rows() const { return static_cast<std::int64_t>(numbers.size()); }
  /// Clusters found.
  std::int64_t k() const { return static_cast<std::int64_t>(clusters.nodes.size()); }
  /// Labels that rows can have: k(), and one more if noise is a cluster of its own.
  std::int64_t labels() const { return k() + (params.noise == NoisePolicy::own_cluster ? 1 : 0); }
};

/// Of some rows: labels after the noise policy, and strengths of membership (0 for noise, whatever its label, and for
/// some members of a cluster that holds many equal rows).
struct Assignment {
  std::vector<std::int32_t> labels;
  std::vector<double> probabilities;
  std::int64_t noise = 0;  ///< how many are noise, before the policy
};

struct Fit {
  Model model;
  Assignment rows;  ///< [local_rows]: sampled rows as the fit has them, others predicted
  FitTimes times;
};

struct Hooks {
  /// Set on all ranks or on none. Asked between the steps of a fit, after each of Boruvka's rounds, and every second or
  /// so while rows are compared or predicted; any rank's yes ends the call on all ranks with Stopped. Passes over all
  /// rows for the sample and the principal components are not left midway.
  std::function<bool()> should_stop = {};
};

/// Collective over `comm`; ranks may have no rows. Every rank returns the same model. Fewer rows than min_cluster_size
/// are all noise. Weights of rows are not read.
/// Memory on each rank: 12 bytes a value of the sample, and some 600 bytes a sample row (min_samples 10).
/// Throws UserError (config) for parameters out of range, (input) if there are no rows or ranks' dimensions differ,
/// (numerics) for rows that are not finite, naming the global row.
Fit fit(const RowSource& source, const Params& params, comm::Communicator& comm, Workers& workers,
        const Hooks& hooks = {});

/// What approximate_predict of the Python package hdbscan says: of the 2 min_samples nearest sample
/// rows, the one at the smallest mutual reachability distance decides; the row joins the cluster in which that one is
/// at the density of that distance. Not collective; the result does not depend on how rows are dealt or blocked.
/// Throws UserError (input) if the dimensions differ, (numerics) for rows that are not finite.
Assignment predict(const Model& model, const RowSource& source, Workers& workers);

struct Agreement {
  std::int64_t held_back = 0;  ///< rows
  double ari = 0;  ///< adjusted Rand index (agreement.h) of the two labellings of these rows, noise being a label
  double same_noise = 0;  ///< share of these rows that both or neither call noise
};

/// Collective. How far predict() can be trusted: fits again on the sample less `held_back` of its rows (drawn by seed),
/// predicts these, and compares with the labels that `model` gave them, both before the noise policy.
/// Throws UserError (config) if held_back is not within 1 .. rows - 1.
Agreement held_back_agreement(const Model& model, std::int64_t held_back, comm::Communicator& comm, Workers& workers,
                              const Hooks& hooks = {});

}  // namespace moextract::cluster::hdbscan
