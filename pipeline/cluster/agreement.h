// How far two labelings of the same rows agree.
#pragma once

#include <cstdint>
#include <span>

#include "comm/communicator.h"

namespace moextract::cluster {

/// Collective. Adjusted Rand index (Hubert and Arabie 1985) of two labelings of the union of the ranks' rows: 1 for the
/// same partition whatever its numbering, about 0 for independent ones. Two partitions that are both one cluster, or
/// both all singletons, agree: 1. Labels are any 32-bit numbers; a negative one is a label like others (noise is one
/// cluster). The same on every rank, for any dealing of the rows. Memory: a word for each pair of labels that occurs.
/// Throws UserError (input) if the lengths differ on some rank, or there are no rows at all.
double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b, comm::Communicator& comm);

/// The same of this process's rows alone.
double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace moextract::cluster
