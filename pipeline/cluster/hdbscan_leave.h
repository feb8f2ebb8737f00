// How HDBSCAN is left before its end: all ranks together, soon after one of them was asked to.
#pragma once

#include <cstdint>
#include <functional>

#include "comm/communicator.h"
#include "core/error.h"
#include "core/workers.h"

namespace moextract::cluster::hdbscan {

/// Thrown on all ranks, by each for itself, when one was asked to stop. Nothing is handed out to go on from.
class Stopped : public UserError {
 public:
  Stopped();
};

/// Asks a rank's `should_stop`, which is set on all ranks or on none (then nothing is asked and nothing sent), and
/// settles the answers over the ranks.
class Leave {
 public:
  /// Both outlive this.
  Leave(const std::function<bool()>& should_stop, comm::Communicator& comm) : should_stop_(should_stop), comm_(comm) {}

  /// Collective. Throws Stopped if any rank was asked to stop.
  void ask() const;

  /// Collective. Workers::for_each over this rank's `count` units, in rounds that are followed by ask(). A unit costs
  /// some `unit_cost` multiply-adds; a round lasts about a second at most, or one unit a worker.
  void for_each(Workers& workers, std::int64_t count, std::int64_t unit_cost,
                const std::function<void(std::int64_t unit, int worker)>& work) const;

  /// Collective. Runs `work(pause)`, in which this rank passes over `rows` rows of its own and calls pause() after
  /// every `each` of them; each pause is an ask(). Ranks with fewer rows, and those that are done, keep the others
  /// company; an error of one rank's work ends all of them, as by Communicator::together.
  void over_rows(std::int64_t rows, std::int64_t each,
                 const std::function<void(const std::function<void()>& pause)>& work) const;

 private:
  const std::function<bool()>& should_stop_;
  comm::Communicator& comm_;
};

}  // namespace moextract::cluster::hdbscan
