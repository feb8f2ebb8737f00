// What Slurm's programs say, by stand-ins that say it.
#include "slurm/cluster.h"

#include "scratch.h"

namespace moextract::slurm {
namespace {

using Cluster = SlurmTest;

TEST_F(Cluster, WithoutSlurmItIsSaidWhatToDo) {
  hide_others();
  EXPECT_TRUE(contains(message_of([] { need_slurm(); }, ExitCode::distributed), "no sbatch in PATH"));
  EXPECT_TRUE(contains(message_of([] { submit("job.sbatch"); }, ExitCode::distributed), "moextract run works without"));
  EXPECT_TRUE(queue({"1"}).empty());
  EXPECT_TRUE(partitions().empty());
}

TEST_F(Cluster, TheNumberOfAJobComesBack) {
  stand_in("sbatch", "[ \"$1\" = --parsable ] && echo '12;tiger'");
  EXPECT_EQ(submit("job.sbatch"), "12");
}

TEST_F(Cluster, ARefusalIsHandedOnWithThePartitionsThereAre) {
  stand_in("sbatch", "echo 'sbatch: error: invalid partition specified: gpus' >&2; exit 1");
  stand_in("sinfo", "echo 'gpu*|4|64|2-00:00:00|gpu:h200:8'; echo 'cpu|10|128|infinite|(null)'");
  const std::string message = message_of([] { submit("job.sbatch"); }, ExitCode::distributed);
  EXPECT_TRUE(contains(message, "invalid partition specified: gpus; this cluster has gpu, cpu: did you mean gpu?"))
      << message;
}

TEST_F(Cluster, PartitionsOfSeveralLinesAreOne) {
  stand_in(
      "sinfo",
      "echo 'gpu*|4|64|2-00:00:00|gpu:h200:8'; echo 'gpu*|2|96|2-00:00:00|(null)'; echo 'cpu|10|128|infinite|(null)'");
  const std::vector<Partition> all = partitions();
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].name, "gpu");
  EXPECT_TRUE(all[0].is_default);
  EXPECT_EQ(all[0].nodes, 6);
  EXPECT_EQ(all[0].cpus_per_node, 96);
  EXPECT_EQ(all[0].seconds, 2 * 86400);
  EXPECT_EQ(all[0].gpus, "gpu:h200:8");
  EXPECT_EQ(all[1].seconds, -1);
}

TEST_F(Cluster, TheQueueIsRead) {
  stand_in("squeue", "echo '12_0|RUNNING|None|n[1-2]|3:10|4:00:00'; echo '12_1|PENDING|Priority||0:00|4:00:00'");
  const std::vector<QueuedJob> jobs = queue({"12"});
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].id, "12_0");
  EXPECT_EQ(jobs[0].nodes, "n[1-2]");
  EXPECT_EQ(jobs[1].state, "PENDING");
  EXPECT_EQ(jobs[1].reason, "Priority");
  stand_in("squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
  EXPECT_TRUE(queue({"12"}).empty());
  stand_in("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller (connect failure)' >&2; exit 1");
  EXPECT_TRUE(contains(message_of([] { queue({"12"}); }, ExitCode::distributed), "Unable to contact slurm controller"));
}

TEST_F(Cluster, TheLargestArray) {
  stand_in("scontrol", "echo 'MaxArraySize            = 501'; echo 'MaxJobCount = 10000'");
  EXPECT_EQ(max_array_size(), 501);
  stand_in("scontrol", "exit 1");
  EXPECT_EQ(max_array_size(), 1001);
}

TEST_F(Cluster, KindsOfMpi) {
  stand_in("srun",
           "printf 'MPI plugin types are...\\n\\tpmi2\\n\\tnone\\n\\tpmix\\nspecific pmix plugin versions available: "
           "pmix_v4\\n' >&2");
  EXPECT_EQ(mpi_kinds(), (std::vector<std::string>{"none", "pmi2", "pmix", "pmix_v4"}));
}

TEST(Time, IsReadAsSlurmReadsIt) {
  EXPECT_EQ(seconds_of("30"), 1800);
  EXPECT_EQ(seconds_of("30:15"), 1815);
  EXPECT_EQ(seconds_of("04:00:00"), 4 * 3600);
  EXPECT_EQ(seconds_of("2-03"), 2 * 86400 + 3 * 3600);
  EXPECT_EQ(seconds_of("2-03:30"), 2 * 86400 + 3 * 3600 + 1800);
  EXPECT_EQ(seconds_of("1-00:00:01"), 86401);
  for (const char* wrong : {"", "infinite", "UNLIMITED", "4h", "1:2:3:4", "::"})
    EXPECT_EQ(seconds_of(wrong), -1) << wrong;
}

}  // namespace
}  // namespace moextract::slurm
