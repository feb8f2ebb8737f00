// Batches of pictures, and what becomes of the ones that cannot be decoded.
#include "model/input_batch.h"

#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

/// Constant 4x4 pictures, value 10 * index; the ones in `bad` cannot be decoded.
class FakeSet : public data::ImageSet {
 public:
  FakeSet(std::int64_t count, std::vector<std::int64_t> bad) : bad_(std::move(bad)) {
    for (std::int64_t i = 0; i < count; ++i) entries_.push_back({fmt::format("picture {}", i), 0, 0, 0});
    classes_ = 1;
  }
  std::vector<std::byte> read(std::int64_t index) const override { return {static_cast<std::byte>(10 * index)}; }
  data::Image decode(std::int64_t index, std::span<const std::byte> bytes) const override {
    if (std::find(bad_.begin(), bad_.end(), index) != bad_.end()) throw data::ImageError(id(index) + ": truncated");
    return {4, 4, std::vector<std::uint8_t>(48, std::to_integer<std::uint8_t>(bytes.front()))};
  }

 private:
  std::vector<std::int64_t> bad_;
};

data::PreprocessParams preprocessing() {
  data::PreprocessParams p;
  p.crop = 4;
  p.mean = {0, 0, 0};
  p.std = {1, 1, 1};
  return p;
}

TEST(InputBatch, HoldsThePicturesInOrder) {
  const InputBatch batch = load_batch(FakeSet(10, {}), preprocessing(), 3, 4, BadImages::stop);
  EXPECT_EQ(batch.images.sizes().vec(), (std::vector<std::int64_t>{4, 3, 4, 4}));
  EXPECT_EQ(batch.index, (std::vector<std::int64_t>{3, 4, 5, 6}));
  EXPECT_TRUE(batch.skipped.empty());
  for (std::int64_t i = 0; i < 4; ++i) {
    EXPECT_EQ(batch.images[i].min().item<float>(), static_cast<float>(10 * (3 + i)) / 255.0f);
    EXPECT_EQ(batch.images[i].max().item<float>(), static_cast<float>(10 * (3 + i)) / 255.0f);
  }
}

TEST(InputBatch, ABadPictureStopsWithItsNameAndTheWayOut) {
  expect_error(ExitCode::input, {"picture 4: truncated", "data.on_bad_image"}, [] {
    load_batch(FakeSet(10, {4, 5}), preprocessing(), 3, 4, BadImages::stop);
  });
}

TEST(InputBatch, ABadPictureIsSkippedAndNamed) {
  const InputBatch batch = load_batch(FakeSet(10, {3, 5}), preprocessing(), 3, 4, BadImages::skip);
  EXPECT_EQ(batch.index, (std::vector<std::int64_t>{4, 6}));
  EXPECT_EQ(batch.images.size(0), 2);
  EXPECT_EQ(batch.images[0].max().item<float>(), 40.0f / 255.0f);
  EXPECT_EQ(batch.images[1].max().item<float>(), 60.0f / 255.0f);
  EXPECT_EQ(batch.skipped, (std::vector<std::string>{"picture 3: truncated", "picture 5: truncated"}));
  const InputBatch none = load_batch(FakeSet(3, {0, 1, 2}), preprocessing(), 0, 3, BadImages::skip);
  EXPECT_EQ(none.images.size(0), 0);
  EXPECT_EQ(none.skipped.size(), 3u);
}

TEST(InputBatch, TooManySkippedIsAnError) {
  const std::vector<std::string> skipped{"a.jpg: truncated", "b.jpg: empty"};
  EXPECT_NO_THROW(check_skipped(skipped, 2, 200, 0.01));
  EXPECT_NO_THROW(check_skipped({}, 0, 0, 0.0));
  expect_error(ExitCode::input, {"3 of 200", "data.max_bad_share", "a.jpg: truncated"},
               [&] { check_skipped(skipped, 3, 200, 0.01); });
  expect_error(ExitCode::input, {"1 of 1"}, [&] { check_skipped({}, 1, 1, 0.0); });
}

}  // namespace
}  // namespace moextract::model::test
