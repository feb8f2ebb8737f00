#include "slurm/site.h"

#include <cstdlib>

#include "config/reader.h"

namespace moextract::slurm {

config::FieldList site_fields(SiteParams& p) {
  config::FieldList list;
  config::Section site = list.root();
  site.add("partition", &p.partition, "Partition of jobs; empty: the cluster's default");
  site.add("cpu_partition", &p.cpu_partition, "Partition of stages that need no GPU; empty: partition");
  site.add("account", &p.account, "Account that is charged; empty: the user's default");
  site.add("qos", &p.qos, "Quality of service; empty: the default");
  site.add("gpu_type", &p.gpu_type, "Kind of GPU, as in --gpus-per-node=KIND:4; empty: any");
  site.add("gpus_per_node", &p.gpus_per_node, "GPUs that a job takes of each node, one task each; 0: CPUs only")
      .at_least(0);
  site.add("sockets_per_node", &p.sockets_per_node, "Tasks of a node where there are no GPUs").at_least(1);
  site.add("cores_per_node", &p.cores_per_node, "Cores shared by the tasks of a node; 0: one for each task")
      .at_least(0);
  site.add("memory", &p.memory, "Memory of a node, as in 64G; empty: the cluster's default");
  site.add("time", &p.time, "Time limit of a job where --time is not given");
  site.add("warning", &p.warning, "How long before the time limit the job is told to save and go on in another one")
      .at_least(0)
      .in("seconds");
  site.add("tries", &p.tries, "Starts in a row without progress after which a job gives up").at_least(1);
  site.add("launcher", &p.launcher, "Starts the ranks");
  site.add("cpu_bind", &p.cpu_bind, "Binding of ranks to CPUs (srun --cpu-bind); empty: the cluster's default");
  site.add("preamble", &p.preamble, "Shell lines before the program: module load, source venv/bin/activate, export");
  site.add("container_command", &p.container_command, "Runs the program in the image that --container names");
  site.add("sbatch_options", &p.sbatch_options, "More options of sbatch, as in --constraint=ib");
  site.add("array_throttle", &p.array_throttle, "Runs of a sweep that are active at a time").at_least(1);
  return list;
}

SiteParams read_site(std::filesystem::path file) {
  SiteParams params;
  if (file.empty()) {
    const char* named = std::getenv("MOEXTRACT_SITE");
    if (named == nullptr || *named == '\0') return params;
    file = named;
  }
  config::FieldList fields = site_fields(params);
  config::read_yaml(file, fields);
  config::check_required(fields, file);
  return params;
}

}  // namespace moextract::slurm
