// IDX sets: small files made here, and Fashion-MNIST where its package is installed.
#include <zlib.h>

#include "data/image_set.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

std::string big_endian(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}

/// `count` pictures of 3 x 2 pixels with ascending values.
std::string images(std::uint32_t count, std::uint32_t claimed) {
  std::string bytes = big_endian(0x803) + big_endian(claimed) + big_endian(2) + big_endian(3);
  for (std::uint32_t i = 0; i < count * 6; ++i) bytes += static_cast<char>(i);
  return bytes;
}

std::string labels(const std::string& values, std::uint32_t claimed) {
  return big_endian(0x801) + big_endian(claimed) + values;
}

class IdxSet : public testing::Test {
 protected:
  IdxSet() {
    params_.source = folder_.write("t-images-idx3-ubyte", images(4, 4));
    folder_.write("t-labels-idx1-ubyte", labels({1, 0, 7, 2}, 4));
  }
  void expect_refused(const std::vector<std::string>& parts) {
    expect_message([this] { open_image_set(params_); }, parts);
  }

  /// Found when the first picture is wanted, and again with the next.
  void expect_refused_in_load(const std::vector<std::string>& parts) {
    const auto set = open_image_set(params_);
    for (int i = 0; i < 2; ++i) expect_message([&] { set->load(i); }, parts);
  }

  TemporaryFolder folder_;
  ImageSetParams params_;
};

TEST_F(IdxSet, PlainAndGzip) {
  ImageSetParams zipped;
  zipped.source = folder_ / "z-images-idx3-ubyte.gz";
  for (const auto& [from, to] : {std::pair{"t-images-idx3-ubyte", "z-images-idx3-ubyte.gz"},
                                 std::pair{"t-labels-idx1-ubyte", "z-labels-idx1-ubyte.gz"}}) {
    const std::string bytes = read(folder_ / from);
    gzFile out = gzopen((folder_ / to).c_str(), "wb");
    gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(out);
  }
  for (const ImageSetParams& params : {params_, zipped}) {
    const auto set = open_image_set(params);
    ASSERT_EQ(set->size(), 4);
    EXPECT_EQ(set->classes(), 8);
    EXPECT_EQ(set->label(2), 7);
    EXPECT_EQ(set->id(2), "#2");
    const Image image = set->load(2);
    EXPECT_EQ(image.width, 3);
    EXPECT_EQ(image.height, 2);
    EXPECT_EQ(image.rgb,
              (std::vector<std::uint8_t>{12, 12, 12, 13, 13, 13, 14, 14, 14, 15, 15, 15, 16, 16, 16, 17, 17, 17}));
  }
  // A gzip file cut short is found, wherever it is cut.
  const std::string whole = read(zipped.source);
  folder_.write("z-images-idx3-ubyte.gz", whole.substr(0, whole.size() - 6));
  expect_message([&] { open_image_set(zipped)->load(0); }, {"z-images-idx3-ubyte.gz", "fetch it again"});
}

TEST_F(IdxSet, ListOfNumbers) {
  params_.list = folder_.write("list.txt", "#3\n#1\n");
  const auto set = open_image_set(params_);
  EXPECT_EQ(set->label(0), 2);
  EXPECT_EQ(set->load(1).rgb[0], 6);
}

TEST_F(IdxSet, SizesThatDoNotFit) {
  folder_.write("t-images-idx3-ubyte", images(4, 0xffffffff));
  expect_refused({"t-images", "4294967295 images", "4 labels"});
  folder_.write("t-images-idx3-ubyte", images(3, 4));
  expect_refused_in_load({"t-images", "4 images of 3 x 2", "18 of 24"});
  folder_.write("t-images-idx3-ubyte", images(5, 4));
  expect_refused_in_load({"t-images", "4 images", "more than"});
  folder_.write("t-images-idx3-ubyte", images(4, 4));
  const auto opened = open_image_set(params_);
  folder_.write("t-images-idx3-ubyte", images(3, 3));
  expect_message([&] { opened->load(0); }, {"t-images", "has changed"});
  expect_refused({"3 images", "t-labels", "4 labels"});
  folder_.write("t-labels-idx1-ubyte", labels({1, 0}, 4));
  expect_refused({"t-labels", "2 of 4"});
  folder_.write("t-labels-idx1-ubyte", "\0\0");
  expect_refused({"t-labels", "header"});
}

TEST_F(IdxSet, WrongMagic) {
  params_.labels = params_.source;
  expect_refused({"0x00000803", "swapped"});
  params_.labels = folder_.write("other", "PNG and so on");
  expect_refused({"other", "0x504e4720", "0x00000801"});
}

TEST_F(IdxSet, LabelsMissing) {
  fs::remove(folder_ / "t-labels-idx1-ubyte");
  expect_refused({"t-labels-idx1-ubyte", "No such file"});
  params_.kind = ImageSetKind::idx;
  params_.source = folder_.write("train.idx", images(4, 4));
  expect_refused({"train.idx", "set labels"});
}

TEST(FashionMnist, Package) {
  ImageSetParams params;
  params.source = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz";
  if (!fs::exists(params.source)) GTEST_SKIP() << "the package dataset-fashion-mnist is not installed";
  const auto set = open_image_set(params);
  EXPECT_EQ(set->size(), 10000);
  EXPECT_EQ(set->classes(), 10);
  EXPECT_EQ(set->label(0), 9);  // an ankle boot, as on the data set's page
  EXPECT_EQ(set->load(9999).width, 28);
  std::vector<int> counts(10, 0);
  for (std::int64_t i = 0; i < set->size(); ++i) ++counts[static_cast<std::size_t>(set->label(i))];
  EXPECT_EQ(counts, std::vector<int>(10, 1000));
}

}  // namespace
}  // namespace moextract::data::test
