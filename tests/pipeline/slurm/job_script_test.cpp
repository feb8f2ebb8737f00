// Job scripts: what is asked for and what is run, in words that bash and sbatch understand.
#include "slurm/job_script.h"

#include "core/file.h"
#include "scratch.h"
#include "slurm/program.h"

namespace moextract::slurm {
namespace {

class JobScript : public SlurmTest {
 protected:
  JobRequest request() const {
    JobRequest request;
    request.name = "moextract-q";
    request.nodes = 4;
    request.time = "04:00:00";
    request.output = "/runs/q.slurm/log";
    request.launcher = {"srun", "--mpi=pmix"};
    request.program = {"/opt/my programs/moextract"};
    request.arguments = {"run", "/configs/q.yaml", "--set", "run.name=it's mine"};
    request.state = "/runs/q.slurm";
    return request;
  }
};

TEST_F(JobScript, TheTemplateIsTheFileOfTheTree) {
  EXPECT_EQ(job_template(), read_text_file(fs::path(MOEXTRACT_SOURCE_DIR) / "slurm/job.sbatch"));
}

TEST_F(JobScript, AsksForWhatIsGivenAndNothingElse) {
  JobRequest r = request();
  r.gpus_per_node = 8;
  r.gpu_type = "h200";
  r.partition = "gpu";
  r.array = "0-9%3";
  r.dependency = "afterok:12";
  r.sbatch_options = {"--constraint=ib"};
  const std::string script = job_script(r, job_template());
  for (const char* line : {"#SBATCH --nodes=4\n", "#SBATCH --gpus-per-node=h200:8\n", "#SBATCH --partition=gpu\n",
                           "#SBATCH --time=04:00:00\n", "#SBATCH --array=0-9%3\n", "#SBATCH --dependency=afterok:12\n",
                           "#SBATCH --signal=USR2@180\n", "#SBATCH --open-mode=append\n", "#SBATCH --requeue\n",
                           "#SBATCH --constraint=ib\n", "#SBATCH --output=/runs/q.slurm/log\n"})
    EXPECT_TRUE(contains(script, line)) << line;
  EXPECT_FALSE(contains(script, "--account"));
  EXPECT_FALSE(contains(job_script(request(), job_template()), "--gpus"));
  EXPECT_TRUE(script.starts_with("#!/usr/bin/env bash\n")) << "sbatch looks for the interpreter in the first line";
  // sbatch stops looking for its lines at the first command.
  EXPECT_LT(script.rfind("#SBATCH"), script.find("set -uo pipefail"));
}

TEST_F(JobScript, WordsReachTheProgramAsTheyAre) {
  const std::string script = job_script(request(), job_template());
  const std::size_t from = script.find("# >>> settings"), to = script.find("# <<< settings");
  write("settings.sh",
        script.substr(from, to - from) + "printf '%s\\n' \"${program[@]}\" \"${arguments[@]}\" \"$state\"\n");
  EXPECT_EQ(run_program({"bash", "-u", (root_ / "settings.sh").string()}).out,
            "/opt/my programs/moextract\nrun\n/configs/q.yaml\n--set\nrun.name=it's mine\n/runs/q.slurm\n");
  EXPECT_EQ(run_program({"bash", "-n", write("job.sbatch", script).string()}).code, 0);
}

TEST_F(JobScript, ALineEndCannotSmuggleInAnotherLine) {
  JobRequest r = request();
  r.partition = "a\n#SBATCH --nodes=100";
  EXPECT_TRUE(contains(message_of([&] { job_script(r, job_template()); }, ExitCode::config), "holds a line end"));
}

TEST_F(JobScript, ATemplateWithoutMarksIsRefused) {
  EXPECT_TRUE(
      contains(message_of([&] { job_script(request(), "#!/bin/bash\n"); }, ExitCode::config), "# >>> resources"));
}

TEST_F(JobScript, OneTaskAGpuOrASocket) {
  SiteParams site;
  site.sockets_per_node = 2;
  site.cores_per_node = 64;
  EXPECT_EQ(job_for(site).tasks_per_node, 2);
  EXPECT_EQ(job_for(site).cpus_per_task, 32);
  site.gpus_per_node = 8;
  EXPECT_EQ(job_for(site).tasks_per_node, 8);
  EXPECT_EQ(job_for(site).cpus_per_task, 8);
  site.cores_per_node = 0;
  EXPECT_EQ(job_for(site).cpus_per_task, 1) << "unknown: one for each task";
}

}  // namespace
}  // namespace moextract::slurm
