// The functions of NCCL and CUDA that nccl.cpp and the tests call, with the signatures of the real headers. One lock
// over everything: clarity, and nothing for a race detector to find here.
//
// Nothing runs in the background. A rank's stream moves on whenever the rank looks at it or adds to it, and the rank
// that comes last to a collective computes it for all.
#include "tests/pipeline/comm/nccl_double.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <thread>

namespace moextract::nccl_double {
namespace {

using Clock = std::chrono::steady_clock;

/// One collective as one rank passes it.
struct Call {
  enum class Kind { all_reduce, broadcast, all_gather };
  Kind kind;
  const void* source;
  void* target;
  std::size_t count;
  ncclDataType_t type;
  ncclRedOp_t operation;
  int root;
  bool matches(const Call& other) const {
    return kind == other.kind && count == other.count && type == other.type && operation == other.operation &&
           root == other.root;
  }
};

/// Where all ranks come with their n-th call, or n-th group of calls.
struct Meeting {
  std::vector<std::vector<Call>> calls;  ///< by rank
  std::size_t arrived = 0;
  bool done = false;
};

/// The ranks of one unique id.
struct Clique {
  std::vector<std::string> buses;  ///< of the ranks that have come
  std::set<int> ranks;
  std::map<std::uint64_t, Meeting> meetings;
  int finalized = 0;    ///< ranks that want to close
  bool broken = false;  ///< a rank aborted or met an error
};

}  // namespace
}  // namespace moextract::nccl_double

/// What NCCL's and CUDA's handles point to.
struct ncclComm {
  std::shared_ptr<moextract::nccl_double::Clique> clique;
  int rank = 0, size = 0, device = 0;
  std::uint64_t meetings = 0;
  moextract::nccl_double::Clock::time_point busy_until{};  ///< in progress until then
  bool never_ready = false;
  bool started = false;
  bool finalized = false;
  bool gone = false;  ///< destroyed or aborted; kept, so that its use can be noted
  ncclResult_t error = ncclSuccess;
  moextract::nccl_double::Clock::time_point error_from{};
};

struct CUstream_st {
  struct Task {
    ncclComm* comm;                 ///< null for a copy
    std::function<bool()> is_done;  ///< does what it can
  };
  int device = 0;
  bool gone = false;
  std::deque<Task> tasks;
};

namespace moextract::nccl_double {
namespace {

struct World {
  std::mutex mutex;
  std::condition_variable released;
  std::uint64_t releases = 0;
  std::vector<Fault> faults;
  std::map<std::pair<std::string, int>, int> calls;
  std::map<int, std::string> buses;
  std::vector<std::string> misuse;
  std::map<std::string, std::shared_ptr<Clique>> cliques;
  std::vector<std::unique_ptr<ncclComm>> comms;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::map<void*, std::unique_ptr<std::byte[]>> memory;
  std::uint64_t next_id = 1;
};

World& world() {
  static World the_world;
  return the_world;
}

thread_local int current_device = 0;
thread_local cudaError_t last_error = cudaSuccess;

struct Grouped {
  ncclComm* comm;
  CUstream_st* stream;
  Call call;
  std::optional<Fault> fault;
};
thread_local int group_depth = 0;
thread_local std::vector<Grouped> group;

using Lock = std::unique_lock<std::mutex>;

void note(const std::string& what) {
  world().misuse.push_back(what);
}

/// Counts the call and returns what is to go wrong with it. Failing, slowness and (where `blocks`) never returning are
/// dealt with by the caller's macro below; the rest is up to the function.
std::optional<Fault> enter(const std::string& function, int device) {
  const int call = ++world().calls[{function, device}];
  for (const Fault& fault : world().faults) {
    if (fault.function == function && (fault.device == kAny || fault.device == device) &&
        (fault.call == 0 || fault.call == call)) {
      return fault;
    }
  }
  return std::nullopt;
}

void sleep_unlocked(Lock& lock, std::chrono::milliseconds time) {
  lock.unlock();
  std::this_thread::sleep_for(time);
  lock.lock();
}

void block_until_release(Lock& lock) {
  const std::uint64_t releases = world().releases;
  world().released.wait(lock, [&] { return world().releases != releases; });
}

/// For functions that either work or do not: the code to return at once, if any.
std::optional<int> simple_fault(Lock& lock, const std::string& function, int device) {
  const std::optional<Fault> fault = enter(function, device);
  if (!fault) return std::nullopt;
  if (fault->effect == Effect::fail) return fault->code;
  if (fault->effect == Effect::slow) sleep_unlocked(lock, fault->time);
  if (fault->effect == Effect::never) block_until_release(lock);
  return std::nullopt;
}

template <class T>
void reduce(const std::vector<const Call*>& calls) {
  const std::size_t count = calls[0]->count;
  const T* first = static_cast<const T*>(calls[0]->source);
  std::vector<T> result(first, first + count);
  for (std::size_t rank = 1; rank < calls.size(); ++rank) {
    const T* part = static_cast<const T*>(calls[rank]->source);
    for (std::size_t i = 0; i < count; ++i) {
      switch (calls[0]->operation) {
        case ncclSum:
          result[i] += part[i];
          break;
        case ncclMin:
          result[i] = std::min(result[i], part[i]);
          break;
        case ncclMax:
          result[i] = std::max(result[i], part[i]);
          break;
        default:
          note("an operation the double does not know");
      }
    }
  }
  for (const Call* call : calls) std::memcpy(call->target, result.data(), count * sizeof(T));
}

void carry_out(const std::vector<const Call*>& calls) {
  const Call& first = *calls[0];
  switch (first.kind) {
    case Call::Kind::all_reduce:
      switch (first.type) {
        case ncclInt32:
          return reduce<std::int32_t>(calls);
        case ncclInt64:
          return reduce<std::int64_t>(calls);
        case ncclFloat32:
          return reduce<float>(calls);
        case ncclFloat64:
          return reduce<double>(calls);
        default:
          return note("a type the double does not reduce");
      }
    case Call::Kind::broadcast: {
      const void* source = calls[static_cast<std::size_t>(first.root)]->source;
      for (const Call* call : calls) std::memmove(call->target, source, first.count);
      return;
    }
    case Call::Kind::all_gather: {
      std::vector<std::byte> all(first.count * calls.size());
      for (std::size_t rank = 0; rank < calls.size(); ++rank) {
        std::memcpy(all.data() + rank * first.count, calls[rank]->source, first.count);
      }
      for (const Call* call : calls) std::memcpy(call->target, all.data(), all.size());
      return;
    }
  }
}

/// Done once all ranks have come with the same calls and none has broken off: else never, as on real devices.
bool meet(ncclComm& comm, std::uint64_t number, const std::vector<Call>& calls, bool& has_come) {
  Clique& clique = *comm.clique;
  Meeting& meeting = clique.meetings[number];
  const auto size = static_cast<std::size_t>(comm.size);
  if (!has_come) {
    has_come = true;
    meeting.calls.resize(size);
    meeting.calls[static_cast<std::size_t>(comm.rank)] = calls;
    if (++meeting.arrived == size && !clique.broken) {
      bool all_match = true;
      for (const std::vector<Call>& others : meeting.calls) {
        all_match &=
            others.size() == calls.size() && std::equal(others.begin(), others.end(), calls.begin(),
                                                        [](const Call& a, const Call& b) { return a.matches(b); });
      }
      if (all_match) {
        for (std::size_t i = 0; i < calls.size(); ++i) {
          std::vector<const Call*> each;
          for (const std::vector<Call>& of_rank : meeting.calls) each.push_back(&of_rank[i]);
          carry_out(each);
        }
        meeting.done = true;
      }
    }
  }
  return meeting.done;
}

void move_on(CUstream_st& stream) {
  while (!stream.tasks.empty()) {
    const CUstream_st::Task& task = stream.tasks.front();
    if (!(task.comm != nullptr && task.comm->gone) && !task.is_done()) return;
    stream.tasks.pop_front();
  }
}

bool is_busy(const ncclComm& comm) {
  return comm.never_ready || Clock::now() < comm.busy_until;
}

void set_error(ncclComm& comm, const Fault& fault) {
  comm.error = static_cast<ncclResult_t>(fault.code);
  comm.error_from = Clock::now() + fault.time;
  // Whoever waits for this rank waits for ever, until its own deadline.
  comm.clique->broken = true;
}

bool has_error(const ncclComm& comm) {
  return comm.error != ncclSuccess && Clock::now() >= comm.error_from;
}

/// Applies to a communicator what went wrong with a call of it; the call's answer.
ncclResult_t answer(ncclComm& comm, const std::optional<Fault>& fault) {
  if (!fault) return ncclSuccess;
  if (fault->effect == Effect::in_progress) {
    comm.busy_until = std::max(comm.busy_until, Clock::now() + fault->time);
    return ncclInProgress;
  }
  if (fault->effect == Effect::async_error) set_error(comm, *fault);
  return ncclSuccess;
}

/// Puts the calls, as one kernel, onto their stream.
void put(ncclComm& comm, CUstream_st& stream, const std::vector<Call>& calls, const std::vector<Fault>& faults) {
  Clock::time_point from = comm.busy_until;
  bool never = comm.never_ready;
  for (const Fault& fault : faults) {
    if (fault.effect == Effect::slow) from = std::max(from, Clock::now() + fault.time);
    never |= fault.effect == Effect::never;
  }
  const std::uint64_t number = ++comm.meetings;
  stream.tasks.push_back({&comm, [&comm, number, calls, from, never, has_come = false]() mutable {
                            if (never || has_error(comm) || Clock::now() < from) return false;
                            return meet(comm, number, calls, has_come);
                          }});
  move_on(stream);
}

ncclResult_t collective(const char* function, ncclComm* comm, CUstream_st* stream, const Call& call) {
  Lock lock(world().mutex);
  const std::optional<Fault> fault = enter(function, comm->device);
  if (fault && fault->effect == Effect::fail) return static_cast<ncclResult_t>(fault->code);
  if (comm->gone || !comm->started || comm->finalized) {
    note(fmt::format("{} on a communicator that is not open", function));
    return ncclInvalidUsage;
  }
  if (is_busy(*comm)) note(fmt::format("{} while the communicator is in progress", function));
  if (stream == nullptr || stream->gone || stream->device != comm->device) {
    note(fmt::format("{} on a stream that is gone or of another device", function));
    return ncclInvalidArgument;
  }
  if (group_depth > 0) {
    group.push_back({comm, stream, call, fault});
    return ncclSuccess;
  }
  const ncclResult_t status = answer(*comm, fault);
  put(*comm, *stream, {call}, fault ? std::vector<Fault>{*fault} : std::vector<Fault>{});
  return status;
}

cudaError_t remember(int code) {
  return last_error = static_cast<cudaError_t>(code);
}

}  // namespace

void reset() {
  World& w = world();
  const std::lock_guard lock(w.mutex);
  w.faults.clear();
  w.calls.clear();
  w.buses.clear();
  w.misuse.clear();
  w.cliques.clear();
  w.comms.clear();
  w.streams.clear();
  w.memory.clear();
}

void arrange(Fault fault) {
  const std::lock_guard lock(world().mutex);
  world().faults.push_back(std::move(fault));
}

void release() {
  const std::lock_guard lock(world().mutex);
  ++world().releases;
  world().released.notify_all();
}

void set_bus(int device, std::string bus) {
  const std::lock_guard lock(world().mutex);
  world().buses[device] = std::move(bus);
}

int calls(const std::string& function, int device) {
  const std::lock_guard lock(world().mutex);
  int sum = 0;
  for (const auto& [key, count] : world().calls) {
    if (key.first == function && (device == kAny || key.second == device)) sum += count;
  }
  return sum;
}

int communicators() {
  const std::lock_guard lock(world().mutex);
  return static_cast<int>(std::ranges::count_if(world().comms, [](const auto& comm) { return !comm->gone; }));
}

int streams() {
  const std::lock_guard lock(world().mutex);
  return static_cast<int>(std::ranges::count_if(world().streams, [](const auto& stream) { return !stream->gone; }));
}

int allocations() {
  const std::lock_guard lock(world().mutex);
  return static_cast<int>(world().memory.size());
}

std::vector<std::string> misuse() {
  const std::lock_guard lock(world().mutex);
  return world().misuse;
}

}  // namespace moextract::nccl_double

using namespace moextract::nccl_double;  // the functions below are the world's, but they are not in its namespace

extern "C" {

// --- NCCL ---

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSystemError:
      return "unhandled system error";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "an error of the double";
  }
}

const char* ncclGetLastError(ncclComm_t) {
  return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "ncclGetUniqueId", current_device)) return static_cast<ncclResult_t>(*code);
  const std::string text = fmt::format("clique {}", world().next_id++);
  std::memset(id->internal, 0, sizeof id->internal);
  std::memcpy(id->internal, text.data(), text.size());
  world().cliques[text] = std::make_shared<Clique>();
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* out, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  World& w = world();
  Lock lock(w.mutex);
  const std::optional<Fault> fault = enter("ncclCommInitRankConfig", current_device);
  if (fault && fault->effect == Effect::fail) return static_cast<ncclResult_t>(fault->code);
  if (config == nullptr || config->blocking != 0) note("a blocking communicator");
  const auto clique = w.cliques.find(id.internal);
  if (clique == w.cliques.end()) {
    note("an id that nobody made");
    return ncclInvalidArgument;
  }
  w.comms.push_back(std::make_unique<ncclComm>());
  ncclComm& comm = *w.comms.back();
  comm.clique = clique->second;
  comm.rank = rank;
  comm.size = size;
  comm.device = current_device;
  *out = &comm;
  if (fault && fault->effect == Effect::never) {
    comm.never_ready = true;
    return ncclInProgress;
  }
  if (!comm.clique->ranks.insert(rank).second) note("two ranks of the same number");
  answer(comm, fault);
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  Lock lock(world().mutex);
  const std::optional<Fault> fault = enter("ncclCommGetAsyncError", comm->device);
  if (fault && fault->effect == Effect::fail) return static_cast<ncclResult_t>(fault->code);
  if (comm->gone) {
    note("ncclCommGetAsyncError on a communicator that is gone");
    return ncclInvalidArgument;
  }
  if (fault && fault->effect == Effect::async_error) set_error(*comm, *fault);
  comm->started |= comm->clique->ranks.size() == static_cast<std::size_t>(comm->size);
  const bool closes = comm->finalized && comm->clique->finalized < comm->size;
  *state = has_error(*comm) ? comm->error : !comm->started || closes || is_busy(*comm) ? ncclInProgress : ncclSuccess;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* source, void* target, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective("ncclAllReduce", comm, stream, {Call::Kind::all_reduce, source, target, count, type, operation, 0});
}

ncclResult_t ncclBroadcast(const void* source, void* target, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return collective("ncclBroadcast", comm, stream, {Call::Kind::broadcast, source, target, count, type, ncclSum, root});
}

ncclResult_t ncclAllGather(const void* source, void* target, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return collective("ncclAllGather", comm, stream, {Call::Kind::all_gather, source, target, count, type, ncclSum, 0});
}

ncclResult_t ncclGroupStart() {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "ncclGroupStart", current_device)) return static_cast<ncclResult_t>(*code);
  ++group_depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  Lock lock(world().mutex);
  const std::optional<Fault> fault = enter("ncclGroupEnd", current_device);
  if (group_depth != 1) note("groups that do not pair up");
  group_depth = 0;
  const std::vector<Grouped> members = std::move(group);
  group.clear();
  if (fault && fault->effect == Effect::fail) return static_cast<ncclResult_t>(fault->code);
  if (members.empty()) return ncclSuccess;
  ncclComm& comm = *members[0].comm;
  std::vector<Call> calls;
  std::vector<Fault> faults;
  ncclResult_t status = answer(comm, fault);
  for (const Grouped& member : members) {
    if (member.comm != &comm || member.stream != members[0].stream) note("a group the double does not know");
    calls.push_back(member.call);
    if (member.fault) faults.push_back(*member.fault);
    if (answer(comm, member.fault) == ncclInProgress) status = ncclInProgress;
  }
  if (fault && fault->effect == Effect::never) {
    comm.never_ready = true;
    status = ncclInProgress;
  }
  put(comm, *members[0].stream, calls, faults);
  return status;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  Lock lock(world().mutex);
  const std::optional<Fault> fault = enter("ncclCommFinalize", comm->device);
  if (fault && fault->effect == Effect::fail) return static_cast<ncclResult_t>(fault->code);
  if (comm->gone || comm->finalized || is_busy(*comm)) note("ncclCommFinalize at the wrong time");
  comm->finalized = true;
  ++comm->clique->finalized;
  comm->never_ready = fault && fault->effect == Effect::never;
  answer(*comm, fault);
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "ncclCommDestroy", comm->device)) return static_cast<ncclResult_t>(*code);
  if (comm->gone || !comm->finalized || is_busy(*comm)) note("ncclCommDestroy of one that is gone or not finalized");
  comm->gone = true;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  Lock lock(world().mutex);
  comm->clique->broken = true;  // even if the call then blocks: nobody may touch this rank's buffers any more
  if (const auto code = simple_fault(lock, "ncclCommAbort", comm->device)) return static_cast<ncclResult_t>(*code);
  if (comm->gone) note("ncclCommAbort of one that is gone");
  comm->gone = true;
  return ncclSuccess;
}

// --- CUDA ---

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorIllegalAddress ? "an illegal memory access was encountered" : "a CUDA error of the double";
}

cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaGetDeviceCount", current_device)) return remember(*code);
  *count = kDevices;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaSetDevice", device)) return remember(*code);
  current_device = device;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* text, int length, int device) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaDeviceGetPCIBusId", device)) return remember(*code);
  const auto set = world().buses.find(device);
  const std::string bus = set != world().buses.end() ? set->second : fmt::format("0000:{:02x}:00.0", device);
  if (static_cast<std::size_t>(length) <= bus.size()) return remember(cudaErrorInvalidValue);
  std::memcpy(text, bus.c_str(), bus.size() + 1);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned int) {
  World& w = world();
  Lock lock(w.mutex);
  if (const auto code = simple_fault(lock, "cudaStreamCreateWithFlags", current_device)) return remember(*code);
  w.streams.push_back(std::make_unique<CUstream_st>());
  w.streams.back()->device = current_device;
  *stream = w.streams.back().get();
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaStreamDestroy", stream->device)) return remember(*code);
  if (stream->gone) note("cudaStreamDestroy of a stream that is gone");
  stream->gone = true;
  return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream) {
  Lock lock(world().mutex);
  const std::optional<Fault> fault = enter("cudaStreamQuery", stream->device);
  if (fault && fault->effect == Effect::fail) return remember(fault->code);
  if (fault && fault->effect == Effect::never) return remember(cudaErrorNotReady);
  if (stream->gone) note("cudaStreamQuery of a stream that is gone");
  for (const auto& task : stream->tasks) {
    if (task.comm != nullptr && !task.comm->gone && !has_error(*task.comm) && is_busy(*task.comm)) {
      note("a stream was looked at before NCCL had put its calls there");
    }
  }
  move_on(*stream);
  return stream->tasks.empty() ? cudaSuccess : remember(cudaErrorNotReady);
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaMalloc", current_device)) return remember(*code);
  auto piece = std::make_unique<std::byte[]>(bytes);
  *memory = piece.get();
  world().memory[*memory] = std::move(piece);
  return cudaSuccess;
}

cudaError_t cudaFree(void* memory) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaFree", current_device)) return remember(*code);
  if (memory != nullptr && world().memory.erase(memory) != 1) note("cudaFree of what was not allocated");
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  Lock lock(world().mutex);
  if (const auto code = simple_fault(lock, "cudaMemcpyAsync", stream->device)) return remember(*code);
  move_on(*stream);
  // The real one waits for the stream when it copies to pageable memory: for ever, if a collective hangs there.
  if (kind == cudaMemcpyDeviceToHost && !stream->tasks.empty())
    note("a copy to the host behind an unfinished collective");
  if (stream->tasks.empty()) {
    std::memcpy(target, source, bytes);
    return cudaSuccess;
  }
  // From pageable memory it has read the source when it returns.
  const auto* begin = static_cast<const std::byte*>(source);
  stream->tasks.push_back({nullptr, [target, data = std::vector<std::byte>(begin, begin + bytes)] {
                             std::memcpy(target, data.data(), data.size());
                             return true;
                           }});
  return cudaSuccess;
}

}  // extern "C"
