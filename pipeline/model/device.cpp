#include "model/device.h"

#include <ATen/Context.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <cstdlib>

#include "model/device_tensors.h"

namespace moextract::model {
namespace {

thread_local bool by_tensors_here = false;

}  // namespace

int visible_cuda_devices() {
  if (!c10::impl::hasDeviceGuardImpl(at::kCUDA)) return 0;
  return static_cast<int>(c10::impl::getDeviceGuardImpl(at::kCUDA)->deviceCount());
}

void prepare_device(const Device& device) {
  if (device.kind != DeviceKind::cuda) return;
  // cuBLAS promises the same bits with a workspace of fixed size alone; it looks once, when it starts.
  ::setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::Context& context = at::globalContext();
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
  context.setAllowTF32CuBLAS(false);
  context.setAllowTF32CuDNN(false);
}

void synchronize(const Device& device) {
  if (device.kind != DeviceKind::cuda) return;
  c10::impl::getDeviceGuardImpl(at::kCUDA)->synchronizeDevice(static_cast<at::DeviceIndex>(device.index));
}

struct DeviceScope::Current {
  explicit Current(const Device& device) : guard(memory_of(device)) {}
  c10::DeviceGuard guard;
};

DeviceScope::DeviceScope(const Device& device) : before_(by_tensors_here) {
  if (device.kind == DeviceKind::cuda) current_ = std::make_unique<Current>(device);
  by_tensors_here = device.by_tensors();
}

DeviceScope::~DeviceScope() {
  by_tensors_here = before_;
}

bool computes_by_tensors() {
  return by_tensors_here;
}

}  // namespace moextract::model
