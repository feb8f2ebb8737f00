// Decoding, resizing and preprocessing against checksums of Pillow's results (tests/golden/make_image_goldens.py).
#include <zlib.h>

#include <map>
#include <memory>
#include <sstream>

#include "data/image_set.h"
#include "data/preprocess.h"
#include "data/random_access_file.h"
#include "data/resize.h"
#include "data/tar_index.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

std::string checksum(const void* data, std::size_t bytes) {
  return fmt::format("{:08x}", crc32(0, static_cast<const Bytef*>(data), static_cast<uInt>(bytes)));
}

/// Finds and decodes the pictures that the golden lines name: "images/x.png", "nips17.../x.jpg" or "x.tar:member".
class Pictures {
 public:
  explicit Pictures(fs::path root) : root_(std::move(root)) {}

  const Image& get(const std::string& key) {
    if (key != key_) {
      const auto colon = key.find(".tar:");
      if (colon == key.npos) {
        image_ = decode_image(as_bytes(read(root_ / key)), key);
      } else {
        const TarMember member = find(root_ / key.substr(0, colon + 4), key.substr(colon + 5));
        image_ = decode_image(tar_->read(member.offset, member.size), key);
      }
      key_ = key;
    }
    return image_;
  }

 private:
  TarMember find(const fs::path& tar, const std::string& name) {
    if (!tar_) {
      tar_ = std::make_unique<RandomAccessFile>(tar);
      for (const TarMember& member : index_tar(*tar_)) members_[member.name] = member;
    }
    return members_.at(name);
  }

  fs::path root_;
  std::unique_ptr<RandomAccessFile> tar_;
  std::map<std::string, TarMember> members_;
  std::string key_;
  Image image_;
};

Interpolation interpolation_of(const std::string& name) {
  return name == "bilinear" ? Interpolation::bilinear : Interpolation::bicubic;
}

/// Checks all golden lines whose picture lies (or does not lie) under images/; returns how many there were.
int check_goldens(const fs::path& root, bool committed) {
  Pictures pictures(root);
  std::ifstream goldens(fs::path(MOEXTRACT_GOLDEN_FOLDER) / "image_goldens.txt");
  int checked = 0;
  for (std::string line; std::getline(goldens, line);) {
    std::istringstream words(line);
    std::string what, key, filter, mode, expected;
    words >> what >> key;
    if (what == "#" || key.starts_with("images/") != committed) continue;
    SCOPED_TRACE(line);
    const Image& image = pictures.get(key);
    ++checked;
    if (what == "decode") {
      int width = 0, height = 0;
      words >> width >> height >> expected;
      EXPECT_EQ(image.width, width);
      EXPECT_EQ(image.height, height);
      EXPECT_EQ(checksum(image.rgb.data(), image.rgb.size()), expected);
    } else if (what == "resize") {
      int width = 0, height = 0;
      words >> filter >> width >> height >> expected;
      const Image small = resize(image, width, height, interpolation_of(filter));
      EXPECT_EQ(small.width, width);
      EXPECT_EQ(small.height, height);
      EXPECT_EQ(checksum(small.rgb.data(), small.rgb.size()), expected);
    } else {
      PreprocessParams params;
      words >> mode >> params.resize >> filter >> params.crop >> params.channels >> expected;
      params.resize_mode = mode == "squash" ? ResizeMode::squash : ResizeMode::shorter;
      params.interpolation = interpolation_of(filter);
      params.mean = {0.485, 0.456, 0.406};
      params.std = {0.229, 0.224, 0.225};
      std::vector<float> out(static_cast<std::size_t>(params.channels * params.crop * params.crop));
      preprocess(image, params, out);
      EXPECT_EQ(checksum(out.data(), out.size() * sizeof(float)), expected);
    }
  }
  return checked;
}

TEST(ImageGoldens, SmallPicturesOfEveryKind) {
  EXPECT_GT(check_goldens(MOEXTRACT_GOLDEN_FOLDER, true), 400);
}

TEST(ImageGoldens, RealPhotographs) {
  const char* data = std::getenv("MOEXTRACT_TEST_DATA");
  if (!data) GTEST_SKIP() << "MOEXTRACT_TEST_DATA is not set: no real pictures";
  EXPECT_GE(check_goldens(data, false), 100);
}

TEST(Resize, SameSizeIsACopy) {
  const Image image = decode_image(as_bytes(golden_image("colour.png")), "colour.png");
  EXPECT_EQ(resize(image, image.width, image.height, Interpolation::bicubic).rgb, image.rgb);
}

TEST(Resize, ConstantStaysConstant) {
  const Image image{13, 7, std::vector<std::uint8_t>(13 * 7 * 3, 201)};
  for (const auto filter : {Interpolation::bilinear, Interpolation::bicubic}) {
    const Image out = resize(image, 40, 3, filter);
    EXPECT_EQ(out.rgb, std::vector<std::uint8_t>(40 * 3 * 3, 201));
  }
}

}  // namespace
}  // namespace moextract::data::test
