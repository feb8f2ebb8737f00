// What has to be known of the whole set before clustering starts: its size, its largest value, and a sample for the
// initialisation. One pass over the rows.
#pragma once

#include <cstdint>
#include <vector>

#include "cluster/row_source.h"
#include "comm/communicator.h"
#include "core/workers.h"

namespace moextract::cluster {

struct RowSurvey {
  std::int64_t rows = 0;    ///< in the whole set
  std::int64_t weight = 0;  ///< sum of the rows' weights
  std::int64_t dimension = 0;
  __int128 squares = 0;      ///< weighted sum of the squared values of the prepared rows, in units of 2^-48, exactly
  float largest = 0;         ///< largest |value| of the whole set (of the float16 rows, before any scaling)
  std::int64_t sampled = 0;  ///< rows in `sample`
  std::vector<float> sample = {};  ///< [sampled, dimension] prepared rows, in the order of their global numbers
  std::vector<std::int64_t> sample_weights = {};  ///< [sampled]; above 0: rows of weight 0 are not drawn
};

/// Collective. The sample is (none for sample_rows = 0) the `sample_rows` rows with the smallest hashes of (seed,
/// global row number), all rows if there are no more: the same rows however they are dealt over ranks. Memory:
/// sample_rows rows, twice. Throws UserError (input) if there are no rows at all or the ranks' dimensions differ,
/// (numerics) for rows not finite.
RowSurvey survey_rows(const RowSource& source, std::int64_t sample_rows, bool spherical, std::uint64_t seed,
                      comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
