// Names the GPU of a rank and compares those of all ranks.
#include "comm/nccl_place.h"

#include <unistd.h>

#include <array>
#include <fstream>
#include <map>
#include <sstream>
#include <utility>

#include "core/error.h"

namespace moextract::comm {

std::string DevicePlace::text() const {
  return fmt::format("GPU {} of {}", bus, host);
}

std::string DevicePlace::pack() const {
  return fmt::format("{}\n{}\n{}\n{}", host, machine, bus, device);
}

DevicePlace DevicePlace::unpack(const std::string& packed) {
  std::istringstream lines(packed);
  DevicePlace place;
  std::getline(lines, place.host);
  std::getline(lines, place.machine);
  std::getline(lines, place.bus);
  lines >> place.device;
  MOEX_ASSERT(!lines.fail(), "a rank sent no place of a device: " + packed);
  return place;
}

DevicePlace place_here(std::string bus, int device) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host = {"unknown host"};
  DevicePlace place{.host = host.data(), .machine = {}, .bus = std::move(bus), .device = device};
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  if (!std::getline(boot, place.machine)) place.machine = place.host;
  return place;
}

std::optional<int> device_of(int node_rank, int visible) {
  if (visible == 1) return 0;
  if (node_rank < visible) return node_rank;
  return std::nullopt;
}

void check_one_rank_a_gpu(std::span<const DevicePlace> places) {
  std::map<std::pair<std::string, std::string>, std::size_t> users;
  for (std::size_t rank = 0; rank < places.size(); ++rank) {
    const DevicePlace& place = places[rank];
    const auto [user, is_first] = users.emplace(std::pair(place.machine, place.bus), rank);
    if (is_first) continue;
    fail(ExitCode::distributed,
         "rank {} (device {}) and rank {} (device {}) both use {}, but NCCL takes one rank a GPU: start one task per "
         "GPU "
         "with its own CUDA_VISIBLE_DEVICES (Slurm: --ntasks-per-node equal to the GPUs of a node, --gpus-per-task=1), "
         "or start fewer ranks.",
         user->second, places[user->second].device, rank, place.device, place.text());
  }
}

}  // namespace moextract::comm
