// Folder sets, and with them what all kinds share: class numbers, lists, first, count, shuffle, fingerprint.
#include <algorithm>
#include <set>

#include "data/image_set.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

std::vector<std::string> ids_of(const ImageSet& set) {
  std::vector<std::string> ids;
  for (std::int64_t i = 0; i < set.size(); ++i) ids.push_back(set.id(i));
  return ids;
}

class FolderSet : public testing::Test {
 protected:
  FolderSet() {
    const std::string picture = golden_image("grey_1bit.png");
    for (const char* name : {"cat/b.png", "cat/a.PNG", "ant/x.png", "dog/deep/y.png", "dog/z.png"}) {
      folder_.write(fs::path("set") / name, picture);
    }
    folder_.write("set/cat/notes.txt", "no picture");
    folder_.write("set/cat/._b.png", "side file");
    folder_.write("set/README", "no folder");
    params_.source = folder_ / "set";
  }

  void expect_refused(const std::vector<std::string>& parts) {
    expect_message([this] { open_image_set(params_); }, parts);
  }

  TemporaryFolder folder_;
  ImageSetParams params_;
};

TEST_F(FolderSet, SortedNamesAreTheIndices) {
  const auto set = open_image_set(params_);
  EXPECT_EQ(ids_of(*set),
            (std::vector<std::string>{"ant/x.png", "cat/a.PNG", "cat/b.png", "dog/deep/y.png", "dog/z.png"}));
  EXPECT_EQ(set->classes(), 3);
  EXPECT_EQ(set->label(0), 0);
  EXPECT_EQ(set->label(2), 1);
  EXPECT_EQ(set->label(3), 2);
  EXPECT_EQ(set->load(3).width, 37);
  EXPECT_NE(set->summary().find("5 images, 3 classes"), std::string::npos) << set->summary();
}

TEST_F(FolderSet, ClassesFileGivesTheOrder) {
  params_.classes = folder_.write("classes.txt", "dog\tCanis familiaris\r\n\nbee\ncat\nant\n");
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->classes(), 4);
  EXPECT_EQ(set->label(0), 3);
  EXPECT_EQ(set->label(1), 2);
  EXPECT_EQ(set->label(4), 0);
}

TEST_F(FolderSet, ClassesFileMistakes) {
  params_.classes = folder_.write("classes.txt", "dog\ncat\n");
  expect_refused({"ant/x.png", "'ant'", "classes.txt"});
  params_.classes = folder_.write("twice.txt", "dog\nant\ndog\n");
  expect_refused({"twice.txt:3", "'dog'", "twice"});
  params_.classes = folder_.write("none.txt", "\n\n");
  expect_refused({"none.txt", "no class names"});
  params_.classes = folder_ / "missing.txt";
  expect_refused({"missing.txt"});
}

TEST_F(FolderSet, ListSelectsInItsOrderAndKeepsTheIndices) {
  params_.list = folder_.write("list.txt", "dog/z.png\r\n\n./cat/b.png\n");
  const auto set = open_image_set(params_);
  EXPECT_EQ(ids_of(*set), (std::vector<std::string>{"dog/z.png", "cat/b.png"}));
  EXPECT_EQ(set->label(0), 2);  // ant, of which none is listed, still is class 0
  EXPECT_EQ(set->classes(), 3);
}

TEST_F(FolderSet, ListMistakes) {
  params_.list = folder_.write("list.txt", "dog/z.png\ntrain/cat/b.png\n");
  expect_refused({"list.txt:2", "'train/cat/b.png'", "nearest", "'cat/b.png'"});
  params_.list = folder_.write("twice.txt", "dog/z.png\ncat/b.png\ndog/z.png\n");
  expect_refused({"twice.txt:3", "dog/z.png", "line 1"});
  params_.list = folder_.write("empty.txt", "\n");
  expect_refused({"empty.txt", "no members"});
}

TEST_F(FolderSet, FirstAndCount) {
  params_.first = 1;
  params_.count = 2;
  EXPECT_EQ(ids_of(*open_image_set(params_)), (std::vector<std::string>{"cat/a.PNG", "cat/b.png"}));
  params_.count = 100;
  EXPECT_EQ(open_image_set(params_)->size(), 4);
  params_.first = 5;
  expect_refused({"first = 5", "5 pictures"});
  params_.first = -1;
  expect_refused({"negative"});
}

TEST_F(FolderSet, ShuffleIsAPermutationOfTheSeedAlone) {
  std::set<std::vector<std::string>> orders;
  const std::vector<std::string> sorted = ids_of(*open_image_set(params_));
  for (params_.shuffle_seed = 0; params_.shuffle_seed < 10; ++params_.shuffle_seed) {
    std::vector<std::string> ids = ids_of(*open_image_set(params_));
    EXPECT_EQ(ids, ids_of(*open_image_set(params_)));
    orders.insert(ids);
    std::sort(ids.begin(), ids.end());
    EXPECT_EQ(ids, sorted);
  }
  EXPECT_GT(orders.size(), 5u);
  // Parts of one shuffle are disjoint: first and count cut after it.
  params_.shuffle_seed = 3;
  params_.count = 2;
  std::vector<std::string> parts = ids_of(*open_image_set(params_));
  params_.first = 2;
  params_.count = 0;
  for (const std::string& id : ids_of(*open_image_set(params_))) parts.push_back(id);
  std::sort(parts.begin(), parts.end());
  EXPECT_EQ(parts, sorted);
}

TEST_F(FolderSet, FingerprintFollowsContentAndSelection) {
  const std::string before = open_image_set(params_)->fingerprint();
  EXPECT_EQ(open_image_set(params_)->fingerprint(), before);
  params_.count = 4;
  EXPECT_NE(open_image_set(params_)->fingerprint(), before);
  params_.count = 0;
  const fs::path changed = folder_ / "set/cat/b.png";
  fs::last_write_time(changed, fs::last_write_time(changed) + std::chrono::seconds(1));
  EXPECT_NE(open_image_set(params_)->fingerprint(), before);
}

TEST_F(FolderSet, EmptyClassFolderWouldShiftIndices) {
  fs::create_directories(folder_ / "set/bee");
  expect_refused({"bee", "classes"});
  params_.classes = folder_.write("classes.txt", "ant\nbee\ncat\ndog\n");
  EXPECT_EQ(open_image_set(params_)->label(4), 3);
}

TEST_F(FolderSet, BadPictureIsNamed) {
  folder_.write("set/ant/x.png", golden_image("grey_1bit.png").substr(0, 60));
  const auto set = open_image_set(params_);
  try {
    set->load(0);
    FAIL();
  } catch (const ImageError& error) {
    EXPECT_NE(std::string(error.what()).find("ant/x.png"), std::string::npos) << error.what();
  }
  fs::remove(folder_ / "set/ant/x.png");
  expect_message([&] { set->load(0); }, {"ant/x.png", "No such file"});
}

TEST_F(FolderSet, WrongSources) {
  params_.source = folder_ / "nowhere";
  expect_refused({"nowhere", "no such file or folder"});
  params_.source.clear();
  expect_refused({"no source"});
  params_.source = folder_.write("pictures.zip", "PK");
  expect_refused({"pictures.zip", "kind"});
  params_.kind = ImageSetKind::folder;
  expect_refused({"pictures.zip", "not a folder"});
  params_.kind = ImageSetKind::automatic;
  params_.source = folder_.write("loose/a.png", "x").parent_path();
  expect_refused({"loose", "1 pictures", "CSV"});
}

}  // namespace
}  // namespace moextract::data::test
