// What is special about one cluster: names of partitions and accounts, kinds of GPU, lines that load modules. One file,
// read once, so that no job script needs editing.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "config/field_list.h"

namespace moextract::slurm {

struct SiteParams {
  std::string partition, account, qos;
  std::string cpu_partition;  ///< of stages that need no GPU; empty: `partition`
  std::string gpu_type;
  std::int64_t gpus_per_node = 0;
  std::int64_t sockets_per_node = 1;
  std::int64_t cores_per_node = 0;
  std::string memory, time = "01:00:00";
  std::int64_t warning = 180;
  std::int64_t tries = 3;
  std::string launcher = "srun --mpi=pmix --kill-on-bad-exit=1";
  std::string cpu_bind = "cores";
  std::vector<std::string> preamble;
  std::string container_command = "apptainer exec --nv";
  std::vector<std::string> sbatch_options;
  std::int64_t array_throttle = 20;
};

config::FieldList site_fields(SiteParams& params);

/// Reads `file`; an empty path: the one that MOEXTRACT_SITE names or, where it is not set, the defaults. Throws
/// UserError (config).
SiteParams read_site(std::filesystem::path file);

}  // namespace moextract::slurm
