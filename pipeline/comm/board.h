// What ranks tell each other beside the collectives: each one's last known state. It is read when a collective does not
// end, so it uses none: memory for ranks that are threads, small files in a folder that all hosts share for processes.
//
// Nothing is written while all is well. Who wants to know rings a bell; every rank's monitor answers within its polling
// interval by publishing its state. No answer means that the process is stopped, dead or cut off.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

namespace moextract::comm {

struct RankState {
  std::int64_t answer = 0;         ///< number of the last bell that this rank has heard
  bool waiting = false;            ///< inside a collective
  std::int64_t communicator = 0;   ///< 0: the world; others count split_by_node() calls
  std::int64_t sequence = 0;       ///< of the last collective begun on it, from 1
  std::int64_t bytes = 0;          ///< of this rank's buffer in it
  double seconds = 0;              ///< since it began
  std::int64_t progress = 0;       ///< note_progress() calls of the process
  std::int64_t ended_section = 0;  ///< sections of work that this rank has come to the end of, well or not
  std::string operation;           ///< "all_reduce(sum of 5 float64)"
};

class Board {
 public:
  virtual ~Board() = default;
  /// A number larger than that of every bell rung before. May be called by several ranks at once; bells may merge.
  virtual std::int64_t ring() = 0;
  /// Number of the last bell.
  virtual std::int64_t bell() = 0;
  virtual void publish(int rank, const RankState& state) = 0;
  /// Nothing if the rank has not published or what it wrote cannot be read.
  virtual std::optional<RankState> read(int rank) = 0;
  /// True for the first caller of all ranks: it speaks for all and ends the job.
  virtual bool claim_verdict() = 0;
  virtual bool has_verdict() = 0;
};

/// For ranks that are threads of one process.
std::shared_ptr<Board> make_memory_board(int ranks);

/// Files in `folder`, which create_board_folder() has made on one rank before. Throws UserError (storage) if this rank
/// does not see it. Files are overwritten in place, never renamed, so that network file systems show them fresh on each
/// opening.
std::shared_ptr<Board> open_folder_board(const std::filesystem::path& folder);
void create_board_folder(const std::filesystem::path& folder, int ranks);

}  // namespace moextract::comm
