// A communicator that reaches GPU memory when a GPU, or the link between two, fails: by way of the double.
#include <gtest/gtest.h>
#include <nccl.h>

#include <atomic>
#include <mutex>

#include "comm/backends.h"
#include "comm/device_ranks.h"
#include "tests/pipeline/comm/nccl_double.h"
#include "tests/pipeline/comm/nccl_staged.h"

namespace moextract::comm {
namespace {

using namespace std::chrono_literals;
using nccl_double::Effect;

/// All ranks sum a number in GPU memory, with an error arranged; each ends with ExitCode::distributed and a message
/// that names the call.
std::vector<std::string> messages_of_all(const nccl_double::Fault& fault) {
  std::mutex mutex;
  std::vector<std::string> messages;
  run_threads(3, [&](Communicator& host) {
    const auto ranks = make_device_ranks(host, host.rank(),
                                         {.deadline = 1s, .close_deadline = 300ms, .log = [](const std::string&) {}});
    host.barrier();
    if (host.is_root()) nccl_double::arrange(fault);
    host.barrier();
    std::string message = "nothing was thrown";
    try {
      const DeviceArray<std::int64_t> array(1);
      ranks->all_reduce(DeviceSpan<std::int64_t>{array.data(), 1}, Reduction::sum);
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::distributed);
      message = error.what();
    }
    // The host's way is open: ranks can tell each other.
    EXPECT_EQ(ranks->all_reduce_value<std::int32_t>(1, Reduction::sum), 3);
    const std::lock_guard lock(mutex);
    messages.push_back(message);
  });
  nccl_double::release();
  return messages;
}

TEST(DeviceRanksFaults, ALostRankIsFoundByTheDeadlineAndTheHostGoesOn) {
  for (const std::string& message :
       messages_of_all({.function = "ncclAllReduce", .effect = Effect::never, .device = 1}))
    EXPECT_NE(message.find("all_reduce(sum of 1 int64)"), std::string::npos) << message;
}

TEST(DeviceRanksFaults, AnAsynchronousErrorIsReported) {
  int reported = 0;
  for (const std::string& message : messages_of_all(
           {.function = "ncclAllReduce", .effect = Effect::async_error, .device = 2, .code = ncclRemoteError})) {
    EXPECT_NE(message.find("all_reduce(sum of 1 int64)"), std::string::npos) << message;
    if (message.find("remote process exited") != std::string::npos) ++reported;
  }
  EXPECT_GE(reported, 1);
}

}  // namespace
}  // namespace moextract::comm
