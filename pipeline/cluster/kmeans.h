// Distributed k-means (Lloyd) over float16 rows.
//
// Results are the same bits on any number of ranks, threads and for any block size: a row's distances are computed by
// one thread in one fixed order (distances.h), and what is summed over rows are integers (exact_sums.h): float16 values
// are integers times 2^-24, and squared distances are rounded to a fixed point that all ranks agree on beforehand.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

enum class KMeansInit { plus_plus, random };

struct KMeansParams {
  std::int64_t k = 8;                ///< number of clusters
  std::int64_t max_iterations = 50;  ///< Lloyd iterations at most
  double tolerance = 1e-4;  ///< stop when no centroid moved by more than this times the root mean square radius
  std::int64_t n_init = 1;  ///< independent starts; the one with the lowest inertia is kept
  KMeansInit init = KMeansInit::plus_plus;
  std::int64_t init_sample = 16384;  ///< rows drawn (by seed and global row number) for the initialisation
  bool spherical = false;            ///< cosine: rows and centroids on the unit sphere
  std::uint64_t seed = 1;
};

struct KMeansIteration {
  std::int64_t iteration = 0;
  double inertia = 0;                      ///< sum of squared distances to the centroids the iteration began with
  double shift = 0;                        ///< largest centroid movement, Euclidean
  std::int64_t moved = 0;                  ///< rows whose cluster changed
  std::int64_t smallest = 0, largest = 0;  ///< cluster sizes, rows
  double seconds = 0;                      ///< on this rank
};

struct KMeansModel {
  std::int64_t k = 0, dimension = 0;
  std::vector<float> centroids;     ///< [k, dimension]
  std::vector<std::int64_t> sizes;  ///< [k] rows of the whole set
  double inertia = 0;               ///< over the whole set, with the final centroids
  bool converged = false;
  std::int64_t empty_refilled = 0;  ///< times that an empty cluster was given the farthest row
  std::vector<KMeansIteration> history;
};

struct KMeansFit {
  KMeansModel model;
  std::vector<std::int32_t> labels;  ///< [local_rows]: nearest FINAL centroid, lowest index on ties
};

/// Collective over `comm`. Fits on the union of the ranks' rows; ranks may have none. Blocks in reductions; one grouped
/// reduction an iteration. Every rank returns the same model.
///
/// Lloyd's iteration from `init` (kmeans_init.h). Centroids are float, rounded from the exact mean. It has converged
/// when no centroid moved by more than tolerance * sqrt(inertia / rows), with the iteration's own inertia. Labels,
/// sizes and inertia of the result belong to the FINAL centroids: unless the last iteration moved nothing, one more
/// pass is made. A cluster that runs empty is given the row farthest from its centroid (the smallest global number of
/// equals; several empty clusters are given rows that differ). In contrived cases (a refilled cluster keeps emptying
/// another) a final cluster may have size 0. `spherical`: rows are brought to unit length, rounded to multiples of
/// 2^-24 (rows of zeros stay zero); centroids are means brought to unit length; distances are
/// Euclidean between these: squared, 2 - 2 cosine.
///
/// Memory: 4 bytes a local row, init_sample rows of 12 bytes a value, and k * dimension * 8 bytes a thread.
/// Throws UserError (config) for parameters out of range, (input) if there are no rows, or fewer different rows than k
/// in the whole set (message says how many there are), (numerics) for rows that are not finite, naming the global row.
/// `on_iteration` is called on rank 0 only, for every start; what it throws ends the fit on all ranks.
KMeansFit fit(const RowSource& source, const KMeansParams& params, comm::Communicator& comm, Workers& workers,
              const std::function<void(const KMeansIteration&)>& on_iteration = {});

/// Nearest centroid of each local row, lowest index on ties: for the rows of fit() the labels of fit(). Not collective.
/// Throws UserError (input) if the dimensions differ, (numerics) for rows that are not finite.
std::vector<std::int32_t> predict(const KMeansModel& model, const RowSource& source, bool spherical, Workers& workers);

}  // namespace moextract::cluster
