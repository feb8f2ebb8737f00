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
  std::int64_t rows = 0;  ///< in the whole set
  std::int64_t dimension = 0;
  float largest = 0;               ///< largest |value| of the whole set (of the float16 rows, before any scaling)
  std::int64_t sampled = 0;        ///< rows in `sample`
  std::vector<float> sample = {};  ///< [sampled, dimension] prepared rows, in the order of their global numbers
};

/// Collective. The sample is the `sample_rows` rows with the smallest hashes of (seed, global row number), all rows if
/// there are no more: the same rows however they are dealt over ranks. Memory: sample_rows rows, twice.
/// Throws UserError (input) if there are no rows at all or the ranks' dimensions differ, (numerics) for rows not
/// finite.
RowSurvey survey_rows(const RowSource& source, std::int64_t sample_rows, bool spherical, std::uint64_t seed,
                      comm::Communicator& comm, Workers& workers);

}  // namespace moextract::cluster
