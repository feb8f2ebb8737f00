#include "comm/watched.h"

#include <unistd.h>

#include <cstdlib>
#include <numeric>

#include "comm/watch_state.h"

namespace moextract::comm {
namespace {

const char* name_of(Reduction reduction) {
  return reduction == Reduction::sum ? "sum" : (reduction == Reduction::min ? "min" : "max");
}

const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::int32:
      return "int32";
    case ElementType::int64:
      return "int64";
    case ElementType::float32:
      return "float32";
    case ElementType::float64:
      return "float64";
  }
  return "?";
}

class WatchedCommunicator final : public Communicator {
 public:
  WatchedCommunicator(Communicator& inner, std::shared_ptr<WatchState> state, std::int64_t id, std::vector<int> group)
      : inner_(inner), state_(std::move(state)), id_(id), group_(std::move(group)) {}
  /// Of a split: owns what it wraps.
  WatchedCommunicator(std::unique_ptr<Communicator> inner, std::shared_ptr<WatchState> state, std::int64_t id,
                      std::vector<int> group)
      : owned_(std::move(inner)), inner_(*owned_), state_(std::move(state)), id_(id), group_(std::move(group)) {}

  int rank() const noexcept override { return inner_.rank(); }
  int size() const noexcept override { return inner_.size(); }
  std::string name() const override { return inner_.name(); }

  void barrier() override {
    const Inside inside(*this, "barrier()", 0);
    inner_.barrier();
  }

  std::unique_ptr<Communicator> split_by_node() override {
    std::unique_ptr<Communicator> node;
    {
      const Inside inside(*this, "split_by_node()", 0);
      node = inner_.split_by_node();
    }
    const std::int32_t me = group_[static_cast<std::size_t>(rank())];
    std::vector<int> group;
    {
      const Inside inside(*this, "all_gather(4 bytes here)", 4);
      group = node->all_gather(std::span<const std::int32_t>(&me, 1));
    }
    return std::make_unique<WatchedCommunicator>(std::move(node), state_, state_->next_communicator(),
                                                 std::move(group));
  }

  bool reaches_devices() const noexcept override { return inner_.reaches_devices(); }

  [[noreturn]] void abort(ExitCode code) noexcept override {
    inner_.abort(code);
    std::_Exit(static_cast<int>(code));  // g++ 12 forgets that virtual functions do not return
  }

 protected:
  void settle(std::exception_ptr mine) override {
    state_->end_section(mine);
    agree(mine);
  }
  void broadcast_bytes(std::span<std::byte> data, int root) override {
    const Inside inside(*this, fmt::format("broadcast({} bytes from rank {})", data.size(), root), data.size());
    inner_.broadcast(data, root);
  }
  void all_reduce_bytes(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    const Inside inside(*this, fmt::format("all_reduce({} of {} {})", name_of(reduction), count, name_of(type)),
                        count * bytes_of(type));
    switch (type) {
      case ElementType::int32:
        return inner_.all_reduce(std::span(static_cast<std::int32_t*>(data), count), reduction);
      case ElementType::int64:
        return inner_.all_reduce(std::span(static_cast<std::int64_t*>(data), count), reduction);
      case ElementType::float32:
        return inner_.all_reduce(std::span(static_cast<float*>(data), count), reduction);
      case ElementType::float64:
        return inner_.all_reduce(std::span(static_cast<double*>(data), count), reduction);
    }
  }
  void all_reduce_device(void* data, std::size_t count, ElementType type, Reduction reduction) override {
    const Inside inside(*this, fmt::format("all_reduce({} of {} {} on GPUs)", name_of(reduction), count, name_of(type)),
                        count * bytes_of(type));
    switch (type) {
      case ElementType::int32:
        return inner_.all_reduce(DeviceSpan<std::int32_t>{static_cast<std::int32_t*>(data), count}, reduction);
      case ElementType::int64:
        return inner_.all_reduce(DeviceSpan<std::int64_t>{static_cast<std::int64_t*>(data), count}, reduction);
      case ElementType::float32:
        return inner_.all_reduce(DeviceSpan<float>{static_cast<float*>(data), count}, reduction);
      case ElementType::float64:
        return inner_.all_reduce(DeviceSpan<double>{static_cast<double*>(data), count}, reduction);
    }
  }
  std::vector<std::byte> all_gather_bytes(std::span<const std::byte> mine) override {
    const Inside inside(*this, fmt::format("all_gather({} bytes here)", mine.size()), mine.size());
    return inner_.all_gather(mine);
  }

 private:
  /// The time between going into a collective and coming out of it, by return or exception.
  class Inside {
   public:
    Inside(WatchedCommunicator& c, std::string operation, std::size_t bytes) : state_(*c.state_) {
      state_.enter(c.id_, ++c.sequence_, c.group_, std::move(operation), static_cast<std::int64_t>(bytes));
    }
    ~Inside() { state_.leave(); }
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;

   private:
    WatchState& state_;
  };

  std::unique_ptr<Communicator> owned_;
  Communicator& inner_;
  std::shared_ptr<WatchState> state_;
  std::int64_t id_;
  std::vector<int> group_;  ///< world ranks
  std::int64_t sequence_ = 0;
};

/// Not by stdio: the main thread may hang while it holds a stream's lock.
void say_to_stderr(const std::string& text) {
  const std::string line = text + "\n";
  static_cast<void>(::write(STDERR_FILENO, line.data(), line.size()) == 0);
}

}  // namespace

std::unique_ptr<Communicator> watch(Communicator& inner, std::shared_ptr<Board> board, WatchParams params) {
  if (!params.say) params.say = say_to_stderr;
  if (!params.end) params.end = [&inner](ExitCode code) { inner.abort(code); };
  std::vector<int> group(static_cast<std::size_t>(inner.size()));
  std::iota(group.begin(), group.end(), 0);
  auto state = std::make_shared<WatchState>(inner.rank(), inner.size(), std::move(board), std::move(params));
  return std::make_unique<WatchedCommunicator>(inner, std::move(state), 0, std::move(group));
}

}  // namespace moextract::comm
