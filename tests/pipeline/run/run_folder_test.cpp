// Claims of run folders.
#include "run/run_folder.h"

#include "core/error.h"
#include "fixture.h"

namespace moextract::run {
namespace {

using nlohmann::json;

template <class F>
std::string conflict(F&& work, ExitCode code = ExitCode::conflict) {
  try {
    work();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST_F(RunTest, AFolderBelongsToOneConfiguration) {
  const fs::path folder = root_ / "run";
  const json settings{{"cluster", {{"k", 8}}}, {"seed", 1}}, stages{{"collect", "/store/collect-1"}};
  claim_run_folder(folder, settings, stages);
  EXPECT_TRUE(is_run_folder(folder));
  EXPECT_EQ(read_run_record(folder).at("stages"), stages);
  claim_run_folder(folder, settings, stages);  // again: fine
  const std::string before = read_text_file(folder / "run.json");
  const std::string message = conflict([&] {
    claim_run_folder(folder, {{"cluster", {{"k", 16}}}, {"seed", 1}}, stages);
  });
  EXPECT_TRUE(contains(message, "cluster.k (8 there, 16 now)")) << message;
  EXPECT_FALSE(contains(message, "seed")) << message;
  EXPECT_EQ(read_text_file(folder / "run.json"), before);
}

TEST_F(RunTest, AFolderOfAnEarlierVersionHadTheDefaultsOfNewKeys) {
  const fs::path folder = root_ / "run";
  claim_run_folder(folder, {{"cluster", {{"k", 8}}}}, json::object());
  const json defaults{{"cluster", {{"k", 4}, {"new", 0.5}}}, {"section", {{"key", nullptr}}}};
  claim_run_folder(folder, {{"cluster", {{"k", 8}, {"new", 0.5}}}, {"section", {{"key", nullptr}}}}, json::object(),
                   defaults);
  const std::string message = conflict([&] {
    claim_run_folder(folder, {{"cluster", {{"k", 8}, {"new", 0.7}}}, {"section", {{"key", nullptr}}}}, json::object(),
                     defaults);
  });
  EXPECT_TRUE(contains(message, "cluster.new (0.5 there, 0.7 now)")) << message;
}

TEST_F(RunTest, ManyDifferencesAreCounted) {
  json a, b;
  for (int i = 0; i < 9; ++i) a["key" + std::to_string(i)] = i, b["key" + std::to_string(i)] = i + 1;
  claim_run_folder(root_ / "run", a, json::object());
  EXPECT_TRUE(contains(conflict([&] { claim_run_folder(root_ / "run", b, json::object()); }), "and 4 more"));
}

TEST_F(RunTest, ForeignAndDamagedFoldersAreLeftAlone) {
  write(root_ / "mine.txt", "not yours");
  EXPECT_TRUE(contains(conflict([&] { claim_run_folder(root_, {}, {}); }), "not empty"));
  EXPECT_FALSE(is_run_folder(root_));
  const fs::path run = root_ / "run";
  fs::create_directories(run);
  for (const char* damage : {"", "{\"settings\": {", "[]", "{}"}) {
    write(run / "run.json", damage);
    EXPECT_TRUE(contains(conflict([&] { claim_run_folder(run, {}, {}); }), "damaged")) << damage;
    EXPECT_TRUE(contains(conflict([&] { read_run_record(run); }, ExitCode::input), "damaged")) << damage;
  }
  EXPECT_EQ(read_text_file(run / "run.json"), "{}");
}

}  // namespace
}  // namespace moextract::run
