// What ranks say to each other. One abstract communicator; back ends: self (one rank), threads (ranks as threads of one
// process), mpi. Everything distributed in moextract goes through this interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "core/error.h"

namespace moextract::comm {

enum class Reduction { sum, min, max };

/// Element types a reduction knows. Integer sums are exact, hence the same for any number of ranks and any order.
enum class ElementType { int32, int64, float32, float64 };
constexpr std::size_t bytes_of(ElementType type) {
  return type == ElementType::int32 || type == ElementType::float32 ? 4 : 8;
}

template <class T>
struct ElementOf;
template <>
struct ElementOf<std::int32_t> {
  static constexpr ElementType value = ElementType::int32;
};
template <>
struct ElementOf<std::int64_t> {
  static constexpr ElementType value = ElementType::int64;
};
template <>
struct ElementOf<float> {
  static constexpr ElementType value = ElementType::float32;
};
template <>
struct ElementOf<double> {
  static constexpr ElementType value = ElementType::float64;
};

/// Elements in the memory of this rank's GPU: a type of its own, so that no such address is taken for one of the host.
template <class T>
struct DeviceSpan {
  T* data = nullptr;
  std::size_t size = 0;
};

/// Thrown on every rank by agree() when some rank failed, and when a peer is lost.
class RemoteFailure : public UserError {
 public:
  RemoteFailure(ExitCode code, int rank, const std::string& message) : UserError(code, message), rank_(rank) {}
  /// The rank that failed (the lowest, if several did).
  int rank() const noexcept { return rank_; }

 private:
  int rank_;
};

/// Collective calls (all but rank(), size(), name(), abort()): every rank calls the same ones in the same order with
/// the same lengths where said; each BLOCKS until its result is there. Buffers belong to the caller; they are in host
/// memory unless their type is DeviceSpan. An object is used by one thread at a time.
class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  virtual int rank() const noexcept = 0;
  virtual int size() const noexcept = 0;
  /// "self", "threads" or "mpi".
  virtual std::string name() const = 0;
  bool is_root() const noexcept { return rank() == 0; }

  /// Collective. Returns on no rank before all have come.
  virtual void barrier() = 0;

  /// Collective. `data` has the same length on every rank; afterwards it holds root's content. Any length, beyond 2^31
  /// too.
  template <class T>
  void broadcast(std::span<T> data, int root = 0) {
    static_assert(std::is_trivially_copyable_v<T>);
    broadcast_bytes(std::as_writable_bytes(data), root);
  }
  /// Collective. A text of any length from root; what the others pass is ignored.
  std::string broadcast_text(const std::string& text, int root = 0);

  /// Collective, in place, same length everywhere. Exact for integers and for min/max (what a NaN does to min/max is
  /// left open: check for it first). For floating-point SUMS the order is the back end's own: use all_reduce_ordered
  /// where bits matter.
  template <class T>
  void all_reduce(std::span<T> data, Reduction reduction) {
    all_reduce_bytes(data.data(), data.size(), ElementOf<T>::value, reduction);
  }
  template <class T>
  T all_reduce_value(T value, Reduction reduction) {
    all_reduce(std::span<T>(&value, 1), reduction);
    return value;
  }

  /// Whether buffers in GPU memory can be reduced where they are (device_ranks.h), or need not travel: of one rank.
  virtual bool reaches_devices() const noexcept { return size() == 1; }
  /// The same as above for a buffer in GPU memory, without a way through the host; only where reaches_devices(). The
  /// work that makes `data` is done before the call; when it returns, the sums are there for any stream and the host.
  /// Throws UserError (distributed), not agreed on, when a GPU or the link between two fails.
  template <class T>
  void all_reduce(DeviceSpan<T> data, Reduction reduction) {
    all_reduce_device(data.data, data.size, ElementOf<T>::value, reduction);
  }

  /// Collective sum in rank order 0, 1, 2, ...: the same bits on every rank and on every call with the same inputs and
  /// the same number of ranks. (For sums that do not depend on the number of ranks either, sum integers.) Costs more
  /// than all_reduce: every rank receives size() times the data, in pieces that bound the memory (some 32 MiB).
  void all_reduce_ordered(std::span<double> data);
  void all_reduce_ordered(std::span<float> data);

  /// Collective. The ranks' parts one after the other, in rank order; parts may differ in length and be empty.
  template <class T>
  std::vector<T> all_gather(std::span<const T> mine) {
    static_assert(std::is_trivially_copyable_v<T>);
    const std::vector<std::byte> bytes = all_gather_bytes(std::as_bytes(mine));
    std::vector<T> all(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(all.data(), bytes.data(), bytes.size());
    return all;
  }
  /// Collective. One text of each rank, in rank order.
  std::vector<std::string> all_gather_text(const std::string& mine);

  /// Collective. The ranks of this rank's node, in rank order, as a communicator of their own.
  virtual std::unique_ptr<Communicator> split_by_node() = 0;

  /// Collective. Every rank passes the error it met, or null. If any rank met one, all throw: a RemoteFailure with the
  /// lowest failing rank's exit code, its rank and its message. Called before anybody acts on a result that may have
  /// failed on one rank only, so that no rank waits for one that has left.
  void agree(std::exception_ptr mine);
  /// Collective. Runs `work` here and agrees on its outcome.
  template <class F>
  void together(F&& work) {
    std::exception_ptr error;
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
    agree(error);
  }

  /// Collective. Runs `work`, which makes collective calls itself, and settles its outcome. An error that all ranks
  /// have agreed on inside passes through. Any other may be this rank's alone while the others wait in another
  /// collective: plain back ends trust that it is not; a watched communicator (watched.h) finds out and ends the job if
  /// need be.
  template <class F>
  void guard(F&& work) {
    std::exception_ptr error;
    try {
      work();
    } catch (const RemoteFailure&) {
      throw;
    } catch (...) {
      error = std::current_exception();
    }
    settle(error);
  }

  /// Not collective. Ends all ranks at once; does not return. The last resort of a rank that cannot reach the others.
  [[noreturn]] virtual void abort(ExitCode code) noexcept = 0;

 protected:
  Communicator() = default;
  /// The end of a guarded section; see guard().
  virtual void settle(std::exception_ptr mine) { agree(mine); }
  virtual void broadcast_bytes(std::span<std::byte> data, int root) = 0;
  virtual void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) = 0;
  virtual std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) = 0;
  virtual void all_reduce_device(void* data, std::size_t count, ElementType type, Reduction reduction);
};

}  // namespace moextract::comm
