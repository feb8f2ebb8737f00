// With NCCL: the library's version and the GPUs that this process sees.
#include "app/gpu_facts.h"

#include <fmt/format.h>

#include <optional>

#include "comm/device_ranks.h"
#include "comm/nccl.h"

namespace moextract::app {

std::string nccl_text() {
  return comm::DeviceCommunicator::version();
}

std::string gpu_text(int node_rank, int node_ranks) {
  const std::vector<comm::DevicePlace> places = comm::visible_devices();
  if (places.empty()) return "none (no GPU or no driver)";
  const std::optional<int> device = comm::device_of(node_rank, static_cast<int>(places.size()));
  if (!device) {
    return fmt::format("none left: {} ranks on this host, but this process sees {} GPUs", node_ranks, places.size());
  }
  return places[static_cast<std::size_t>(*device)].bus;
}

std::unique_ptr<comm::Communicator> join_devices(comm::Communicator& host, int device) {
  return comm::make_device_ranks(host, device);
}

}  // namespace moextract::app
