// Running stages: order, reuse, damage, errors of one rank, requests to stop.
#include "run/stage_graph.h"

#include <fmt/format.h>

#include <atomic>

#include "comm/backends.h"
#include "core/error.h"
#include "fixture.h"
#include "run/artefact_lock.h"
#include "run/store_survey.h"

namespace moextract::run {
namespace {

class GraphTest : public RunTest {
 protected:
  /// a <- b <- c, and d on its own; each writes its id into its folder and counts its calls.
  StageGraph graph() {
    StageGraph graph(root_ / "store");
    const std::vector<std::pair<std::string, std::vector<std::string>>> nodes{
        {"a", {}}, {"d", {}}, {"b", {"a"}}, {"c", {"b"}}};
    for (const auto& [id, needs] : nodes) {
      graph.add({id, spec(id), needs, "",
                 [this, id = id](Context& context, const fs::path& folder) {
                   if (context.comm.is_root()) {
                     order_ += id;
                     write_file_atomically(folder / "data", id);
                   }
                   if (during_) during_(id, context);
                   return nlohmann::json{{"by", id}};
                 },
                 [this, id = id](const nlohmann::json& counts, const fs::path& folder) {
                   if (accept_) accept_(id, counts, folder);
                 }});
    }
    return graph;
  }
  std::vector<StageOutcome> run(int ranks, const std::vector<std::string>& wanted) {
    std::vector<StageOutcome> outcomes;
    const StageGraph stages = graph();
    comm::run_threads(ranks, [&](comm::Communicator& comm) {
      Workers workers(1);
      Context context{comm, workers, log_};
      const auto mine = stages.execute(wanted, context, "test");
      if (comm.is_root()) outcomes = mine;
    });
    return outcomes;
  }

  std::string order_;
  std::function<void(const std::string&, Context&)> during_;
  std::function<void(const std::string&, const nlohmann::json&, const fs::path&)> accept_;
  std::shared_ptr<spdlog::logger> log_ = log();
};

TEST_F(GraphTest, MakesWhatIsNeededInOrderAndNothingElse) {
  EXPECT_EQ(run(1, {"c"}).size(), 3u);
  EXPECT_EQ(order_, "abc");
}

TEST_F(GraphTest, FindsWhatIsThere) {
  run(3, {"b"});
  order_.clear();
  const auto outcomes = run(2, {"c", "d"});
  EXPECT_EQ(order_, "dc");
  ASSERT_EQ(outcomes.size(), 4u);
  EXPECT_TRUE(outcomes[0].reused);
  EXPECT_FALSE(outcomes[1].reused);
  EXPECT_TRUE(outcomes[2].reused);
  EXPECT_FALSE(outcomes[3].reused);
  order_.clear();
  run(1, {"a", "b", "c", "d"});
  EXPECT_EQ(order_, "");
}

TEST_F(GraphTest, ClearsAwayTheLockOfAMakerThatDiedAfterItsWork) {
  run(1, {"a", "d"});
  const fs::path left = lock_path(graph().folder("a")), held = lock_path(graph().folder("d"));
  const auto write_lock = [](const fs::path& file, std::uint64_t started) {
    const LockHolder me = ArtefactLock::this_process();
    write_file_atomically(
        file, fmt::format(R"({{"host":"{}","job":"","token":"t","pid":{},"started":{},"pid_space":{}}})", me.host,
                          me.pid, started, me.pid_space));
  };
  write_lock(left, ArtefactLock::this_process().started - 1);  // the number of a process that is gone
  write_lock(held, ArtefactLock::this_process().started);
  order_.clear();
  run(2, {"a", "d"});
  EXPECT_EQ(order_, "") << "nothing is made again";
  EXPECT_FALSE(fs::exists(left));
  EXPECT_TRUE(fs::exists(held)) << "a living process may hold it";
}

TEST_F(GraphTest, MakesADamagedArtefactAgainAndSaysWhy) {
  run(2, {"c"});
  order_.clear();
  fs::resize_file(graph().folder("b") / "manifest.json", 20);
  run(2, {"c"});
  EXPECT_EQ(order_, "b");
  EXPECT_TRUE(contains(said_.str(), "is damaged")) << said_.str();
  EXPECT_TRUE(ArtefactStore::verify(graph().folder("b")).empty());
}

TEST_F(GraphTest, AnErrorOfOneRankEndsAllAndKeepsWhatIsFinished) {
  during_ = [](const std::string& id, Context& context) {
    if (id == "b" && context.comm.rank() == 2) fail(ExitCode::numerics, "not finite");
  };
  try {
    run(3, {"c"});
    FAIL();
  } catch (const comm::RemoteFailure& error) {
    EXPECT_EQ(error.rank(), 2);
    EXPECT_EQ(error.code(), ExitCode::numerics);
    EXPECT_STREQ(error.what(), "rank 2: not finite");
  }
  EXPECT_EQ(graph().state("a"), ArtefactState::done);
  EXPECT_EQ(graph().state("b"), ArtefactState::begun);
  EXPECT_FALSE(fs::exists(lock_path(graph().folder("b")))) << "a lock is released when its stage fails";
  during_ = nullptr;
  order_.clear();
  run(3, {"c"});
  EXPECT_EQ(order_, "bc");
}

TEST_F(GraphTest, WritesTheManifestOfTheRun) {
  run(3, {"a"});
  const nlohmann::json manifest = graph().manifest("a");
  EXPECT_EQ(manifest["ranks"], 3);
  EXPECT_EQ(manifest["counts"]["by"], "a");
  EXPECT_EQ(manifest["program_version"], "test");
}

TEST_F(GraphTest, AFinishedArtefactMayBeRefused) {
  run(2, {"b"});
  order_.clear();
  for (const int ranks : {1, 3}) {
    std::string folder;
    accept_ = [&](const std::string& id, const nlohmann::json& counts, const fs::path& place) {
      EXPECT_EQ(counts["by"], id);
      if (id != "b") return;
      folder = place.string();
      fail(ExitCode::input, "too many");
    };
    try {
      run(ranks, {"c"});
      FAIL();
    } catch (const UserError& error) {
      EXPECT_EQ(error.code(), ExitCode::input);
      EXPECT_NE(std::string(error.what()).find("too many"), std::string::npos);
    }
    EXPECT_EQ(folder, graph().folder("b").string());
    EXPECT_EQ(order_, "") << "nothing is made";
    EXPECT_EQ(graph().state("b"), ArtefactState::done) << "nor taken away";
  }
  accept_ = nullptr;
  run(1, {"c"});
  EXPECT_EQ(order_, "c");
}

TEST_F(GraphTest, ALockTakenOverIsAConflict) {
  during_ = [this](const std::string& id, Context&) {
    write_file_atomically(lock_path(graph().folder(id)),
                          R"({"host":"x","job":"","token":"t","pid":1,"started":1,"pid_space":1})");
  };
  try {
    run(1, {"a"});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::conflict);
  }
  EXPECT_EQ(graph().state("a"), ArtefactState::begun);
}

TEST_F(GraphTest, AReadOnlyPlaceIsAStorageError) {
  write_file_atomically(root_ / "store", "a file where the store should be");
  try {
    run(2, {"a"});
    FAIL();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::storage) << error.what();
  }
}

}  // namespace
}  // namespace moextract::run
