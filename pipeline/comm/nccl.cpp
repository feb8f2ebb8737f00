// The NCCL back end; the only file of the library that sees nccl.h. It calls few functions of NCCL and CUDA, all bound
// at link time, so that a test can bring its own: tests/pipeline/comm/nccl_double.cpp.
//
// NCCL runs non-blocking: a call that cannot be finished at once answers "in progress", and its outcome is asked for.
// So each wait is a loop of ours, with a deadline, and no rank hangs inside the library. What may block all the same
// (tearing down) is done by a thread that is left behind when it does not come back.
#include "comm/nccl.h"

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <array>
#include <cstdio>
#include <exception>
#include <optional>
#include <utility>

#include "comm/nccl_place.h"
#include "comm/nccl_wait.h"

namespace moextract::comm {
namespace {

std::string seconds(std::chrono::milliseconds time) {
  return fmt::format("{:g} s", static_cast<double>(time.count()) / 1000.0);
}

std::string text_of(cudaError_t status) {
  return cudaGetErrorString(status);
}

std::string text_of(ncclResult_t status, ncclComm_t comm) {
  const char* detail = ncclGetLastError(comm);
  const std::string text = ncclGetErrorString(status);
  return detail == nullptr || *detail == '\0' ? text : fmt::format("{} ({})", text, detail);
}

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) return;
  // The error would else be reported again, by whoever asks next.
  static_cast<void>(cudaGetLastError());
  fail(ExitCode::distributed, "{} failed: {}. See that the GPU is free and works (nvidia-smi), and run again.", call,
       text_of(status));
}

constexpr ncclDataType_t nccl_type(ElementType type) {
  switch (type) {
    case ElementType::int32:
      return ncclInt32;
    case ElementType::int64:
      return ncclInt64;
    case ElementType::float32:
      return ncclFloat32;
    case ElementType::float64:
      return ncclFloat64;
  }
  return ncclNumTypes;
}

constexpr ncclRedOp_t nccl_operation(Reduction reduction) {
  switch (reduction) {
    case Reduction::sum:
      return ncclSum;
    case Reduction::min:
      return ncclMin;
    case Reduction::max:
      return ncclMax;
  }
  return ncclNumOps;
}

bool is_good(ncclResult_t status) {
  return status == ncclSuccess || status == ncclInProgress;
}

}  // namespace

/// What throws after NCCL has started has aborted it before, and said why in `failure`.
struct DeviceCommunicator::State {
  DeviceOptions options;
  int rank = 0;
  int size = 1;
  int device = 0;
  DevicePlace place;
  DeviceStream own_stream = nullptr;
  ncclComm_t comm = nullptr;
  int exceptions_when_made = std::uncaught_exceptions();

  std::uint64_t sequence = 0;
  std::uint64_t pending = 0;
  std::optional<DeviceCall> first_pending;  ///< its number is sequence - pending + 1
  DeviceStream pending_stream = nullptr;
  std::string failure;  ///< once one happened

  ~State() { close(); }

  void log(const std::string& line) const noexcept {
    try {
      if (options.log) {
        options.log(line);
      } else {
        std::fprintf(stderr, "%s\n", line.c_str());
      }
    } catch (...) {  // a log that fails must not hide what was to be logged
    }
  }

  void abort() noexcept {
    if (comm == nullptr) return;
    ncclComm_t lost = std::exchange(comm, nullptr);
    if (!ends_within(options.close_deadline, [lost] { static_cast<void>(ncclCommAbort(lost)); })) {
      log(fmt::format("rank {}: ncclCommAbort did not end within {}: its memory on {} is left behind", rank,
                      seconds(options.close_deadline), place.text()));
    }
  }

  void close() noexcept {
    const bool unwinds = std::uncaught_exceptions() > exceptions_when_made;
    if (comm != nullptr && failure.empty() && !unwinds && pending == 0 && is_good(ncclCommFinalize(comm))) {
      ncclResult_t status = ncclInProgress;
      for (const Wait wait(options.close_deadline); !wait.expired(); wait.pause()) {
        if (ncclCommGetAsyncError(comm, &status) != ncclSuccess || status != ncclInProgress) break;
      }
      if (status == ncclSuccess) {
        ncclComm_t done = std::exchange(comm, nullptr);
        if (!ends_within(options.close_deadline, [done] { static_cast<void>(ncclCommDestroy(done)); })) {
          log(fmt::format("rank {}: ncclCommDestroy did not end within {}: it is left to itself", rank,
                          seconds(options.close_deadline)));
        }
      }
    }
    if (comm != nullptr && failure.empty() && !unwinds && pending != 0) {
      log(fmt::format("rank {}: a device communicator is closed with {} calls not synchronized: they are aborted", rank,
                      pending));
    }
    abort();
    if (own_stream != nullptr) static_cast<void>(cudaStreamDestroy(own_stream));
  }

  [[noreturn]] void fail_call(const DeviceCall& call, std::uint64_t number, const std::string& what) {
    failure = fmt::format(
        "rank {} of {} ({}): {} number {} ({}, {} bytes) {}. If another rank reports an error before this one, that is "
        "the cause; else look for a rank that did not come to this call, and set NCCL_DEBUG=INFO to see the network.",
        rank, size, place.text(), name_of(call.kind), number, call.text(), call.bytes(), what);
    // First the line: aborting may not come back.
    log(fmt::format("nccl: operation={} sequence={} bytes={} rank={}: {}", name_of(call.kind), number, call.bytes(),
                    rank, what));
    abort();
    pending = 0;
    throw UserError(ExitCode::distributed, failure);
  }

  void check_usable() const {
    if (!failure.empty()) throw UserError(ExitCode::distributed, failure);
  }

  /// Not collective. Makes `device` current and readies what is this rank's own.
  void open_device() {
    int devices = 0;
    check(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
    if (device < 0 || device >= devices) {
      fail(ExitCode::distributed,
           "device {} was asked for, but this process sees {} GPUs (from 0): compare CUDA_VISIBLE_DEVICES with the "
           "tasks "
           "a node.",
           device, devices);
    }
    check(cudaSetDevice(device), "cudaSetDevice");
    std::array<char, 64> bus{};
    check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device), "cudaDeviceGetPCIBusId");
    place = place_here(bus.data(), device);
    check(cudaStreamCreateWithFlags(&own_stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }

  /// Starts NCCL on this rank. What went wrong; the first character says whether waiting did ('w') or a call ('c').
  std::string start(const ncclUniqueId& id) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t status = ncclCommInitRankConfig(&comm, size, id, rank, &config);
    if (!is_good(status)) return "cncclCommInitRankConfig failed: " + text_of(status, nullptr);
    for (const Wait wait(options.deadline); status == ncclInProgress; wait.pause()) {
      const ncclResult_t asked = ncclCommGetAsyncError(comm, &status);
      if (asked != ncclSuccess) return "cncclCommGetAsyncError failed: " + text_of(asked, comm);
      if (status == ncclInProgress && wait.expired()) {
        return fmt::format("wNCCL did not start within {}", seconds(options.deadline));
      }
    }
    return status == ncclSuccess ? std::string() : "cNCCL did not start: " + text_of(status, comm);
  }

  /// Collective. All ranks throw the same if one could not start; one that reports an error comes before those that
  /// only waited for it.
  void agree_on_start(Communicator& host, const std::string& mine) {
    const std::vector<std::string> all = host.all_gather_text(mine);
    for (const char kind : {'c', 'w'}) {
      for (std::size_t r = 0; r < all.size(); ++r) {
        if (all[r].empty() || all[r][0] != kind) continue;
        failure = fmt::format(
            "rank {}: {}. Set NCCL_DEBUG=INFO and run again to see which link between the hosts or GPUs is missing.", r,
            all[r].substr(1));
        if (host.rank() == 0) log("nccl: operation=start sequence=0 bytes=0 " + failure);
        abort();
        throw RemoteFailure(ExitCode::distributed, static_cast<int>(r), failure);
      }
    }
  }

  ncclResult_t enqueue(const DeviceCall& call, DeviceStream stream) {
    // All ranks pass the same count, so all leave out the same calls.
    if (call.count == 0) return ncclSuccess;
    switch (call.kind) {
      case DeviceCall::Kind::all_reduce:
        return ncclAllReduce(call.source, call.target, call.count, nccl_type(call.type), nccl_operation(call.reduction),
                             comm, stream);
      case DeviceCall::Kind::broadcast:
        return ncclBroadcast(call.source, call.target, call.count, ncclInt8, call.root, comm, stream);
      case DeviceCall::Kind::all_gather:
        return ncclAllGather(call.source, call.target, call.count, ncclInt8, comm, stream);
    }
    return ncclInvalidArgument;
  }

  /// The async state of NCCL: true once nothing is in progress. Fails the call on any error.
  bool is_settled(const DeviceCall& call, std::uint64_t number) {
    ncclResult_t status = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm, &status);
    if (asked != ncclSuccess) fail_call(call, number, "failed: ncclCommGetAsyncError: " + text_of(asked, comm));
    if (!is_good(status)) fail_call(call, number, "failed: NCCL reports " + text_of(status, comm));
    return status == ncclSuccess;
  }

  void submit(std::span<const DeviceCall> calls, DeviceStream stream) {
    if (calls.empty()) return;
    for (const DeviceCall& call : calls) {
      MOEX_ASSERT(call.root >= 0 && call.root < size, fmt::format("{} of {} ranks", call.text(), size));
    }
    MOEX_ASSERT(pending == 0 || stream == pending_stream,
                "calls of a device communicator go to one stream between two synchronize()");
    check_usable();
    const std::uint64_t first = sequence + 1;
    sequence += calls.size();
    if (pending == 0) first_pending = calls.front();
    pending += calls.size();
    pending_stream = stream;

    const bool grouped = calls.size() > 1;
    ncclResult_t status = grouped ? ncclGroupStart() : ncclSuccess;
    if (!is_good(status)) fail_call(calls.front(), first, "failed: ncclGroupStart: " + text_of(status, comm));
    std::size_t bad = 0;
    for (std::size_t i = 0; i < calls.size() && is_good(status); ++i) {
      bad = i;
      status = enqueue(calls[i], stream);
    }
    if (grouped) {
      // Also after a failure: an open group would swallow whatever this thread calls next.
      const ncclResult_t ended = ncclGroupEnd();
      if (is_good(status) && !is_good(ended)) {
        fail_call(calls.front(), first, "failed: ncclGroupEnd: " + text_of(ended, comm));
      }
    }
    if (!is_good(status)) fail_call(calls[bad], first + bad, "failed: " + text_of(status, comm));

    // Until NCCL has settled, the calls need not be on the stream: whoever looked at it would find it done.
    for (const Wait wait(options.deadline); !is_settled(calls.front(), first); wait.pause()) {
      if (wait.expired()) {
        fail_call(calls.front(), first,
                  fmt::format("did not get onto its stream within {}", seconds(options.deadline)));
      }
    }
  }

  void synchronize() {
    check_usable();
    if (pending == 0) return;
    const DeviceCall call = *first_pending;
    const std::uint64_t number = sequence - pending + 1;
    for (const Wait wait(options.deadline);; wait.pause()) {
      const cudaError_t status = cudaStreamQuery(pending_stream);
      if (status != cudaSuccess) {
        // "Not ready" is remembered as an error too, and would be reported by the next check of another library.
        static_cast<void>(cudaGetLastError());
      }
      // Asked after the stream: an error that ended the kernels of NCCL early is not taken for success.
      const bool settled = is_settled(call, number);
      if (status == cudaSuccess && settled) break;
      if (status != cudaSuccess && status != cudaErrorNotReady) {
        fail_call(call, number, "failed: CUDA reports " + text_of(status));
      }
      if (wait.expired()) {
        const std::string others =
            pending > 1 ? fmt::format(", or one of the {} calls up to number {} did not", pending - 1, sequence) : "";
        fail_call(call, number, fmt::format("did not finish within {}{}", seconds(options.deadline), others));
      }
    }
    pending = 0;
    first_pending.reset();
  }
};

std::vector<DevicePlace> visible_devices() {
  int count = 0;
  std::vector<DevicePlace> places;
  // Without a driver this is an error; it is no failure of a program that does not need a GPU.
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  for (int device = 0; device < count; ++device) {
    std::array<char, 64> bus{};
    if (cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), device) != cudaSuccess)
      bus = {"of unknown bus"};
    places.push_back(place_here(bus.data(), device));
  }
  static_cast<void>(cudaGetLastError());
  return places;
}

DeviceCommunicator::DeviceCommunicator(Communicator& host, int device, DeviceOptions options)
    : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.options = std::move(options);
  state.rank = host.rank();
  state.size = host.size();
  state.device = device;

  host.together([&] { state.open_device(); });
  std::vector<DevicePlace> places;
  for (const std::string& packed : host.all_gather_text(state.place.pack())) {
    places.push_back(DevicePlace::unpack(packed));
  }
  // All ranks have the same list, so all throw the same or none does.
  check_one_rank_a_gpu(places);

  ncclUniqueId id{};
  host.together([&] {
    if (!host.is_root()) return;
    const ncclResult_t status = ncclGetUniqueId(&id);
    if (status != ncclSuccess) {
      fail(ExitCode::distributed,
           "ncclGetUniqueId failed: {}. See that NCCL_SOCKET_IFNAME, where set, names an interface of this host.",
           text_of(status, nullptr));
    }
  });
  host.broadcast(std::span<char>(id.internal));
  // MPI is quiet on all ranks before NCCL starts.
  host.barrier();
  const std::string problem = state.start(id);
  // A rank that failed does not keep NCCL running while it tells the others by way of the host communicator.
  if (!problem.empty()) state.abort();
  state.agree_on_start(host, problem);
}

DeviceCommunicator::~DeviceCommunicator() = default;
DeviceCommunicator::DeviceCommunicator(DeviceCommunicator&&) noexcept = default;
DeviceCommunicator& DeviceCommunicator::operator=(DeviceCommunicator&&) noexcept = default;

int DeviceCommunicator::rank() const noexcept {
  return state_->rank;
}
int DeviceCommunicator::size() const noexcept {
  return state_->size;
}
int DeviceCommunicator::device() const noexcept {
  return state_->device;
}
std::string DeviceCommunicator::place() const {
  return state_->place.text();
}
DeviceStream DeviceCommunicator::stream() const noexcept {
  return state_->own_stream;
}
void DeviceCommunicator::submit(const DeviceGroup& group, DeviceStream stream) {
  state_->submit(group.calls(), stream);
}
void DeviceCommunicator::synchronize() {
  state_->synchronize();
}
std::uint64_t DeviceCommunicator::pending() const noexcept {
  return state_->pending;
}
std::uint64_t DeviceCommunicator::sequence() const noexcept {
  return state_->sequence;
}
bool DeviceCommunicator::failed() const noexcept {
  return !state_->failure.empty();
}

std::string DeviceCommunicator::version() {
  int number = 0;
  const ncclResult_t status = ncclGetVersion(&number);
  if (status != ncclSuccess) return "of unknown version";
  return fmt::format("{}.{}.{}", number / 10000, number / 100 % 100, number % 100);
}

}  // namespace moextract::comm
