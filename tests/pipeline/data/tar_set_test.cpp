// Tar sets: archives made by hand, by the system's tar, and the real ones.
#include <sys/resource.h>

#include <chrono>

#include <set>
#include <sstream>

#include "core/random.h"
#include "data/image_set.h"
#include "data/tar_index.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

std::string padded(std::string data) {
  data.resize((data.size() + 511) / 512 * 512, '\0');
  return data;
}

/// A ustar header; with `prefix`, the POSIX split of a long name.
std::string header(const std::string& name, std::size_t size, char type = '0', const std::string& prefix = "") {
  std::string block(512, '\0');
  block.replace(0, name.size(), name);
  block.replace(100, 7, "0000644");
  block.replace(124, 11, fmt::format("{:011o}", size));
  block.replace(148, 8, "        ");
  block[156] = type;
  block.replace(257, 8, std::string("ustar\0", 6) + "00");
  block.replace(345, prefix.size(), prefix);
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  block.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return block;
}

std::string member(const std::string& name, const std::string& data, char type = '0', const std::string& prefix = "") {
  return header(name, data.size(), type, prefix) + padded(data);
}

const std::string kEnd(1024, '\0');

class TarSet : public testing::Test {
 protected:
  std::vector<TarMember> index(const std::string& content) {
    return index_tar(RandomAccessFile(folder_.write("x.tar", content)));
  }
  void expect_refused(const std::string& content, const std::vector<std::string>& parts) {
    expect_message([&] { index(content); }, parts);
  }
  std::unique_ptr<ImageSet> open(const std::string& content) {
    ImageSetParams params;
    params.source = folder_.write("x.tar", content);
    return open_image_set(params);
  }

  TemporaryFolder folder_;
  const std::string picture_ = golden_image("grey_1bit.png");
};

TEST_F(TarSet, NamesOfAllFormats) {
  const std::string deep = std::string(120, 'd') + "/" + std::string(90, 'f') + ".png";
  const std::string record = "path=" + deep + "\n";
  const std::string pax = fmt::format("{} {}", record.size() + 4, record);
  ASSERT_EQ(pax.size(), record.size() + 4);
  const auto members =
      index(member("./plain/a.png", "1") + member("folder/", "", '5') + member("f.png", "22", '0', "prefix/folder") +
            member("././@LongLink", deep + '\0', 'L') + member("cut", "333") + member("PaxHeaders/x", pax, 'x') +
            member("cut", "4444") + member("after/b.png", "") + kEnd);
  ASSERT_EQ(members.size(), 5u);
  EXPECT_EQ(members[0].name, "plain/a.png");
  EXPECT_EQ(members[0].offset, 512);
  EXPECT_EQ(members[1].name, "prefix/folder/f.png");
  EXPECT_EQ(members[2].name, deep);
  EXPECT_EQ(members[2].size, 3);
  EXPECT_EQ(members[3].name, deep);
  EXPECT_EQ(members[3].size, 4);
  EXPECT_EQ(members[4].name, "after/b.png");
}

TEST_F(TarSet, ArchivesOfTheSystemsTar) {
  const std::string deep = "set/" + std::string(150, 'k') + "/" + std::string(120, 'n') + ".png";
  folder_.write(deep, picture_);
  folder_.write("set/ant/a.png", picture_);
  for (const std::string format : {"gnu", "pax"}) {
    const std::string tar = (folder_ / (format + ".tar")).string();
    if (std::system(
            fmt::format("tar --format={} -C '{}' -cf '{}' set", format, folder_.path().string(), tar).c_str())) {
      GTEST_SKIP() << "no GNU tar here";
    }
    ImageSetParams params;
    params.source = tar;
    const auto set = open_image_set(params);
    ASSERT_EQ(set->size(), 2) << format;
    EXPECT_EQ(set->id(1), deep);
    EXPECT_EQ(set->label(1), 1);
    EXPECT_EQ(set->load(1).width, 37);
  }
}

TEST_F(TarSet, ManyTarsAreOneSet) {
  folder_.write("tars/b.tar", member("ant/1.png", picture_) + member("cat/1.png", picture_) + kEnd);
  folder_.write("tars/a.tar", member("cat/1.png", picture_) + member("notes.txt", "x") + kEnd);
  folder_.write("tars/c.tar", member("2.png", picture_) + kEnd);  // its class is the tar's name, as ImageNet's are
  folder_.write("tars/.hidden.tar", "no tar");
  ImageSetParams params;
  params.source = folder_ / "tars";
  const auto set = open_image_set(params);
  ASSERT_EQ(set->size(), 4);
  EXPECT_EQ(set->classes(), 3);
  const std::vector<std::string> ids{"a/cat/1.png", "b/ant/1.png", "b/cat/1.png", "c/2.png"};
  const std::vector<std::int32_t> labels{2, 0, 2, 1};
  for (std::int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(set->id(i), ids[static_cast<std::size_t>(i)]);
    EXPECT_EQ(set->label(i), labels[static_cast<std::size_t>(i)]);
    EXPECT_EQ(set->load(i).width, 37);
  }
  ASSERT_EQ(set->remarks().size(), 1u);
  EXPECT_NE(set->remarks()[0].find("a.tar: notes.txt"), std::string::npos) << set->remarks()[0];
  params.source = folder_ / "tars/[ab]*.tar";
  EXPECT_EQ(open_image_set(params)->size(), 3);
  params.source = folder_ / "tars/?.tar";
  EXPECT_EQ(open_image_set(params)->fingerprint(), set->fingerprint());
  params.source = folder_ / "tars/none*.tar";
  expect_message([&] { open_image_set(params); }, {"none*.tar", "no such file"});
  folder_.write("tars/dog/1.png", picture_);
  params.source = folder_ / "tars";
  EXPECT_EQ(open_image_set(params)->id(0), "dog/1.png") << "class folders beside tars: a folder set";
  params.source = folder_ / "tars/c.tar";
  expect_message([&] { open_image_set(params); }, {"c.tar", "2.png", "stands in no folder"});
}

TEST_F(TarSet, AKeptIndexIsUsedUntilATarChanges) {
  const std::string first = member("ant/1.png", picture_) + kEnd, other = member("ant/2.png", picture_) + kEnd;
  const fs::path tar = folder_.write("tars/a.tar", first);
  folder_.write("tars/b.tar", member("cat/1.png", picture_) + kEnd);
  for (const auto& entry : fs::directory_iterator(folder_ / "tars")) {
    fs::last_write_time(entry, fs::last_write_time(entry) - std::chrono::hours(1));
  }
  ImageSetParams params;
  params.source = folder_ / "tars";
  params.listings = folder_ / "listings";
  const auto made = open_image_set(params);
  const auto time = fs::last_write_time(tar);
  folder_.write("tars/a.tar", other);
  fs::last_write_time(tar, time);
  const auto kept = open_image_set(params);
  EXPECT_EQ(kept->id(0), "a/ant/1.png") << "the headers were not read again";
  EXPECT_EQ(kept->fingerprint(), made->fingerprint());
  fs::last_write_time(tar, time + std::chrono::minutes(1));
  expect_message([&] { kept->load(0); }, {"a.tar", "changed after it was listed"});
  EXPECT_EQ(open_image_set(params)->id(0), "a/ant/2.png");
  folder_.write("tars/c.tar", first);
  EXPECT_EQ(open_image_set(params)->size(), 3) << "another tar";
}

TEST_F(TarSet, MoreTarsThanDescriptors) {
  for (int i = 0; i < 300; ++i) folder_.write(fmt::format("tars/{:03}.tar", i), member("x/1.png", picture_) + kEnd);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit few{200, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  ImageSetParams params;
  params.source = folder_ / "tars";
  const auto set = open_image_set(params);
  for (std::int64_t i = 0; i < 600; ++i) EXPECT_EQ(set->load(i * 7 % 300).width, 37);
  setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(TarSet, OwnFolderIsTheClassWhateverStandsAbove) {
  const auto set = open(member("val/dog/1.png", picture_) + member("train/cat/2.png", picture_) +
                        member("train/dog/3.png", picture_) + member("train/list.txt", "x") + kEnd);
  ASSERT_EQ(set->size(), 3);
  EXPECT_EQ(set->classes(), 2);
  EXPECT_EQ(set->id(0), "train/cat/2.png");
  EXPECT_EQ(set->label(0), 0);
  EXPECT_EQ(set->label(1), 1);
  EXPECT_EQ(set->label(2), 1);
  EXPECT_EQ(set->load(2).height, 21);
}

TEST_F(TarSet, DamagedArchives) {
  const std::string good = member("c/a.png", picture_) + member("c/b.png", picture_) + kEnd;
  const std::size_t second = 512 + padded(picture_).size();
  ASSERT_EQ(index(good).size(), 2u);
  expect_refused("", {"empty"});
  expect_refused("hello", {"cut short", "byte 5"});
  expect_refused(std::string(2000, 'x'), {"no tar header at byte 0"});
  expect_refused(good.substr(0, second + 512 + 40), {"cut short", "c/b.png", fmt::format("byte {}", second)});
  expect_refused(good.substr(0, second), {"cut short", fmt::format("byte {}", second)});
  expect_refused(good.substr(0, second + 300), {"cut short"});
  expect_refused("\x1f\x8b" + std::string(2000, 'z'), {"gunzip"});
  std::string flipped = good;
  flipped[second + 3] ^= 1;
  expect_refused(flipped, {fmt::format("no tar header at byte {}", second)});
  expect_refused(member("s", "x", 'S') + kEnd, {"sparse"});
  expect_refused(member("p", "999 path=x\n", 'x') + kEnd, {"pax header at byte 0"});
  expect_refused(member("p", "11 size=-5\n", 'x') + member("c/a.png", "x") + kEnd, {"c/a.png", "-5"});
}

TEST_F(TarSet, RandomDamageNeverCrashes) {
  const std::string good =
      member("c/a.png", picture_) + member("PaxHeaders/x", "11 path=ab\n", 'x') + member("c/b.png", picture_) + kEnd;
  RandomStream random(3, 1);
  for (int trial = 0; trial < 300; ++trial) {
    std::string bytes = good;
    bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
    try {
      for (const TarMember& m : index(bytes)) {
        EXPECT_LE(m.offset + m.size, static_cast<std::int64_t>(bytes.size()));
      }
    } catch (const UserError&) {
    }
  }
}

TEST_F(TarSet, MembersThatCannotBeTaken) {
  const auto refused = [this](const std::string& content, const std::vector<std::string>& parts) {
    expect_message([&] { open(content); }, parts);
  };
  refused(member("c/readme.txt", "x") + kEnd, {"x.tar", "no .jpg"});
  refused(member("a.png", picture_) + kEnd, {"'a.png'", "no folder"});
  refused(member("c/a.png", picture_) + member("c/a.png", picture_) + kEnd, {"'c/a.png'", "twice"});
  refused(member("c/a.png", picture_) + member("c/b.png", "", '1') + kEnd, {"'c/b.png'", "link"});
  const auto cut = open(member("c/a.png", picture_.substr(0, 50)) + kEnd);
  expect_message([&] { cut->load(0); }, {"x.tar: c/a.png", "truncated"});
}

TEST_F(TarSet, TinyImageNet) {
  const char* data = std::getenv("MOEXTRACT_TEST_DATA");
  if (!data) GTEST_SKIP() << "MOEXTRACT_TEST_DATA is not set: no real tar files";
  const fs::path tiny = fs::path(data) / "tiny-imagenet-200";
  ImageSetParams params;
  params.source = tiny / "val_first_5000.tar";
  params.list = tiny / "val_1500.txt";
  const auto validation = open_image_set(params);
  EXPECT_EQ(validation->size(), 1500);
  EXPECT_EQ(validation->classes(), 200);
  params.source = tiny / "train_100_per_class.tar";
  params.list = tiny / "calibration_2000.txt";
  const auto calibration = open_image_set(params);
  EXPECT_EQ(calibration->size(), 2000);
  EXPECT_EQ(calibration->id(0), "train/n01443537/n01443537_0.JPEG");

  // The model's classes are the sorted lines of wnids.txt.
  std::set<std::string> wnids;
  std::istringstream lines(read(tiny / "wnids.txt"));
  for (std::string line; std::getline(lines, line);) wnids.insert(line);
  const std::vector<std::string> sorted(wnids.begin(), wnids.end());
  for (const ImageSet* set : {validation.get(), calibration.get()}) {
    for (std::int64_t i = 0; i < set->size(); ++i) {
      const std::string wnid = fs::path(set->id(i)).parent_path().filename();
      ASSERT_EQ(sorted.at(static_cast<std::size_t>(set->label(i))), wnid);
    }
  }
  EXPECT_EQ(validation->load(1499).width, 64);
}

}  // namespace
}  // namespace moextract::data::test
