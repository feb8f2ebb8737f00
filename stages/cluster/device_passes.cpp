#include "stages/cluster/device_passes.h"

#include "cluster_device/tensor_pass.h"
#include "model/device_tensors.h"

namespace moextract::stages {

cluster::MakePass passes_on(const Device& device, std::int64_t rows_bytes) {
  if (!device.by_tensors() || !device.is_there()) return {};
  cluster::TensorPassSettings settings = cluster::TensorPassSettings::of(model::memory_of(device));
  settings.rows_bytes = rows_bytes;
  return cluster::make_tensor_passes(settings);
}

}  // namespace moextract::stages
