// A stand-in for the functions of NCCL and CUDA that the NCCL back end calls, over host memory, with ranks as threads
// of one process. It works as the real ones do where the control flow depends on it: communicators start in the
// background, calls are carried out in stream order and only when all ranks have come, an error or a lost rank leaves
// the others waiting. It can be told what goes wrong, and it notes what the real ones would answer with a crash or a
// hang.
//
// In these tests rank r uses device r, so a device stands for a rank.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace moextract::nccl_double {

constexpr int kDevices = 16;
constexpr int kAny = -1;

enum class Effect {
  fail,         ///< returns `code` at once
  slow,         ///< takes `time`: a collective on its stream, other functions before they return
  in_progress,  ///< answers "in progress" (NCCL only), and is done after `time`
  never,        ///< a collective never finishes and this rank never comes to it; start, finalize and group end stay in
                ///< progress; cudaStreamQuery is never ready; other functions return after release() only
  async_error,  ///< goes well, and the communicator's state becomes `code` after `time`
};

struct Fault {
  const char* function;  ///< "ncclAllReduce", ...
  Effect effect;
  int device = kAny;
  int call = 0;  ///< which call of this function by this device, from 1; 0: every one
  int code = 0;
  std::chrono::milliseconds time{0};
};

/// Forgets everything; devices have buses of their own. Call while no rank runs.
void reset();
void arrange(Fault fault);
/// Makes calls that "never" return do so. To be called before the program ends, if there may be some.
void release();
/// What cudaDeviceGetPCIBusId answers for `device`.
void set_bus(int device, std::string bus);

/// Calls since reset().
int calls(const std::string& function, int device = kAny);
/// Communicators, streams and pieces of memory not given back.
int communicators();
int streams();
int allocations();
/// What the real libraries forbid: each in words.
std::vector<std::string> misuse();

}  // namespace moextract::nccl_double
