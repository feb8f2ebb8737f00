// Without NCCL: GPUs are what LibTorch sees, and what they exchange goes through the host.
#include "app/gpu_facts.h"

#include <fmt/format.h>

#include <optional>

#include "comm/nccl_place.h"
#include "model/device.h"

namespace moextract::app {

std::string nccl_text() {
  return MOEXTRACT_NCCL;
}

std::string gpu_text(int node_rank, int node_ranks) {
  const int visible = model::visible_cuda_devices();
  if (visible == 0) return "none";
  const std::optional<int> device = comm::device_of(node_rank, visible);
  if (!device)
    return fmt::format("none left: {} ranks on this host, but this process sees {} GPUs", node_ranks, visible);
  return fmt::format("number {} of {}", *device, visible);
}

std::unique_ptr<comm::Communicator> join_devices(comm::Communicator&, int) {
  return nullptr;
}

}  // namespace moextract::app
