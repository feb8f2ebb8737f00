// The communicator of a program that runs alone: every collective is a copy or nothing.
#include <cstdlib>

#include "comm/backends.h"

namespace moextract::comm {
namespace {

class SelfCommunicator final : public Communicator {
 public:
  int rank() const noexcept override { return 0; }
  int size() const noexcept override { return 1; }
  std::string name() const override { return "self"; }
  void barrier() override {}
  std::unique_ptr<Communicator> split_by_node() override { return make_self(); }
  [[noreturn]] void abort(ExitCode code) noexcept override { std::_Exit(static_cast<int>(code)); }

 protected:
  void broadcast_bytes(std::span<std::byte> data, int root) override {
    MOEX_ASSERT(root == 0, fmt::format("broadcast from rank {} of 1", root));
  }
  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {}
  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override {
    return {mine.begin(), mine.end()};
  }
};

}  // namespace

std::unique_ptr<Communicator> make_self() {
  return std::make_unique<SelfCommunicator>();
}

}  // namespace moextract::comm
