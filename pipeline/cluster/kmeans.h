// Distributed k-means (Lloyd) over float16 rows.
//
// Results are the same bits on any number of ranks, threads, for any block size and instruction set: a row's label is
// its true nearest centroid, decided exactly where rounding leaves a doubt (nearest.h), and what is summed over rows
// are integers (exact_sums.h): float16 values are integers times 2^-24. docs/clustering-kmeans.md has the argument.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/lloyd_pass.h"
#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/error.h"
#include "core/workers.h"

namespace moextract::cluster {

enum class KMeansInit {
  plus_plus,  ///< greedy k-means++ on a drawn sample
  random,     ///< drawn rows
  parallel,   ///< k-means||: candidates drawn from all rows in a few rounds, k-means++ among them
  given       ///< KMeansParams::initial
};

/// What becomes of a cluster without rows.
enum class EmptyClusters {
  farthest,  ///< it is given the row farthest from its centroid
  keep,      ///< its centroid stays
  refuse     ///< the fit ends with an error
};

struct KMeansParams {
  std::int64_t k = 8;                ///< number of clusters
  std::int64_t max_iterations = 50;  ///< Lloyd iterations at most
  double tolerance = 1e-4;  ///< stop when no centroid moved by more than this times the root mean square radius
  std::int64_t n_init = 1;  ///< independent starts; the one with the lowest inertia is kept
  KMeansInit init = KMeansInit::parallel;
  std::int64_t init_sample = 16384;  ///< rows drawn (by seed and global row number) for the initialisation
  bool spherical = false;            ///< cosine: rows and centroids on the unit sphere
  std::uint64_t seed = 1;
  double inertia_tolerance = 0;  ///< stop when an iteration lowers the inertia by no more than this share; 0: never
  EmptyClusters empty = EmptyClusters::farthest;
  std::vector<float> initial = {};  ///< [k, dimension] for KMeansInit::given, on the grid or brought to it
  std::int64_t init_rounds = 5;     ///< of k-means||
  double init_oversampling = 2;     ///< candidates a round, times k, of k-means||
  /// Balanced clusters: the largest holds at most 1 + balance times the mean (rows by their weights); 0: any sizes.
  double balance = 0;
  std::int64_t bounds_bytes = std::int64_t{1} << 30;  ///< most memory for distance bounds (2 * k a local row); 0: none
  /// Most memory for rows rounded once (2 bytes a value of the local rows, and 32 a row); 0: rounded in each pass.
  std::int64_t rounded_bytes = std::int64_t{1} << 30;
};

struct KMeansIteration {
  std::int64_t iteration = 0;
  double inertia = 0;                      ///< sum of squared distances to the centroids the iteration began with
  double shift = 0;                        ///< largest centroid movement, Euclidean
  std::int64_t moved = 0;                  ///< rows whose cluster changed
  std::int64_t smallest = 0, largest = 0;  ///< cluster sizes, rows
  double seconds = 0;                      ///< on this rank
};

/// Where a fit stands between two iterations: all it needs to go on to the same bits.
struct KMeansState {
  std::int64_t start = 0;             ///< which of n_init
  std::int64_t iteration = 0;         ///< iterations done
  std::vector<float> centroids = {};  ///< [k, dimension] that the next iteration begins with
  std::vector<float> previous = {};   ///< those of the last iteration; empty before the first
  std::vector<KMeansIteration> history = {};
  std::int64_t empty_refilled = 0;
  bool converged = false;
  std::vector<double> balancer = {};  ///< what Balancer::state() gives; empty unless balanced
  // Of the best of the starts before; empty for the first start.
  std::vector<float> best = {};  ///< its final centroids
  std::vector<KMeansIteration> best_history = {};
  bool best_converged = false;
  std::int64_t best_refilled = 0;
  std::vector<double> best_prices = {};
};

struct KMeansModel {
  std::int64_t k = 0, dimension = 0;
  std::vector<float> centroids;     ///< [k, dimension]
  std::vector<std::int64_t> sizes;  ///< [k] rows of the whole set
  double inertia = 0;               ///< over the whole set, with the final centroids
  bool converged = false;
  std::int64_t empty_refilled = 0;  ///< times that an empty cluster was given the farthest row
  std::vector<KMeansIteration> history;
  /// [k], balanced clusters alone, 0 and more: a row's cluster is the one with the least squared distance + price.
  std::vector<double> prices = {};
  bool balanced = true;  ///< of balanced clusters, whether the largest is within its limit
};

/// Thrown by fit() on all ranks, by each for itself, where the whole set has fewer different rows (of weight above 0)
/// than clusters were asked for.
class TooFewRows : public UserError {
 public:
  TooFewRows(std::int64_t k, std::int64_t rows, std::int64_t different, bool spherical);
  /// Different rows of the whole set; different directions if spherical. The most clusters that can be asked for.
  std::int64_t different() const noexcept { return different_; }

 private:
  std::int64_t different_;
};

/// Thrown by fit() on all ranks when one was asked to stop, after the state was handed out.
class KMeansStopped : public UserError {
 public:
  KMeansStopped(std::int64_t start, std::int64_t iteration);
  std::int64_t start() const noexcept { return start_; }
  /// Iterations of this start that the state holds.
  std::int64_t iteration() const noexcept { return iteration_; }

 private:
  std::int64_t start_, iteration_;
};

struct KMeansHooks {
  /// Called on rank 0 only, for every start; what it throws ends the fit on all ranks.
  std::function<void(const KMeansIteration&)> on_iteration = {};
  /// The same before the first iteration of every start and after every iteration, with what resume_from takes.
  /// `stopping`: the fit ends after this call, because some rank was asked to stop.
  std::function<void(const KMeansState&, bool stopping)> on_state = {};
  /// Set on all ranks or on none. Asked on every rank before the first iteration of every start and in every iteration;
  /// any rank's yes lets all finish the iteration, hand out the state and throw KMeansStopped. A fit that goes on from
  /// a state makes at least one iteration before it stops again.
  std::function<bool()> should_stop = {};
  /// Makes what passes over a rank's rows, in place of the processor: on a device (cluster_device/). The result is the
  /// same bits.
  MakePass make_pass = {};
  /// Goes on from here instead of beginning: the same on every rank, from a fit of the same rows and parameters.
  const KMeansState* resume_from = nullptr;
};

struct KMeansFit {
  KMeansModel model;
  std::vector<std::int32_t> labels;  ///< [local_rows]: nearest FINAL centroid, lowest index on ties
};

/// Collective over `comm`. Fits on the union of the ranks' rows; ranks may have none. Blocks in reductions; one grouped
/// reduction an iteration. Every rank returns the same model.
///
/// Lloyd's iteration from `init` (kmeans_init.h). Centroids are float, rounded from the exact mean (values below 2^-12
/// to multiples of 2^-36, centroid_grid.h). It has converged when no centroid moved by more than tolerance *
/// sqrt(inertia / rows), with the iteration's own inertia, or by inertia_tolerance. Labels,
/// sizes and inertia of the result belong to the FINAL centroids: unless the last iteration moved nothing, one more
/// pass is made. Inertia is computed from exact sums, not row by row. A cluster that runs empty is, by default, given
/// the row farthest from its centroid (the smallest global number of equals; several empty clusters are given rows that
/// differ). In contrived cases (a refilled cluster keeps emptying another) a final cluster may have size 0.
/// `spherical`: rows are brought to unit length, rounded to multiples of 2^-24 (rows of zeros stay zero); centroids are
/// means brought to unit length; distances are Euclidean between these: squared, 2 - 2 cosine.
///
/// `balance`: rows go to the cluster with the least squared distance + price, a price for each cluster (a power
/// diagram: Aurenhammer, Hoffmann and Aronov 1998). Prices rise in clusters that are too large and fall in those that
/// are too small, a step an iteration; when the centroids have come to rest, further passes change prices alone until
/// the largest cluster is within the limit, up to 100 passes; then the evenest prices seen are taken. Many equal rows
/// cannot be parted and may keep a cluster too large. Bounds are not kept. Inertia is that of the distances alone.
///
/// Rows may have weights (row_source.h). The result is that of repeating each row so often.
///
/// Memory: 4 bytes a local row and 12 during k-means||, bounds of 2 * k bytes a local row where bounds_bytes allows,
/// 2 bytes a value of the local rows where rounded_bytes allows,
/// init_sample rows of 12 bytes a value, and k * dimension * 8 bytes a thread.
/// Throws UserError (config) for parameters out of range, (input) if there are no rows, TooFewRows (input) if there are
/// fewer different rows than k in the whole set, (numerics) for rows that are not finite, naming the global row.
KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const KMeansHooks& hooks);
/// The same with a callback for iterations alone.
KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const std::function<void(const KMeansIteration&)>& on_iteration = {});

/// Nearest centroid of each local row, lowest index on ties: for the rows of fit() the labels of fit(). Not collective.
/// Throws UserError (input) if the dimensions differ or a centroid is not finite or too large, (numerics) for rows that
/// are not finite.
std::vector<std::int32_t> predict(const KMeansModel& model, const RowSource& source, bool spherical, Workers& workers);

}  // namespace moextract::cluster
