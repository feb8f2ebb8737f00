// run.device: what a run computes models on.
#pragma once

#include "comm/communicator.h"
#include "config/field_list.h"
#include "core/device.h"

namespace moextract::stages {

enum class DeviceChoice { automatic, cpu, cuda, libtorch_cpu };

/// The field run.device.
void describe_device(config::Section& section, DeviceChoice& choice);

/// The kind that the choice means in this process: automatic is a GPU where LibTorch can use one. Touches no GPU.
DeviceKind kind_of(DeviceChoice choice);

/// The choice that means this kind anywhere.
DeviceChoice choice_of(DeviceKind kind);

/// Collective. This rank's device, one rank a GPU: where a process sees several, the one with the rank's number on the
/// node. Automatic is a GPU if every rank has one of its own, else the CPU for all. Throws UserError (distributed) on
/// all ranks if GPUs are asked for and a rank has none.
Device settle_device(DeviceChoice choice, comm::Communicator& comm);

}  // namespace moextract::stages
