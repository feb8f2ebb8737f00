// The rows that HDBSCAN is fitted on: all, or as many as are wanted, drawn by seed and global row number.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/row_source.h"
#include "comm/communicator.h"

namespace moextract::cluster::hdbscan {

struct Sample {
  std::int64_t rows_in_set = 0;
  std::int64_t dimension = 0;
  std::vector<std::int64_t> numbers;  ///< global row numbers, ascending
  std::vector<std::uint16_t> bits;    ///< [numbers.size(), dimension] float16
};

/// Collective; every rank returns the same sample: the `wanted` rows with the smallest hashes of (seed, global row
/// number), or all rows if there are no more. Reads the rows twice; memory: 8 bytes a local row and the sample.
/// Throws UserError (input) if there are no rows, the ranks' dimensions differ or two rows have the same number,
/// (numerics) for rows that are not finite, naming the global row.
Sample draw_sample(const RowSource& source, std::int64_t wanted, std::uint64_t seed, comm::Communicator& comm);

}  // namespace moextract::cluster::hdbscan
