// The board of ranks that are threads.
#include <mutex>
#include <utility>
#include <vector>

#include "comm/board.h"

namespace moextract::comm {
namespace {

class MemoryBoard final : public Board {
 public:
  explicit MemoryBoard(int ranks) : states_(static_cast<std::size_t>(ranks)) {}

  std::int64_t ring() override {
    const std::lock_guard lock(mutex_);
    return ++bell_;
  }
  std::int64_t bell() override {
    const std::lock_guard lock(mutex_);
    return bell_;
  }
  void publish(int rank, const RankState& state) override {
    const std::lock_guard lock(mutex_);
    states_.at(static_cast<std::size_t>(rank)) = state;
  }
  std::optional<RankState> read(int rank) override {
    const std::lock_guard lock(mutex_);
    return states_.at(static_cast<std::size_t>(rank));
  }
  bool claim_verdict() override {
    const std::lock_guard lock(mutex_);
    return !std::exchange(verdict_, true);
  }
  bool has_verdict() override {
    const std::lock_guard lock(mutex_);
    return verdict_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::optional<RankState>> states_;
  std::int64_t bell_ = 0;
  bool verdict_ = false;
};

}  // namespace

std::shared_ptr<Board> make_memory_board(int ranks) {
  return std::make_shared<MemoryBoard>(ranks);
}

}  // namespace moextract::comm
