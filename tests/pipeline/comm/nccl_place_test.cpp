// One rank a GPU: what counts as the same GPU, and the message.
#include "comm/nccl_place.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/error.h"

namespace moextract::comm {
namespace {

DevicePlace place(const std::string& host, const std::string& machine, const std::string& bus, int device) {
  return {.host = host, .machine = machine, .bus = bus, .device = device};
}

TEST(DevicePlaces, ThatDifferAreFine) {
  const std::vector<DevicePlace> places = {
      place("node1", "a", "0000:17:00.0", 0), place("node1", "a", "0000:65:00.0", 0),
      place("node2", "b", "0000:17:00.0", 0), place("node1", "c", "0000:17:00.0", 0),  // another machine of that name
  };
  EXPECT_NO_THROW(check_one_rank_a_gpu(places));
  EXPECT_NO_THROW(check_one_rank_a_gpu({}));
}

TEST(DevicePlaces, AreDealtByTheNumberOnTheNode) {
  EXPECT_EQ(device_of(0, 4), 0);
  EXPECT_EQ(device_of(3, 4), 3);
  EXPECT_EQ(device_of(4, 4), std::nullopt);
  EXPECT_EQ(device_of(3, 1), 0) << "the launcher shows each rank its own";
  EXPECT_EQ(device_of(0, 0), std::nullopt);
}

TEST(DevicePlaces, OfTwoRanksOnOneGpuAreNamed) {
  // Two containers of one machine, and each calls the GPU by another number.
  const std::vector<DevicePlace> places = {
      place("node1", "a", "0000:17:00.0", 0), place("node1", "a", "0000:65:00.0", 1),
      place("pod5", "a", "0000:65:00.0", 0), place("pod6", "a", "0000:65:00.0", 0)};
  try {
    check_one_rank_a_gpu(places);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::distributed);
    const std::string text = error.what();
    EXPECT_EQ(text.find("rank 1 (device 1) and rank 2 (device 0) both use GPU 0000:65:00.0 of pod5"), 0u) << text;
    EXPECT_NE(text.find("CUDA_VISIBLE_DEVICES"), std::string::npos);
    EXPECT_NE(text.find("one task per GPU"), std::string::npos);
  }
}

TEST(DevicePlaces, TravelAsText) {
  const DevicePlace before = place_here("0000:17:00.0", 3);
  EXPECT_FALSE(before.host.empty());
  EXPECT_FALSE(before.machine.empty());
  const DevicePlace after = DevicePlace::unpack(before.pack());
  EXPECT_EQ(after.host, before.host);
  EXPECT_EQ(after.machine, before.machine);
  EXPECT_EQ(after.bus, "0000:17:00.0");
  EXPECT_EQ(after.device, 3);
  EXPECT_EQ(after.text(), "GPU 0000:17:00.0 of " + before.host);
  EXPECT_THROW(DevicePlace::unpack("nonsense"), BugError);
}

}  // namespace
}  // namespace moextract::comm
