// Host buffers by way of a GPU, and the back ends of the common suite: as many ranks as there are GPUs for.
#include "tests/pipeline/comm/nccl_staged.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

#include "comm/backends.h"
#include "tests/pipeline/comm/backend.h"

namespace moextract::comm {
namespace {

class NcclStaged final : public Communicator {
 public:
  explicit NcclStaged(Communicator& host) : host_(host), ranks_(host, host.rank()) {}
  explicit NcclStaged(std::unique_ptr<Communicator> host)
      : owned_(std::move(host)), host_(*owned_), ranks_(host_, host_.rank()) {}

  int rank() const noexcept override { return ranks_.rank(); }
  int size() const noexcept override { return ranks_.size(); }
  std::string name() const override { return "nccl"; }

  void barrier() override { all_reduce_value(std::int32_t{0}, Reduction::sum); }

  std::unique_ptr<Communicator> split_by_node() override { return std::make_unique<NcclStaged>(host_.split_by_node()); }

  [[noreturn]] void abort(ExitCode code) noexcept override { std::_Exit(static_cast<int>(code)); }

 protected:
  void broadcast_bytes(std::span<std::byte> data, int root) override {
    const DeviceArray<std::byte> array(data, ranks_.stream());
    ranks_.broadcast(array.data(), array.size(), root, ranks_.stream());
    take(array, data.data());
  }

  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    switch (type) {
      case ElementType::int32:
        return all_reduce_typed(static_cast<std::int32_t*>(data), count, reduction);
      case ElementType::int64:
        return all_reduce_typed(static_cast<std::int64_t*>(data), count, reduction);
      case ElementType::float32:
        return all_reduce_typed(static_cast<float*>(data), count, reduction);
      case ElementType::float64:
        return all_reduce_typed(static_cast<double*>(data), count, reduction);
    }
  }

  /// NCCL gathers equal parts, so all are made as long as the longest.
  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override {
    const auto ranks = static_cast<std::size_t>(size());
    const std::vector<std::int64_t> length = {static_cast<std::int64_t>(mine.size())};
    const DeviceArray<std::int64_t> one(length, ranks_.stream());
    const DeviceArray<std::int64_t> each(ranks);
    ranks_.all_gather(one.data(), each.data(), 1, ranks_.stream());
    std::vector<std::int64_t> lengths(ranks);
    take(each, lengths.data());

    std::vector<std::byte> padded(static_cast<std::size_t>(*std::max_element(lengths.begin(), lengths.end())));
    std::copy(mine.begin(), mine.end(), padded.begin());
    const DeviceArray<std::byte> part(padded, ranks_.stream());
    const DeviceArray<std::byte> parts(padded.size() * ranks);
    ranks_.all_gather(part.data(), parts.data(), part.size(), ranks_.stream());
    std::vector<std::byte> received(parts.size());
    take(parts, received.data());

    std::vector<std::byte> all;
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      const auto first = received.begin() + static_cast<std::ptrdiff_t>(rank * padded.size());
      all.insert(all.end(), first, first + lengths[rank]);
    }
    return all;
  }

 private:
  template <class T>
  void all_reduce_typed(T* data, std::size_t count, Reduction reduction) {
    const DeviceArray<T> array(std::span<const T>(data, count), ranks_.stream());
    ranks_.all_reduce(array.data(), count, reduction, ranks_.stream());
    take(array, data);
  }

  template <class T>
  void take(const DeviceArray<T>& array, T* target) {
    ranks_.synchronize();
    const std::vector<T> values = array.download(ranks_);
    std::copy(values.begin(), values.end(), target);
  }

  std::unique_ptr<Communicator> owned_;
  Communicator& host_;
  DeviceCommunicator ranks_;
};

}  // namespace

int visible_gpus() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  static_cast<void>(cudaGetLastError());
  return status == cudaSuccess ? count : 0;
}

void check_cuda(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

std::unique_ptr<Communicator> make_nccl_staged(Communicator& host) {
  return std::make_unique<NcclStaged>(host);
}

std::vector<Backend> backends() {
  std::vector<Backend> all;
  for (const int ranks : {1, 2, 3, 4, 7}) {
    if (ranks > visible_gpus()) break;
    all.push_back({"nccl", ranks, [ranks](const Body& body) {
                     run_threads(ranks, [&](Communicator& host) { body(*make_nccl_staged(host)); });
                   }});
  }
  return all;
}

}  // namespace moextract::comm
