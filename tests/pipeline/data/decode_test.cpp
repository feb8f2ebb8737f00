// Damaged and foreign pictures: an ImageError that names the picture, or a picture, but never a crash.
#include "core/random.h"
#include "data/image.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

void expect_image_error(const std::string& bytes, const std::vector<std::string>& parts) {
  try {
    decode_image(as_bytes(bytes), "photos/a.jpg");
    ADD_FAILURE() << "decoded";
  } catch (const ImageError& error) {
    EXPECT_EQ(error.code(), ExitCode::input);
    const std::string message = error.what();
    EXPECT_TRUE(message.starts_with("photos/a.jpg: ")) << message;
    for (const auto& part : parts) EXPECT_NE(message.find(part), message.npos) << part << " is not in: " << message;
  }
}

class Damage : public testing::TestWithParam<const char*> {};

TEST_P(Damage, EveryTruncationIsAnError) {
  const std::string whole = golden_image(GetParam());
  ASSERT_NO_THROW(decode_image(as_bytes(whole), GetParam()));
  for (std::size_t size = 0; size < whole.size(); size += 1 + size % 7) {
    SCOPED_TRACE(size);
    expect_image_error(whole.substr(0, size), {});
  }
  expect_image_error(whole.substr(0, whole.size() - 1), {});
  expect_image_error(whole.substr(0, whole.size() / 2), {"truncated"});
}

TEST_P(Damage, FlippedBitsGiveAnErrorOrAPicture) {
  const std::string whole = golden_image(GetParam());
  RandomStream random(7, whole.size());
  int errors = 0;
  for (int trial = 0; trial < 400; ++trial) {
    std::string bytes = whole;
    for (int flips = 0; flips <= trial % 4; ++flips) {
      bytes[random.below(bytes.size())] ^= static_cast<char>(1 << random.below(8));
    }
    try {
      const Image image = decode_image(as_bytes(bytes), "x");
      EXPECT_EQ(image.rgb.size(), static_cast<std::size_t>(image.width) * image.height * 3);
    } catch (const ImageError&) {
      ++errors;
    }
  }
  EXPECT_GT(errors, 0);
}

INSTANTIATE_TEST_SUITE_P(Kinds, Damage,
                         testing::Values("colour_420.jpg", "progressive.jpg", "grey.jpg", "cmyk.jpg", "ycck.jpg",
                                         "restart_markers.jpg", "colour.png", "palette_4bit.png", "interlaced.png",
                                         "alpha_16bit.png"));

TEST(Decode, EmptyAndForeign) {
  expect_image_error("", {"empty"});
  expect_image_error("GIF89a......", {"neither JPEG nor PNG", "GIF"});
  expect_image_error("<!DOCTYPE html><html>", {"HTML"});
  expect_image_error("hello", {"neither JPEG nor PNG"});
  expect_image_error(std::string(1000, '\0'), {"neither JPEG nor PNG"});
}

TEST(Decode, AbsurdSizesAreRefusedBeforeMemoryIsTaken) {
  std::string jpeg = golden_image("colour_444.jpg");
  const std::size_t frame = jpeg.find("\xff\xc0");
  ASSERT_NE(frame, jpeg.npos);
  jpeg.replace(frame + 5, 4, "\xff\x00\xff\x00", 4);
  expect_image_error(jpeg, {"65280 x 65280", "16384"});
  jpeg.replace(frame + 5, 4, "\x3f\xff\x3f\xff", 4);
  expect_image_error(jpeg, {"16383 x 16383", "200 million"});
}

TEST(Decode, JpegWithoutItsEndMarkIsTruncated) {
  const std::string whole = golden_image("colour_444.jpg");
  expect_image_error(whole.substr(0, whole.size() - 2), {"truncated"});
  // An end mark in the middle is no better: the rest of the picture would be grey.
  std::string early = whole.substr(0, whole.size() * 2 / 3) + "\xff\xd9";
  expect_image_error(early, {"premature end"});
}

TEST(Decode, BytesAfterTheEndAreIgnored) {
  const std::string whole = golden_image("colour_444.jpg");
  EXPECT_EQ(decode_image(as_bytes(whole + "trailing"), "x").rgb, decode_image(as_bytes(whole), "x").rgb);
}

}  // namespace
}  // namespace moextract::data::test
