// The collectives over device memory, as data: what is handed to a DeviceCommunicator.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "comm/communicator.h"

namespace moextract::comm {

/// One collective, as data.
struct DeviceCall {
  enum class Kind { all_reduce, broadcast, all_gather };

  Kind kind;
  const void* source;  ///< what this rank gives, in device memory
  void* target;        ///< where the result goes, in device memory
  std::size_t count;   ///< elements of an all_reduce, else bytes (of an all_gather: a rank's part)
  ElementType type = ElementType::int32;
  Reduction reduction = Reduction::sum;
  int root = 0;

  /// Of what this rank gives.
  std::size_t bytes() const noexcept;
  /// "all_reduce(sum of 5 float64)"
  std::string text() const;
};

/// "all_reduce"
const char* name_of(DeviceCall::Kind kind) noexcept;

/// Collectives that NCCL may carry out together, in one kernel: collected here, then handed in by
/// DeviceCommunicator::submit(). Nothing happens before that, so a group that is dropped leaves no trace.
class DeviceGroup {
 public:
  /// In place, same length on all ranks. A sum of floating-point numbers is taken in NCCL's order.
  template <class T>
  DeviceGroup& all_reduce(T* data, std::size_t count, Reduction reduction) {
    calls_.push_back({.kind = DeviceCall::Kind::all_reduce,
                      .source = data,
                      .target = data,
                      .count = count,
                      .type = ElementOf<T>::value,
                      .reduction = reduction});
    return *this;
  }
  /// In place, same length on all ranks.
  template <class T>
  DeviceGroup& broadcast(T* data, std::size_t count, int root = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    calls_.push_back({.kind = DeviceCall::Kind::broadcast,
                      .source = data,
                      .target = data,
                      .count = count * sizeof(T),
                      .root = root});
    return *this;
  }
  /// `count` elements of every rank (the same everywhere), in rank order: `all` has room for size() * count.
  /// `mine` may be the part of `all` that is this rank's.
  template <class T>
  DeviceGroup& all_gather(const T* mine, T* all, std::size_t count) {
    static_assert(std::is_trivially_copyable_v<T>);
    calls_.push_back({.kind = DeviceCall::Kind::all_gather, .source = mine, .target = all, .count = count * sizeof(T)});
    return *this;
  }

  std::span<const DeviceCall> calls() const noexcept { return calls_; }

 private:
  std::vector<DeviceCall> calls_;
};

}  // namespace moextract::comm
