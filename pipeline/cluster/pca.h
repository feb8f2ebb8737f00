// Principal components: a linear projection fitted before clustering.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "cluster/row_moments.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

struct PcaModel {
  std::int64_t dimension = 0, components = 0;
  std::vector<double> mean;       ///< [dimension]
  std::vector<double> axes;       ///< [components, dimension], orthonormal, by descending variance; signs as
                                  ///< SymmetricEigen fixes them
  std::vector<double> variances;  ///< [components], divisor n - 1 (1 for one row)
  double total_variance = 0;      ///< of all dimensions
};

/// Collective; every rank passes the same `rows` ([n, dimension]) and gets the same bits, for any ranks and threads:
/// each entry of the covariance is one sum over rows in ascending order, in double, of differences from the mean.
/// Throws UserError (config) if components are not within 1 .. dimension.
PcaModel fit_pca(std::span<const float> rows, std::int64_t dimension, std::int64_t components, comm::Communicator& comm,
                 Workers& workers);

/// The same from the mean and covariance of all rows of a set, the same on every rank. Collective.
PcaModel fit_pca(const RowMoments& moments, std::int64_t components, comm::Communicator& comm);

/// Coordinates, [n, components], rounded to float from sums in double of fixed order. Not collective.
std::vector<float> project(const PcaModel& model, std::span<const float> rows, Workers& workers);

}  // namespace moextract::cluster
