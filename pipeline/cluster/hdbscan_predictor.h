// Clusters for rows that were not in the sample.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cluster/hdbscan.h"
#include "cluster/hdbscan_rows.h"

namespace moextract::cluster::hdbscan {

/// Holds the model's sample ready for products. Refers to model and workers.
class Predictor {
 public:
  Predictor(const Model& model, Workers& workers);

  /// Labels after the noise policy for all rows of `source`. With `keep_sampled`, rows whose global numbers are in the
  /// sample get the labels of the fit. `pause` is called after every pause_rows() rows; what it throws ends the call.
  /// Throws UserError as predict() does.
  Assignment assign(
      const RowSource& source, bool keep_sampled, const std::function<void()>& pause = [] {}) const;
  /// About a second's work, the same on every rank.
  std::int64_t pause_rows() const;

  /// Labels before the noise policy for `points` ([m, model.dimension], in the space of model.points).
  Assignment join_clusters(std::span<const float> points) const;

 private:
  void join_one(std::span<const std::int32_t> neighbours, std::span<const double> distances, std::int32_t& label,
                double& probability) const;
  std::int32_t label_of_noise(const float* point) const;

  const Model& model_;
  Workers& workers_;
  std::vector<float> origin_;
  FastRows fast_;
  Panels panels_;
  std::vector<std::int64_t> parent_of_row_, parent_of_cluster_;  // cluster indices, 0 = root
  std::vector<double> lambda_of_row_, lambda_of_cluster_;
};

}  // namespace moextract::cluster::hdbscan
