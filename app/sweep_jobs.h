// The Slurm jobs of a sweep, in the folder `slurm` of the sweep's own.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "slurm/cluster.h"

namespace moextract::app {

struct SweepJob {
  std::string id;     ///< of the array
  std::string array;  ///< "runs-0", "shared-1-0"
};

class SweepJobs {
 public:
  explicit SweepJobs(const std::filesystem::path& sweep_folder);

  const std::filesystem::path& root() const { return root_; }
  std::filesystem::path tasks(const std::string& array) const { return root_ / (array + ".tasks"); }
  std::filesystem::path script(const std::string& array) const { return root_ / (array + ".sbatch"); }
  /// Of the last submission.
  std::vector<SweepJob> read() const;
  void write(const std::vector<SweepJob>& jobs) const;
  /// Task -> its job, for those that are queued or running.
  std::map<std::string, slurm::QueuedJob> active() const;

 private:
  std::filesystem::path root_;
};

}  // namespace moextract::app
