#include "comm/device_ranks.h"

#include <cstdlib>
#include <utility>

namespace moextract::comm {
namespace {

class DeviceRanks final : public Communicator {
 public:
  DeviceRanks(Communicator& host, int device, DeviceOptions options)
      : host_(host), devices_(host, device, std::move(options)) {}

  int rank() const noexcept override { return host_.rank(); }
  int size() const noexcept override { return host_.size(); }
  std::string name() const override { return "nccl"; }
  bool reaches_devices() const noexcept override { return true; }
  void barrier() override { host_.barrier(); }
  std::unique_ptr<Communicator> split_by_node() override { return host_.split_by_node(); }
  [[noreturn]] void abort(ExitCode code) noexcept override {
    host_.abort(code);
    std::_Exit(static_cast<int>(code));  // g++ 12 forgets that virtual functions do not return
  }

 protected:
  void broadcast_bytes(std::span<std::byte> data, int root) override { host_.broadcast(data, root); }

  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    switch (type) {
      case ElementType::int32:
        return host_.all_reduce(std::span(static_cast<std::int32_t*>(data), count), reduction);
      case ElementType::int64:
        return host_.all_reduce(std::span(static_cast<std::int64_t*>(data), count), reduction);
      case ElementType::float32:
        return host_.all_reduce(std::span(static_cast<float*>(data), count), reduction);
      case ElementType::float64:
        return host_.all_reduce(std::span(static_cast<double*>(data), count), reduction);
    }
  }

  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override { return host_.all_gather(mine); }

  void all_reduce_device(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    switch (type) {
      case ElementType::int32:
        return reduce(static_cast<std::int32_t*>(data), count, reduction);
      case ElementType::int64:
        return reduce(static_cast<std::int64_t*>(data), count, reduction);
      case ElementType::float32:
        return reduce(static_cast<float*>(data), count, reduction);
      case ElementType::float64:
        return reduce(static_cast<double*>(data), count, reduction);
    }
  }

 private:
  template <class T>
  void reduce(T* data, std::size_t count, Reduction reduction) {
    devices_.all_reduce(data, count, reduction, devices_.stream());
    devices_.synchronize();
  }

  Communicator& host_;
  DeviceCommunicator devices_;
};

}  // namespace

std::unique_ptr<Communicator> make_device_ranks(Communicator& host, int device, DeviceOptions options) {
  return std::make_unique<DeviceRanks>(host, device, std::move(options));
}

}  // namespace moextract::comm
