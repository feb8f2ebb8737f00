// Artefacts: address, life and damage.
#include "run/artefact.h"
#include "core/hash.h"
#include "fixture.h"
#include "run/explain.h"

namespace moextract::run {
namespace {

TEST_F(RunTest, TheKeyDependsOnEverythingThatDeterminesTheContentAndOnNothingElse) {
  const ArtefactSpec base = spec();
  EXPECT_EQ(base.key().size(), 32u);
  EXPECT_EQ(base.key(), spec().key());
  EXPECT_EQ(base.folder_name(), "collect-" + base.key().substr(0, 16));
  const nlohmann::json all{{"stage", base.stage},
                           {"algorithm_version", base.algorithm_version},
                           {"settings", base.settings},
                           {"inputs", base.inputs}};
  EXPECT_EQ(base.key(), hash_text(all.dump()));
  ArtefactSpec other = base;
  other.stage = "cluster";
  EXPECT_NE(other.key(), base.key());
  other = base;
  other.algorithm_version = 2;
  EXPECT_NE(other.key(), base.key());
  EXPECT_NE(spec("collect", 9).key(), base.key());
  other = base;
  other.inputs["model"] = "abd";
  EXPECT_NE(other.key(), base.key());
  other = base;
  other.settings = {{"seed", 1}, {"cluster", {{"k", 8}}}};  // another order of the same
  EXPECT_EQ(other.key(), base.key());
}

TEST_F(RunTest, AnArtefactIsDoneOnceFinished) {
  const ArtefactStore store(root_);
  EXPECT_EQ(store.state(spec()), ArtefactState::absent);
  const fs::path folder = store.begin(spec());
  EXPECT_EQ(store.state(spec()), ArtefactState::begun);
  write(folder / "left.txt.part.host.12", "unfinished");
  make(store, spec());
  EXPECT_EQ(store.state(spec()), ArtefactState::done);
  EXPECT_EQ(ArtefactStore::state_of(folder), ArtefactState::done);
  EXPECT_FALSE(fs::exists(folder / "left.txt.part.host.12"));
  const nlohmann::json manifest = store.manifest(spec());
  EXPECT_EQ(manifest["files"]["a.txt"]["bytes"], 5);
  EXPECT_EQ(manifest["files"]["a.txt"]["xxh3_128"], hash_text("first"));
  EXPECT_EQ(manifest["files"].size(), 2u);
  EXPECT_EQ(manifest["key"], spec().key());
  EXPECT_EQ(manifest["counts"]["rows"], 7);
  EXPECT_EQ(manifest["hosts"][0], "here");
  EXPECT_TRUE(ArtefactStore::verify(folder).empty());
}

/// Damage done to a finished artefact; what state() and verify() say of it.
struct Damage {
  const char* name;
  void (*act)(const fs::path&);
  ArtefactState state;
  const char* verified;
};

class DamagedArtefact : public RunTest, public ::testing::WithParamInterface<Damage> {};

TEST_P(DamagedArtefact, IsFoundAndTakenAway) {
  const ArtefactStore store(root_);
  const fs::path folder = make(store, spec());
  GetParam().act(folder);
  std::string why;
  EXPECT_EQ(store.state(spec(), &why), GetParam().state) << why;
  const std::vector<std::string> wrong = ArtefactStore::verify(folder);
  ASSERT_FALSE(wrong.empty());
  EXPECT_TRUE(contains(wrong.front(), GetParam().verified)) << wrong.front();
  ArtefactStore::invalidate(folder);
  EXPECT_EQ(store.state(spec()), ArtefactState::begun);
  make(store, spec());
  EXPECT_EQ(store.state(spec()), ArtefactState::done);
  EXPECT_TRUE(ArtefactStore::verify(folder).empty());
}

INSTANTIATE_TEST_SUITE_P(
    All, DamagedArtefact,
    ::testing::Values(Damage{"manifest_cut", [](const fs::path& f) { fs::resize_file(f / "manifest.json", 100); },
                             ArtefactState::damaged, "hash that DONE holds"},
                      Damage{"manifest_empty", [](const fs::path& f) { fs::resize_file(f / "manifest.json", 0); },
                             ArtefactState::damaged, "hash that DONE holds"},
                      Damage{"manifest_gone", [](const fs::path& f) { fs::remove(f / "manifest.json"); },
                             ArtefactState::damaged, "manifest.json: cannot be read"},
                      Damage{"manifest_no_object",
                             [](const fs::path& f) { write_file_atomically(f / "manifest.json", "[1, 2]"); },
                             ArtefactState::damaged, "hash that DONE holds"},
                      Damage{"settings_changed",
                             [](const fs::path& f) {
                               nlohmann::json manifest = ArtefactStore::manifest_of(f);
                               manifest["settings"]["seed"] = 2;
                               write_file_atomically(f / "manifest.json", manifest.dump());
                               write_file_atomically(f / "DONE", hash_text(manifest.dump()) + "\n");
                             },
                             ArtefactState::done, "its address does not follow"},
                      Damage{"file_of_elsewhere",
                             [](const fs::path& f) {
                               nlohmann::json manifest = ArtefactStore::manifest_of(f);
                               manifest["files"]["/dev/zero"] = manifest["files"]["a.txt"];
                               write_file_atomically(f / "manifest.json", manifest.dump());
                               write_file_atomically(f / "DONE", hash_text(manifest.dump()) + "\n");
                             },
                             ArtefactState::damaged, "names the file '/dev/zero', which is not in its folder"},
                      Damage{"nested_deeply",
                             [](const fs::path& f) {
                               const std::string text = std::string(100'000, '[') + std::string(100'000, ']');
                               write_file_atomically(f / "manifest.json", text);
                               write_file_atomically(f / "DONE", hash_text(text) + "\n");
                             },
                             ArtefactState::damaged, "is cut short or damaged"},
                      Damage{"file_gone", [](const fs::path& f) { fs::remove(f / "a.txt"); }, ArtefactState::damaged,
                             "a.txt is missing"},
                      Damage{"file_cut", [](const fs::path& f) { fs::resize_file(f / "sub" / "b.txt", 2); },
                             ArtefactState::damaged, "sub/b.txt has other content"},
                      Damage{"bit_flipped", [](const fs::path& f) { write_file_atomically(f / "a.txt", "fir3t"); },
                             ArtefactState::done, "a.txt has other content"},
                      Damage{"file_added", [](const fs::path& f) { write_file_atomically(f / "c.txt", "?"); },
                             ArtefactState::done, "c.txt was not written by the stage"}),
    [](const auto& info) { return info.param.name; });

TEST_F(RunTest, InvalidationKeepsWhatIsWhole) {
  const ArtefactStore store(root_);
  const fs::path folder = make(store, spec());
  write_file_atomically(folder / "a.txt", "fir3t");
  ArtefactStore::invalidate(folder);
  EXPECT_FALSE(fs::exists(folder / "a.txt"));
  EXPECT_TRUE(fs::exists(folder / "sub" / "b.txt"));
  make(store, spec());
  ArtefactStore::invalidate(folder, /*all=*/true);
  EXPECT_FALSE(fs::exists(folder / "sub" / "b.txt"));
}

TEST_F(RunTest, AManifestOfAnotherArtefactIsDamage) {
  const ArtefactStore store(root_);
  const fs::path folder = make(store, spec()), other = make(store, spec("collect", 9));
  fs::copy_file(other / "manifest.json", folder / "manifest.json", fs::copy_options::overwrite_existing);
  std::string why;
  EXPECT_EQ(store.state(spec(), &why), ArtefactState::damaged);
  EXPECT_TRUE(contains(why, "another artefact")) << why;
}

TEST_F(RunTest, ExplainNamesWhatDiffersFromTheNearestArtefact) {
  const ArtefactStore store(root_);
  EXPECT_EQ(explain(store, spec()),
            std::vector<std::string>{"to be made: the store holds no finished artefact of this stage"});
  ArtefactSpec far = spec("collect", 9);
  far.algorithm_version = 0;
  make(store, far);
  ArtefactSpec near = spec("collect", 10);
  near.inputs["model"] = "xyz";
  make(store, near);
  make(store, spec("cluster", 8));  // another stage: no neighbour
  std::vector<std::string> lines = explain(store, spec());
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(contains(lines[0], "differs from collect-"));
  lines = explain(store, spec("collect", 11));
  const std::string all = lines.at(1) + lines.at(2);
  EXPECT_TRUE(contains(all, "cluster.k (")) << all;
  make(store, spec());
  EXPECT_TRUE(contains(explain(store, spec()).front(), "done: "));
  fs::remove(store.folder(spec()) / "a.txt");
  EXPECT_TRUE(contains(explain(store, spec()).front(), "damaged (a.txt is missing)"));
  ArtefactStore::invalidate(store.folder(spec()));
  EXPECT_TRUE(contains(explain(store, spec()).front(), "begun by an earlier run"));
}

}  // namespace
}  // namespace moextract::run
