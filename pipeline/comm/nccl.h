// Collectives over buffers in GPU memory, by NCCL, beside the communicator of host buffers: see docs/adr/0002.
// Built where NCCL was found (target moextract_comm_nccl). No header of CUDA or NCCL is needed here.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "comm/communicator.h"
#include "comm/nccl_call.h"
#include "comm/nccl_place.h"

struct CUstream_st;  // what CUDA's cudaStream_t points to

namespace moextract::comm {

using DeviceStream = CUstream_st*;

struct DeviceOptions {
  /// How long any one wait may last: for the start, for a call to get onto the stream, for synchronize().
  std::chrono::milliseconds deadline = std::chrono::minutes(10);
  /// How long closing, or aborting after a failure, may last; then what NCCL holds is left behind.
  std::chrono::milliseconds close_deadline = std::chrono::seconds(10);
  /// Receives one line when a call fails. Unset: standard error.
  std::function<void(const std::string&)> log;
};

/// GPUs that this process sees, by number; none where there is no GPU or no driver. Touches none of them.
std::vector<DevicePlace> visible_devices();

/// The ranks of a host communicator with one GPU each.
///
/// COLLECTIVE: the constructor, submit() and its three short forms, with the same calls in the same order on all ranks.
/// Not collective: synchronize(), the destructor.
/// STREAM-ORDERED: a call is carried out in the order of its stream, after the work that was there before it; its
/// result is there for work that is put on the same stream later, and for the host after synchronize(). BLOCKS: the
/// constructor, on the host communicator and until all ranks are connected. submit(), until its calls are on the
/// stream: that is short, but for the first ones, which connect ranks and wait for them. synchronize(), until all calls
/// handed in are done. Each wait has a deadline.
///
/// NEVER BOTH: while calls of this object are not synchronized, no rank enters a collective of MPI, and the other way
/// round: two libraries that wait for each other's ranks can wait for ever. So: synchronize(), then the host
/// communicator. MPI sees host buffers only.
///
/// BUFFERS stay alive until synchronize() has returned or thrown, or the object is gone: declare it after them, so that
/// an exception between submit() and synchronize() ends the calls first. (cudaFree would wait for them without a
/// deadline.)
///
/// FAILURE: when NCCL or CUDA reports an error or a deadline passes, one line with operation, sequence number, bytes
/// and rank is logged, NCCL is aborted on this rank, and UserError (distributed) is thrown; from then on every call
/// throws it again. The other ranks learn of it from NCCL or by their own deadline. Buffers then hold anything.
/// Sequence numbers count the calls of a rank from 1, each call of a group by itself: a rank that lags behind shows in
/// the messages.
///
/// An object is used by one thread at a time. The constructor makes `device` the current one of its thread.
class DeviceCommunicator {
 public:
  /// Collective over `host`, which is used here only. `device`: the number of a GPU that this process sees. Throws
  /// UserError (distributed) on all ranks if one has no such GPU, two share one, or NCCL does not start within the
  /// deadline.
  DeviceCommunicator(Communicator& host, int device, DeviceOptions options = {});
  /// Does not throw. Waits for the other ranks up to the close deadline; not at all when an exception is under way, a
  /// call failed, or calls were not synchronized: then NCCL is aborted.
  ~DeviceCommunicator();
  DeviceCommunicator(DeviceCommunicator&&) noexcept;
  DeviceCommunicator& operator=(DeviceCommunicator&&) noexcept;

  int rank() const noexcept;
  int size() const noexcept;
  int device() const noexcept;
  /// "GPU 0000:17:00.0 of node7"
  std::string place() const;
  /// A stream of this object for callers that have none. It does not wait for CUDA's default stream.
  DeviceStream stream() const noexcept;

  /// Collective. Puts all calls of the group on `stream`. All calls between two synchronize() go onto one stream.
  void submit(const DeviceGroup& group, DeviceStream stream);

  /// Collective. A group of one: see DeviceGroup.
  template <class T>
  void all_reduce(T* data, std::size_t count, Reduction reduction, DeviceStream stream) {
    submit(DeviceGroup().all_reduce(data, count, reduction), stream);
  }
  template <class T>
  void broadcast(T* data, std::size_t count, int root, DeviceStream stream) {
    submit(DeviceGroup().broadcast(data, count, root), stream);
  }
  template <class T>
  void all_gather(const T* mine, T* all, std::size_t count, DeviceStream stream) {
    submit(DeviceGroup().all_gather(mine, all, count), stream);
  }

  /// Blocks until everything on the stream of the calls is done (at once if there was none since the last time).
  void synchronize();
  /// Calls handed in since the last synchronize(): not 0 means that the host communicator must wait.
  std::uint64_t pending() const noexcept;
  /// Number of the last call handed in; 0 before the first.
  std::uint64_t sequence() const noexcept;
  /// Whether a call failed: NCCL is aborted and all that is left is to destroy the object.
  bool failed() const noexcept;

  /// "2.28.9": the library in this process.
  static std::string version();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace moextract::comm
