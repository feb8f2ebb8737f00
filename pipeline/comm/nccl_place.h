// Which GPU of which machine a rank uses, so that two ranks on one GPU are found before NCCL is started.
#pragma once

#include <optional>
#include <span>
#include <string>

namespace moextract::comm {

struct DevicePlace {
  std::string host;     ///< for people
  std::string machine;  ///< the kernel's boot id: hosts may share a name, and containers of one machine have several
  std::string bus;      ///< PCI bus id, the same whatever CUDA_VISIBLE_DEVICES says
  int device = 0;       ///< the number under which this process sees it

  /// "GPU 0000:17:00.0 of node7"
  std::string text() const;
  /// One text to be gathered, and back.
  std::string pack() const;
  static DevicePlace unpack(const std::string& packed);
};

/// The place of a GPU of this machine.
DevicePlace place_here(std::string bus, int device);

/// The number of the GPU that a rank takes: where a process sees one, the launcher has dealt them; where it sees all of
/// the node, the one with the rank's number on the node. Nothing if there are fewer GPUs than ranks.
std::optional<int> device_of(int node_rank, int visible);

/// `places` by rank. Throws UserError (distributed) that names the two lowest ranks of one GPU and the fix.
void check_one_rank_a_gpu(std::span<const DevicePlace> places);

}  // namespace moextract::comm
