// Where k-means starts: k different rows.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/kmeans.h"
#include "cluster/row_survey.h"

namespace moextract::cluster {

/// Draws initial centroids from a sample of the rows; every rank draws the same.
///
/// `plus_plus` is the greedy k-means++ of Arthur and Vassilvitskii (2007), with 2 + floor(ln k) candidates a step of
/// which the best is kept (as in scikit-learn); `random` takes k different rows, each set of equal rows being as likely
/// as it is frequent. If the sample holds fewer than k different rows, rows of the whole set that differ are added to
/// it.
class CentroidSeeder {
 public:
  CentroidSeeder(const RowSource& source, const KMeansParams& params, RowSurvey survey, comm::Communicator& comm,
                 Workers& workers);

  /// Collective. [k, dimension] for start number `start`, k rows of the set, all different.
  /// Throws UserError (input), on every rank, if the whole set has fewer than k different rows.
  std::vector<float> draw(std::int64_t start);

 private:
  std::vector<std::int64_t> try_plus_plus(std::int64_t start);
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
