// Tensors that ranks made separately, brought together.
#pragma once

#include "comm/communicator.h"
#include "model/weights.h"

namespace moextract::moe {

/// Collective. The union of all ranks' tensors (CPU; names differ between ranks), the same on every rank.
model::TensorMap gather_tensors(const model::TensorMap& mine, comm::Communicator& comm);

}  // namespace moextract::moe
