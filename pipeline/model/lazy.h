// A value made when it is first asked for, once, whichever thread asks.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

namespace moextract::model {

template <typename T>
class Lazy {
 public:
  /// The value; `make()` gives it the first time. Threads that ask meanwhile wait.
  template <typename Make>
  const T& get(const Make& make) const {
    std::call_once(state_->once, [&] { state_->value.emplace(make()); });
    return *state_->value;
  }

 private:
  struct State {
    std::once_flag once;
    std::optional<T> value;
  };
  std::unique_ptr<State> state_ = std::make_unique<State>();
};

}  // namespace moextract::model
