// Where k-means passes over a layer's rows.
#pragma once

#include <cstdint>

#include "cluster/lloyd_pass.h"
#include "core/device.h"

namespace moextract::stages {

/// For cluster::KMeansHooks: passes on a device that is reached by LibTorch, whose memory keeps the rows of a rank if
/// they take at most `rows_bytes`; nothing for the CPU, which has passes of its own. Results are the same bits.
cluster::MakePass passes_on(const Device& device, std::int64_t rows_bytes);

}  // namespace moextract::stages
