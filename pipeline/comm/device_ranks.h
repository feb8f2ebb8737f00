// Ranks with a GPU each, as one communicator: what is in host memory goes the host communicator's way, what is in GPU
// memory goes over NCCL. Built where NCCL was found (target moextract_comm_nccl).
#pragma once

#include <memory>

#include "comm/nccl.h"

namespace moextract::comm {

/// Collective over `host`, which must outlive the result and is not used beside it. `device`: the number of this rank's
/// GPU (device_of()). Reduces buffers in GPU memory on a stream of its own, and waits for them: so never are a
/// collective of NCCL and one of the host under way at once. split_by_node() gives a communicator of host memory. To
/// have its collectives watched, wrap it (watched.h), not the host's.
///
/// Throws UserError (distributed) on all ranks as DeviceCommunicator does.
std::unique_ptr<Communicator> make_device_ranks(Communicator& host, int device, DeviceOptions options = {});

}  // namespace moextract::comm
