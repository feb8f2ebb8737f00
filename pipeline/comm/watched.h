// A communicator that notices when a collective does not end, and when a rank leaves without the others' knowledge.
// It wraps any back end.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "comm/board.h"
#include "comm/communicator.h"

namespace moextract::comm {

struct WatchParams {
  /// Seconds that a rank may wait in one collective for ranks that make no progress; 0: for ever.
  double deadline = 600;
  /// Seconds that a rank which failed alone gives the others to come to the end of the same section of work.
  double grace = 4;
  /// Seconds between two looks of the monitor thread; an answer to a bell may take so long.
  double poll = 0.5;
  /// Seconds without an answer after which a rank counts as stopped, dead or cut off.
  double silence = 5;
  /// Where the lines go; empty: standard error.
  std::function<void(const std::string&)> say;
  /// How the job ends; empty: the wrapped communicator's abort(). For tests.
  std::function<void(ExitCode)> end;
};

/// Wraps `inner`, which must outlive the result. Not collective, but made on all ranks. A thread of its own watches:
///
/// - Deadline. A rank that waits in a collective looks after the ranks that have not come. Those that neither come nor
///   begin another collective nor call note_progress() for the deadline's time, or that give no sign of life at its
///   end, make it a hang: one line a rank says what it waits in (operation, sequence number, bytes, seconds), one line
///   which ranks came and which did not, and the job ends with ExitCode::distributed. A rank that works for hours while
///   others wait is no hang as long as it notes progress.
/// - guard(). A rank whose work threw looks whether the others come to the end of the same section within the grace. If
///   they do, all agree as usual; else they wait for this rank somewhere else, so it says the cause, once for all
///   ranks, and ends the job with the error's exit code.
///
/// `board` may be null: then the deadline is the only knowledge, and guard() trusts the others to come.
std::unique_ptr<Communicator> watch(Communicator& inner, std::shared_ptr<Board> board, WatchParams params);

/// Any thread, any time, cheap: this process is not hanging. Called wherever long work without collectives advances.
void note_progress() noexcept;
std::int64_t noted_progress() noexcept;

}  // namespace moextract::comm
