// Folder sets, and with them what all kinds share: class numbers, lists, first, count, shuffle, fingerprint.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <set>

#include "data/image_set.h"
#include "data/random_access_file.h"
#include "data/survey.h"
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
}

TEST_F(FolderSet, WhatCannotBeReadIsNoBadPicture) {
  const auto set = open_image_set(params_);
  const std::string picture = golden_image("grey_1bit.png");
  const std::vector<std::byte> bytes = set->read(0);
  EXPECT_TRUE(std::ranges::equal(bytes, as_bytes(picture)));
  EXPECT_EQ(set->decode(0, bytes).rgb, set->load(0).rgb);
  EXPECT_EQ(set->mean_stored_bytes(), static_cast<double>(picture.size()));
  fs::remove(folder_ / "set/ant/x.png");
  const auto read = [&] {
    try {
      set->load(0);
    } catch (const ImageError&) {
      ADD_FAILURE() << "taken for a picture that cannot be decoded";
    }
  };
  expect_message(read, {"ant/x.png", "No such file", "was there when the folder was listed"});
  // The kernel answers EIO where this process has no memory.
  const RandomAccessFile memory("/proc/self/mem");
  expect_message([&] { memory.read(0, 1); }, {"/proc/self/mem", "byte 0", "the disk or the network failed"});
}

TEST_F(FolderSet, RemarksNameWhatLooksWrong) {
  folder_.write("set/dog/empty.png", "");
  folder_.write("set/loose.png", "x");
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->size(), 6);
  ASSERT_EQ(set->remarks().size(), 3u);
  const auto expect = [&](std::size_t i, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      EXPECT_NE(set->remarks()[i].find(part), std::string::npos) << part << " is not in: " << set->remarks()[i];
    }
  };
  expect(0, {"2 files are no pictures", "README", "cat/notes.txt"});
  expect(1, {"1 files stand in no class folder", "loose.png"});
  expect(2, {"1 files are empty", "dog/empty.png"});
}

/// Sets the time of a folder back, as if it had been made long ago.
void age(const fs::path& folder) {
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_symlink()) continue;
    fs::last_write_time(entry, fs::last_write_time(entry) - std::chrono::hours(1));
  }
  fs::last_write_time(folder, fs::last_write_time(folder) - std::chrono::hours(1));
}

TEST_F(FolderSet, LinksThatLeadNowhereAreNamed) {
  fs::create_symlink("../ant/x.png", folder_ / "set/dog/good.png");
  fs::create_symlink("../ant/gone.png", folder_ / "set/dog/late.png");
  fs::create_symlink("itself.png", folder_ / "set/cat/itself.png");
  fs::create_symlink("nobody@host", folder_ / "set/cat/.#lock");  // as an editor leaves them
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->size(), 6);
  ASSERT_EQ(set->remarks().size(), 2u);
  EXPECT_EQ(set->remarks()[1], params_.source.string() +
                                   ": 2 files are links that lead nowhere and are left out: cat/itself.png, "
                                   "dog/late.png");
  // A kept listing says so, too, and is not believed once one of them leads somewhere.
  age(folder_ / "set");
  params_.listings = folder_ / "listings";
  open_image_set(params_);
  EXPECT_EQ(open_image_set(params_)->remarks(), set->remarks());
  folder_.write("elsewhere.png", golden_image("grey_1bit.png"));
  const auto time = fs::last_write_time(folder_ / "set/ant");
  fs::create_symlink("../../elsewhere.png", folder_ / "set/ant/gone.png");
  fs::last_write_time(folder_ / "set/ant", time);
  const auto now = open_image_set(params_);
  EXPECT_EQ(now->size(), 8) << "the link, and what it leads to";
  EXPECT_NE(now->remarks()[1].find("1 files are links that lead nowhere"), std::string::npos) << now->remarks()[1];
}

TEST_F(FolderSet, AClassThatIsALinkToNowhereWouldShiftIndices) {
  fs::create_symlink("/nowhere/bee", folder_ / "set/bee");
  expect_refused({"set/bee", "leads nowhere", "classes"});
  params_.classes = folder_.write("classes.txt", "ant\nbee\ncat\ndog\n");
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->label(4), 3);
  EXPECT_NE(set->remarks()[1].find("lead nowhere and are left out: bee"), std::string::npos) << set->remarks()[1];
  params_.classes.clear();
  fs::remove(folder_ / "set/bee");
  fs::create_symlink("bee", folder_ / "set/bee");
  expect_refused({"set/bee", "leads nowhere"});
}

TEST_F(FolderSet, AKeptListingIsUsedUntilAFolderChanges) {
  age(folder_ / "set");
  const auto plain = open_image_set(params_);
  params_.listings = folder_ / "listings";
  const auto made = open_image_set(params_);
  EXPECT_EQ(made->fingerprint(), plain->fingerprint());
  ASSERT_EQ(std::distance(fs::directory_iterator(params_.listings), {}), 1);
  const fs::path listing = fs::directory_iterator(params_.listings)->path();
  const std::string bytes = read(listing);
  // That it is used shows in a file that it does not know: its folder keeps its time.
  const auto time = fs::last_write_time(folder_ / "set/cat");
  folder_.write("set/cat/new.png", golden_image("grey_1bit.png"));
  fs::last_write_time(folder_ / "set/cat", time);
  const auto kept = open_image_set(params_);
  EXPECT_EQ(kept->size(), 5);
  EXPECT_EQ(kept->fingerprint(), plain->fingerprint());
  EXPECT_EQ(kept->load(2).width, 37);
  EXPECT_EQ(kept->remarks(), plain->remarks());
  fs::last_write_time(folder_ / "set/cat", time + std::chrono::minutes(1));
  EXPECT_EQ(open_image_set(params_)->size(), 6) << "the folder changed";
  // A damaged listing is made again.
  for (const std::size_t place : {std::size_t{0}, std::size_t{30}, bytes.size() / 2, bytes.size() - 1}) {
    std::string damaged = bytes;
    damaged[place] = static_cast<char>(damaged[place] ^ 1);
    folder_.write(listing, damaged);
    EXPECT_EQ(open_image_set(params_)->size(), 6) << place;
  }
  folder_.write(listing, bytes.substr(0, 100));
  EXPECT_EQ(open_image_set(params_)->size(), 6);
}

TEST_F(FolderSet, AListingOfJustNowIsNotBelieved) {
  params_.listings = folder_ / "listings";
  const auto time = fs::last_write_time(folder_ / "set/cat");
  EXPECT_EQ(open_image_set(params_)->size(), 5);
  // Within one tick of a coarse clock a folder may change and keep its time.
  folder_.write("set/cat/new.png", golden_image("grey_1bit.png"));
  fs::last_write_time(folder_ / "set/cat", time);
  EXPECT_EQ(open_image_set(params_)->size(), 6);
}

TEST_F(FolderSet, APictureChangedInPlaceIsNoticed) {
  age(folder_ / "set");
  params_.listings = folder_ / "listings";
  open_image_set(params_);
  const auto set = open_image_set(params_);
  folder_.write("set/cat/b.png", golden_image("grey_1bit.png"));  // the same bytes at another time
  expect_message([&] { set->load(2); }, {"cat/b.png", "changed after it was listed", "run the same command again"});
  const auto again = open_image_set(params_);
  EXPECT_NE(again->fingerprint(), set->fingerprint());
  EXPECT_EQ(again->load(2).width, 37);
}

TEST_F(FolderSet, SurveyNamesBrokenDoubleAndContradictingPictures) {
  folder_.write("set/dog/cut.png", golden_image("colour.png").substr(0, 100));
  folder_.write("set/dog/empty.png", "");
  folder_.write("set/dog/page.png", "<html></html>");
  folder_.write("set/ant/only.png", golden_image("colour.png"));
  folder_.write("set/dog/jpeg.jpg", golden_image("colour_444.jpg"));
  const auto set = open_image_set(params_);
  for (const int threads : {1, 3}) {
    Workers workers(threads);
    std::atomic<std::int64_t> seen{0};
    const ImageSurvey survey = survey_images(*set, workers, [&](std::int64_t n) { seen += n; });
    EXPECT_EQ(survey.images, 10);
    EXPECT_EQ(seen, 10);
    ASSERT_EQ(survey.broken.size(), 3u);
    EXPECT_NE(survey.broken[0].find("dog/cut.png"), std::string::npos) << survey.broken[0];
    EXPECT_NE(survey.broken[1].find("dog/empty.png: the file is empty"), std::string::npos) << survey.broken[1];
    EXPECT_NE(survey.broken[2].find("HTML"), std::string::npos) << survey.broken[2];
    ASSERT_EQ(survey.doubles.size(), 1u) << "the five copies of one picture";
    EXPECT_EQ(survey.doubles[0].size(), 5u);
    EXPECT_TRUE(labels_differ(*set, survey.doubles[0]));
    EXPECT_FALSE(labels_differ(*set, {2, 3}));
  }
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
