#include "stages/device_choice.h"

#include <memory>
#include <optional>

#include "comm/nccl_place.h"
#include "core/error.h"
#include "model/device.h"

namespace moextract::stages {

void describe_device(config::Section& section, DeviceChoice& choice) {
  section
      .add_enum<DeviceChoice>(
          "device", choice,
          {{"auto", DeviceChoice::automatic, "cuda where LibTorch can use a GPU for each rank, else cpu"},
           {"cpu", DeviceChoice::cpu,
            "kernels of ours; the same bits on any processor wherever no gradients are taken"},
           {"cuda", DeviceChoice::cuda, "one GPU a rank, by LibTorch's operators"},
           {"libtorch_cpu", DeviceChoice::libtorch_cpu, "the path of a GPU on LibTorch's CPU: for tests"}},
          "What train, collect, moments, finetune and evaluate compute models on, and k-means its distances. Artefacts "
          "of other devices than cpu have addresses of their own, for their last bits differ")
      .runtime_only();
}

DeviceKind kind_of(DeviceChoice choice) {
  switch (choice) {
    case DeviceChoice::cpu:
      return DeviceKind::cpu;
    case DeviceChoice::cuda:
      return DeviceKind::cuda;
    case DeviceChoice::libtorch_cpu:
      return DeviceKind::libtorch_cpu;
    case DeviceChoice::automatic:
      break;
  }
  return model::visible_cuda_devices() > 0 ? DeviceKind::cuda : DeviceKind::cpu;
}

DeviceChoice choice_of(DeviceKind kind) {
  switch (kind) {
    case DeviceKind::cuda:
      return DeviceChoice::cuda;
    case DeviceKind::libtorch_cpu:
      return DeviceChoice::libtorch_cpu;
    case DeviceKind::cpu:
      break;
  }
  return DeviceChoice::cpu;
}

Device settle_device(DeviceChoice choice, comm::Communicator& comm) {
  if (choice == DeviceChoice::cpu || choice == DeviceChoice::libtorch_cpu) return {kind_of(choice), 0};
  const std::unique_ptr<comm::Communicator> node = comm.split_by_node();
  const int visible = model::visible_cuda_devices();
  const std::optional<int> own = visible > 0 ? comm::device_of(node->rank(), visible) : std::nullopt;
  if (comm.all_reduce_value<std::int32_t>(own ? 1 : 0, comm::Reduction::min) > 0) return {DeviceKind::cuda, *own};
  return choice == DeviceChoice::automatic ? Device{DeviceKind::cpu, 0} : Device{DeviceKind::cuda, -1};
}

void need_device(const Device& device, comm::Communicator& comm) {
  if (device.is_there()) return;  // on all ranks or on none
  const std::unique_ptr<comm::Communicator> node = comm.split_by_node();
  comm.together([&] {
    const int visible = model::visible_cuda_devices();
    if (visible > 0 && comm::device_of(node->rank(), visible)) return;
    fail(ExitCode::distributed,
         "run.device: cuda, but rank {} has no GPU of its own: LibTorch sees {} there, for the {} rank{} of its node. "
         "Start as many ranks a node as it has GPUs, on nodes with a driver, with a program built by `scripts/build.sh "
         "gpu` (`moextract doctor` shows what each rank sees), or set run.device to cpu",
         comm.rank(), visible, node->size(), node->size() == 1 ? "" : "s");
  });
}

}  // namespace moextract::stages
