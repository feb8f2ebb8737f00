// What this program sees of NCCL and of GPUs. Two sources bring these functions: gpu_facts_nccl.cpp where NCCL is
// linked, gpu_facts_none.cpp elsewhere.
#pragma once

#include <string>

namespace moextract::app {

/// "2.28.3", or why there is none.
std::string nccl_text();

/// The GPU that the rank with number `node_rank` of the `node_ranks` on this node would take. Touches no GPU.
std::string gpu_text(int node_rank, int node_ranks);

}  // namespace moextract::app
