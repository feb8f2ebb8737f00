// Where k-means starts: k different rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/exact_sums.h"
#include "cluster/kmeans.h"
#include "cluster/row_survey.h"
#include "core/random.h"

namespace moextract::cluster {

/// Draws initial centroids; every rank draws the same.
///
/// `parallel` is the k-means|| of Bahmani et al. (2012): from one row of the sample on, drawn by weight, each of
/// init_rounds rounds takes every row with probability init_oversampling * k * (its squared distance to the rows taken
/// so far, as a share of the sum), decided by the row's own random number; k centroids are then chosen among the rows
/// taken by k-means++, each standing for the rows nearest to it. The other two choose from a drawn sample. `plus_plus`
/// is the greedy k-means++ of Arthur and Vassilvitskii (2007), with 2 + floor(ln k) candidates a step of which the best
/// is kept (as in scikit-learn); `random` takes k different rows, each set of equal rows being as likely as its rows'
/// weights together. If the sample holds fewer than k different rows, rows of the whole set that differ are added to
/// it.
class CentroidSeeder {
 public:
  CentroidSeeder(const RowSource& source, const KMeansParams& params, RowSurvey survey, comm::Communicator& comm,
                 Workers& workers);

  /// Collective. [k, dimension] for start number `start`, k rows of the set, all different.
  /// Throws UserError (input), on every rank, if the whole set has fewer than k different rows.
  std::vector<float> draw(std::int64_t start);

 private:
  std::vector<float> draw_from_sample(std::int64_t start);
  std::vector<float> try_parallel(std::int64_t start);
  double update_closest(std::span<const float> fresh, std::int32_t before, std::span<double> closest,
                        std::span<std::int32_t> owners, const DistanceScale& scale, std::int64_t count,
                        std::vector<std::int64_t>& weights);
  std::vector<float> take_rows(std::span<const double> closest, double scale, std::uint64_t purpose);
  std::vector<std::int64_t> plus_plus(std::span<const float> rows, std::span<const std::int64_t> weights,
                                      RandomStream random);
  std::vector<std::int64_t> try_random(std::int64_t start) const;
  void add_distinct_rows();
  [[noreturn]] void fail_for_too_few(std::int64_t distinct) const;

  const RowSource& source_;
  const KMeansParams& params_;
  RowSurvey survey_;
  comm::Communicator& comm_;
  Workers& workers_;
  std::int64_t candidates_;  // rows in survey_.sample
  bool complete_;            // the sample shows whether there are k different rows in the whole set
};

}  // namespace moextract::cluster
