// The file that describes a sweep: a base configuration and what is varied over it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/field_list.h"
#include "sweep/constraint.h"

namespace moextract::sweep {

/// One key and its value, as `--set KEY=VALUE` takes it; input paths are absolute.
struct Setting {
  std::string key, value;
  bool operator==(const Setting&) const = default;
};
using Settings = std::vector<Setting>;

/// A key of the grid and its values, in the order of the file.
struct GridKey {
  std::string key;
  std::vector<std::string> values;
};

/// A key that is drawn: one of `choices` or, where there are none, a number of [low, high].
struct DrawnKey {
  std::string key;
  std::vector<std::string> choices;
  double low = 0, high = 0;
  bool logarithmic = false;  ///< uniform in the number's logarithm
  bool whole = false;        ///< whole numbers, both ends among them
};

struct SweepFile {
  std::filesystem::path file;    ///< as given
  std::filesystem::path base;    ///< configuration of all runs
  std::string name;              ///< default: the file's name without extension
  std::filesystem::path folder;  ///< of records, logs and tables; default: runs/sweeps/<name>
  Settings fixed;                ///< `set`: the same in all runs
  std::vector<GridKey> grid;
  std::vector<Settings> list;
  std::int64_t draws = 0;  ///< random.count
  std::uint64_t seed = 1;  ///< random.seed
  std::vector<DrawnKey> drawn;
  std::vector<Constraint> constraints;
  std::vector<std::string> seeds;  ///< keys whose values are repetitions of one setting
  int jobs = 1;                    ///< runs side by side
  int threads = 0;                 ///< of a run; 0: the cores divided by jobs
  std::string hash;                ///< of the file's text
};

/// Reads and checks `file`; every value is tried on `fields` (whose values are changed by that), so that a wrong one is
/// found before any run. Throws UserError (config) that names file, line, column and key.
SweepFile read_sweep_file(const std::filesystem::path& file, config::FieldList& fields);

/// The combinations that the file asks for: each point of the grid with each entry of the list with each draw. The
/// constraints are not applied yet. A draw depends on random.seed, its number and its key alone: a larger count keeps
/// the first ones. Throws UserError (config) where there are more than 100,000.
std::vector<Settings> expand(const SweepFile& file);

}  // namespace moextract::sweep
