// Mean and covariance of all rows of a set, streamed block by block: what principal components need.
//
// Each column is rounded to whole multiples of a step, 2^-20 of its largest magnitude (2^-19 and less only for more
// than 4 million rows); whole numbers are multiplied and summed exactly. The result is the covariance of rows rounded
// so, the same bits however rows are dealt over ranks, threads and blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

struct RowMoments {
  std::int64_t rows = 0, dimension = 0;
  std::vector<double> mean;        ///< [dimension]
  std::vector<double> covariance;  ///< [dimension, dimension], divisor rows - 1 (1 for one row)
};

/// Collective; every rank returns the same. Reads the rows twice; ranks without rows take part. `dimension` is the
/// rows', known on every rank; `unit_length`: of rows scaled to length 1. Rows are finite. Memory: 16 dimension^2
/// bytes, and 1,024 rows in double. Weights of rows are not looked at.
RowMoments stream_row_moments(const RowSource& source, std::int64_t dimension, bool unit_length,
                              comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
