// Augmentation: drawn from the seed alone, and each kind does what it says.
#include <algorithm>
#include <set>

#include "data/preprocess.h"
#include "test_files.h"

namespace moextract::data::test {
namespace {

constexpr int kSide = 20;

/// All pixels different and none black.
Image distinct() {
  Image image{kSide, kSide, {}};
  for (int i = 0; i < kSide * kSide; ++i) {
    image.rgb.insert(image.rgb.end(),
                     {static_cast<std::uint8_t>(1 + i % 255), static_cast<std::uint8_t>(1 + i / 255), 9});
  }
  return image;
}

/// Values 0..255 again, so that pixels can be compared.
PreprocessParams plain() {
  PreprocessParams params;
  params.crop = kSide;
  params.mean = {0, 0, 0};
  params.std = {1, 1, 1};
  return params;
}

std::vector<float> augmented(const AugmentParams& augment, std::uint64_t seed) {
  std::vector<float> out(3 * kSide * kSide);
  preprocess_augmented(distinct(), plain(), augment, seed, out);
  return out;
}

std::vector<float> original() {
  std::vector<float> out(3 * kSide * kSide);
  preprocess(distinct(), plain(), out);
  return out;
}

TEST(Augment, NothingAskedNothingDone) {
  EXPECT_EQ(augmented({false, 0, 0.0}, 5), original());
}

TEST(Augment, SameSeedSameResult) {
  const AugmentParams all{true, 4, 0.5};
  std::set<std::vector<float>> results;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(augmented(all, seed), augmented(all, seed));
    results.insert(augmented(all, seed));
  }
  EXPECT_GT(results.size(), 15u);
}

TEST(Augment, FlipIsAMirrorHalfOfTheTime) {
  std::vector<float> mirrored = original();
  for (std::size_t row = 0; row < 3 * kSide; ++row) {
    std::reverse(mirrored.begin() + static_cast<std::ptrdiff_t>(row * kSide),
                 mirrored.begin() + static_cast<std::ptrdiff_t>((row + 1) * kSide));
  }
  int flips = 0;
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    const std::vector<float> out = augmented({true, 0, 0.0}, seed);
    if (out == mirrored) {
      ++flips;
    } else {
      ASSERT_EQ(out, original());
    }
  }
  EXPECT_NEAR(flips, 500, 80);  // five standard deviations
}

TEST(Augment, ShiftMovesWithinBoundsAndFillsBlack) {
  constexpr int kShift = 3;
  const std::vector<float> before = original();
  std::set<std::pair<int, int>> moves;
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    const std::vector<float> out = augmented({false, kShift, 0.0}, seed);
    // The centre pixel is always there; its colour tells where it came from.
    bool explained = false;
    for (int dy = -kShift; dy <= kShift && !explained; ++dy) {
      for (int dx = -kShift; dx <= kShift && !explained; ++dx) {
        explained = true;
        for (int i = 0; i < 3 * kSide * kSide && explained; ++i) {
          const int x = i % kSide - dx, y = i / kSide % kSide - dy, c = i / (kSide * kSide);
          const bool inside = x >= 0 && x < kSide && y >= 0 && y < kSide;
          explained = out[static_cast<std::size_t>(i)] ==
                      (inside ? before[static_cast<std::size_t>((c * kSide + y) * kSide + x)] : 0.0f);
        }
        if (explained) moves.insert({dx, dy});
      }
    }
    ASSERT_TRUE(explained) << seed;
  }
  EXPECT_EQ(moves.size(), 49u);
}

TEST(Augment, EraseBlackensOneRectangle) {
  const std::vector<float> before = original();
  int erased = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const std::vector<float> out = augmented({false, 0, 0.25}, seed);
    int left = kSide, right = -1, top = kSide, bottom = -1, pixels = 0;
    for (int i = 0; i < kSide * kSide; ++i) {
      if (out[static_cast<std::size_t>(i)] != 0.0f) {
        ASSERT_EQ(out[static_cast<std::size_t>(i)], before[static_cast<std::size_t>(i)]);
        continue;
      }
      left = std::min(left, i % kSide), right = std::max(right, i % kSide);
      top = std::min(top, i / kSide), bottom = std::max(bottom, i / kSide);
      ++pixels;
    }
    if (pixels == 0) continue;
    ++erased;
    EXPECT_EQ(pixels, (right - left + 1) * (bottom - top + 1));
    EXPECT_GE(pixels, 0.01 * kSide * kSide);  // whole pixels make it smaller than the 2 % drawn
    EXPECT_LE(pixels, 0.20 * kSide * kSide);
  }
  EXPECT_NEAR(erased, 100, 45);
}

TEST(Preprocess, HopelesslySlimPictureIsAnImageError) {
  const Image slim{16000, 1, std::vector<std::uint8_t>(16000 * 3, 7)};
  PreprocessParams params;
  params.resize = 248;
  std::vector<float> out(3 * 224 * 224);
  EXPECT_THROW(preprocess(slim, params, out), ImageError);
}

}  // namespace
}  // namespace moextract::data::test
