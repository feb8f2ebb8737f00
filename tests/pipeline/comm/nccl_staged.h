// The NCCL back end as a back end of the common test suite: host buffers are copied to the GPU, reduced there, and
// copied back. Made of what DeviceCommunicator offers, so the suite tests it; of no use but for tests. The same code
// runs over the double and over the real libraries.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <span>
#include <vector>

#include "comm/nccl.h"

namespace moextract::comm {

/// GPUs that this process sees; 0 where there is none, or no driver.
int visible_gpus();

/// Throws std::runtime_error if `status` is an error.
void check_cuda(cudaError_t status);

/// Elements in the memory of the current device.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t size) : size_(size) {
    void* memory = nullptr;
    // One more, so that no array is empty: NCCL must not be handed a null pointer.
    check_cuda(cudaMalloc(&memory, (size + 1) * sizeof(T)));
    data_.reset(static_cast<T*>(memory));
  }
  DeviceArray(std::span<const T> values, DeviceStream stream) : DeviceArray(values.size()) {
    if (size_ > 0)
      check_cuda(cudaMemcpyAsync(data(), values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice, stream));
  }
  T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  /// The stream must be synchronized before: a copy to host memory would wait for it without a deadline.
  std::vector<T> download(DeviceCommunicator& ranks) const {
    std::vector<T> values(size_);
    if (size_ > 0) {
      check_cuda(cudaMemcpyAsync(values.data(), data(), size_ * sizeof(T), cudaMemcpyDeviceToHost, ranks.stream()));
      while (cudaStreamQuery(ranks.stream()) == cudaErrorNotReady) {
      }
    }
    return values;
  }

 private:
  struct Free {
    void operator()(T* memory) const { static_cast<void>(cudaFree(memory)); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_;
};

/// A communicator over `host`'s ranks, rank r on device r, with the collectives carried out by NCCL.
std::unique_ptr<Communicator> make_nccl_staged(Communicator& host);

}  // namespace moextract::comm
