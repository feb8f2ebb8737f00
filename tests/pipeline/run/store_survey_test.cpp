// What clean takes and what it leaves.
#include "run/store_survey.h"

#include "core/error.h"
#include "fixture.h"
#include "run/artefact_lock.h"
#include "run/run_folder.h"

namespace moextract::run {
namespace {

TEST_F(RunTest, CleanTakesWhatNoRunRefersTo) {
  const fs::path place = root_ / "runs" / "artefacts";
  const ArtefactStore store(place);
  const fs::path used = make(store, spec("collect", 1)), beside = make(store, spec("collect", 2)),
                 unused = make(store, spec("collect", 3)), locked = make(store, spec("collect", 4)),
                 begun = store.begin(spec("collect", 5));
  write(begun / "half", "x");
  fs::create_directories(place / "my-pictures");
  // One run somewhere else, registered; one beside the store, not registered; one that is gone.
  write_run_record(root_ / "elsewhere", {}, {{"collect", used.string()}});
  register_run(place, root_ / "elsewhere");
  register_run(place, root_ / "elsewhere");
  write_run_record(root_ / "runs" / "near", {}, {{"collect", "other/way/" + beside.filename().string()}});
  register_run(place, root_ / "gone");
  const auto logger = log();
  const ArtefactLock lock(lock_path(locked), *logger, [] { return true; });
  const CleanPlan plan = plan_clean(place);
  EXPECT_EQ(plan.runs.size(), 2u);
  ASSERT_EQ(plan.unused.size(), 2u);
  EXPECT_EQ(plan.leftover.size(), 1u);
  std::uintmax_t bytes = 0;
  for (const StoredArtefact& artefact : plan.unused) bytes += artefact.bytes;
  EXPECT_GT(bytes, 12u);
  EXPECT_TRUE(fs::exists(unused)) << "a plan touches nothing";
  clean(plan);
  EXPECT_FALSE(fs::exists(unused));
  EXPECT_FALSE(fs::exists(begun));
  for (const fs::path& kept : {used, beside, locked, place / "my-pictures"}) EXPECT_TRUE(fs::exists(kept)) << kept;
  EXPECT_EQ(plan_clean(place).unused.size(), 0u);
}

TEST_F(RunTest, CleanStopsAtARecordThatItCannotRead) {
  const fs::path place = root_ / "runs" / "artefacts";
  make(ArtefactStore(place), spec());
  fs::create_directories(root_ / "runs" / "broken");
  write(root_ / "runs" / "broken" / "run.json", "{");
  EXPECT_THROW(plan_clean(place), UserError);
}

}  // namespace
}  // namespace moextract::run
