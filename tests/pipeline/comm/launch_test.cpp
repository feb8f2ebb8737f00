// What is read from a launcher's environment: Open MPI's, a PMI launcher's, Slurm's, or none.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <optional>

#include "comm/backends.h"

namespace moextract::comm {
namespace {

/// Takes all launchers' variables away and puts them back afterwards.
class Launch : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PMI_SIZE",
                             "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}) {
      const char* value = std::getenv(name);
      saved_[name] = value == nullptr ? std::nullopt : std::optional<std::string>(value);
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (const auto& [name, value] : saved_) {
      value ? setenv(name.c_str(), value->c_str(), 1) : unsetenv(name.c_str());
    }
  }
  static void set(const char* name, const char* value) { setenv(name, value, 1); }

 private:
  std::map<std::string, std::optional<std::string>> saved_;
};

TEST_F(Launch, NoLauncher) {
  EXPECT_FALSE(launched_by_mpi());
  EXPECT_EQ(launched_tasks(), 0);
  EXPECT_NO_THROW(check_launch(*make_self()));
}

TEST_F(Launch, OpenMpi) {
  set("OMPI_COMM_WORLD_SIZE", "4");
  EXPECT_TRUE(launched_by_mpi());
  EXPECT_EQ(launched_tasks(), 4);
}

TEST_F(Launch, OpenMpiInsideSlurmIsNotTheStepOfItsDaemons) {
  set("OMPI_COMM_WORLD_SIZE", "8");
  set("SLURM_STEP_ID", "0");
  set("SLURM_STEP_NUM_TASKS", "2");
  set("SLURM_NTASKS", "2");
  EXPECT_EQ(launched_tasks(), 8);
}

TEST_F(Launch, PmiLauncher) {
  set("PMI_RANK", "0");
  set("PMI_SIZE", "3");
  EXPECT_TRUE(launched_by_mpi());
  EXPECT_EQ(launched_tasks(), 3);
}

TEST_F(Launch, SlurmStepWithPmix) {
  set("PMIX_RANK", "0");
  set("SLURM_STEP_ID", "1");
  set("SLURM_NTASKS", "6");
  EXPECT_TRUE(launched_by_mpi());
  EXPECT_EQ(launched_tasks(), 6);
}

TEST_F(Launch, SlurmStepOfFewerTasksThanTheJob) {
  set("SLURM_STEP_ID", "0");
  set("SLURM_NTASKS", "6");
  set("SLURM_STEP_NUM_TASKS", "2");
  EXPECT_EQ(launched_tasks(), 2);
  EXPECT_TRUE(launched_by_mpi());
  set("SLURM_STEP_NUM_TASKS", "1");  // srun --pty bash
  EXPECT_FALSE(launched_by_mpi());
}

TEST_F(Launch, SlurmBatchScriptOrAllocationShellIsNoLauncher) {
  set("SLURM_NTASKS", "6");
  EXPECT_EQ(launched_tasks(), 0);
  EXPECT_FALSE(launched_by_mpi());
  for (const char* step : {"4294967290", "4294967291", "4294967292"}) {  // interactive, batch, extern
    set("SLURM_STEP_ID", step);
    EXPECT_EQ(launched_tasks(), 0);
    EXPECT_FALSE(launched_by_mpi());
  }
}

TEST_F(Launch, NonsenseIsIgnored) {
  for (const char* value : {"", "-3", "four", "4x", "0"}) {
    set("OMPI_COMM_WORLD_SIZE", value);
    EXPECT_EQ(launched_tasks(), 0) << value;
  }
}

TEST_F(Launch, RanksThatDoNotSeeEachOtherEndTheRunWithTheFix) {
  set("OMPI_COMM_WORLD_SIZE", "4");
  try {
    check_launch(*make_self());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::distributed);
    const std::string text = error.what();
    for (const std::string& part :
         {std::string("4 tasks"), std::string("1 rank"), std::string("every process thinks it is rank 0"),
          std::string("srun --mpi=pmix"), std::string("mpirun"), MpiSession::version()}) {
      EXPECT_NE(text.find(part), std::string::npos) << "'" << part << "' is not in '" << text << "'";
    }
  }
}

TEST_F(Launch, CountsThatAgreePass) {
  set("OMPI_COMM_WORLD_SIZE", "3");
  run_threads(3, [](Communicator& ranks) { EXPECT_NO_THROW(check_launch(ranks)); });
  run_threads(2, [](Communicator& ranks) { EXPECT_THROW(check_launch(ranks), UserError); });
}

TEST(MpiVersion, IsOneLine) {
  EXPECT_FALSE(MpiSession::version().empty());
  EXPECT_EQ(MpiSession::version().find_first_of("\n\t"), std::string::npos);
}

}  // namespace
}  // namespace moextract::comm
