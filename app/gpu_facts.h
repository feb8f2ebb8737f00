// What this program sees of NCCL and of GPUs. Two sources bring these functions: gpu_facts_nccl.cpp where NCCL is
// linked, gpu_facts_none.cpp elsewhere.
#pragma once

#include <memory>
#include <string>

#include "comm/communicator.h"

namespace moextract::app {

/// "2.28.3", or why there is none.
std::string nccl_text();

/// The GPU that the rank with number `node_rank` of the `node_ranks` on this node would take. Touches no GPU.
std::string gpu_text(int node_rank, int node_ranks);

/// Collective. The ranks of `host` with GPU `device` each, as a communicator that reduces in their memory; null where
/// NCCL is not linked. See comm/device_ranks.h.
std::unique_ptr<comm::Communicator> join_devices(comm::Communicator& host, int device);

}  // namespace moextract::app
