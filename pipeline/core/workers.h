// A fixed team of threads that deals numbered units of work. A unit is always done by ONE thread with single-threaded
// kernels, so its result does not depend on how many threads or ranks there are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace moextract {

class Workers {
 public:
  /// `threads` >= 1, the calling thread included. `at_start` runs once in every worker thread (and here, in the caller),
  /// e.g. to tell a numeric library to stay single-threaded.
  explicit Workers(int threads, std::function<void()> at_start = {});
  ~Workers();
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  int size() const;
  /// Calls `work(unit, worker)` for units 0 .. count-1, worker in 0 .. size()-1, units started in ascending order.
  /// Blocks until all are done. The exception of the smallest failing unit is rethrown; later units may not have run.
  void for_each(std::int64_t count, const std::function<void(std::int64_t unit, int worker)>& work);

 private:
  struct Team;
  std::unique_ptr<Team> team_;
};

/// Cores this process may use (its affinity mask), at least 1.
int usable_cores();

}  // namespace moextract
