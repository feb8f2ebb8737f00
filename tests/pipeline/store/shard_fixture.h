// A small shard whose every value follows from a formula, and a folder that goes when the test ends.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/float16.h"
#include "store/activation_shard.h"

namespace moextract::store {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    static int count = 0;
    path_ = std::filesystem::path(testing::TempDir()) /
            ("moextract_store_" + std::to_string(getpid()) + "_" + std::to_string(count++));
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::size_t entries() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

inline std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void put_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// Runs `body`, which must throw UserError with `code`; gives its message.
template <class Body>
std::string user_error(ExitCode code, Body&& body) {
  try {
    body();
  } catch (const UserError& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no UserError";
  return {};
}

inline std::uint16_t half_of(float value) {
  std::uint16_t bits = 0;
  to_float16(std::span(&value, 1), std::span(&bits, 1));
  return bits;
}

/// Exact in float16: multiples of 1/8 below 64. tests/golden/read_shard.py has the same formula.
inline std::uint16_t example_value(std::int64_t layer, Tap tap, std::int64_t row, std::int64_t column) {
  return half_of(static_cast<float>((row * 7 + column * 3 + layer * 5 + (tap == Tap::h ? 1 : 0)) % 512) / 8.0f - 16.0f);
}

/// What an example shard holds; image i of the shard has i % 4 tokens, so some have none.
struct ExampleShard {
  ShardInfo info{"0123abcd", "images", 17, 100, 60, {{2, 6, 24}, {0, 0, 5}, {7, 3, 0}}};
  std::int64_t images = 20;
  std::int64_t first_row = 0;  ///< of the formula
  Compression compression = Compression::none;

  /// Token positions 0, 2, 4, ...; every second index of the shard's range has an image.
  std::vector<ShardImage> all_images() const {
    std::vector<ShardImage> list;
    for (std::int64_t i = 0; i < images; ++i) {
      ShardImage image{
          info.first_image + 2 * i, "n0/\xc3\xa9_" + std::to_string(i * i), static_cast<std::int32_t>(i), {}};
      for (std::int32_t t = 0; t < i % 4; ++t) image.tokens.push_back(2 * t);
      list.push_back(image);
    }
    return list;
  }

  static std::int64_t rows_of(std::span<const ShardImage> list) {
    std::int64_t rows = 0;
    for (const ShardImage& image : list) rows += static_cast<std::int64_t>(image.tokens.size());
    return rows;
  }
  std::int64_t rows() const { return rows_of(all_images()); }

  std::vector<std::vector<std::uint16_t>> values(std::int64_t first, std::int64_t count) const {
    std::vector<std::vector<std::uint16_t>> all;
    for (const ShardLayer& layer : info.layers) {
      for (const Tap tap : {Tap::x, Tap::h}) {
        std::vector<std::uint16_t>& one = all.emplace_back();
        const std::int64_t width = tap == Tap::x ? layer.x_width : layer.h_width;
        for (std::int64_t r = first; r < first + count; ++r) {
          for (std::int64_t c = 0; c < width; ++c) one.push_back(example_value(layer.layer, tap, first_row + r, c));
        }
      }
    }
    return all;
  }

  /// Appends `images_at_once` images a call.
  void write(const std::filesystem::path& path, std::int64_t images_at_once = 1000) const {
    ShardWriter writer(path, info, compression);
    const std::vector<ShardImage> list = all_images();
    std::int64_t row = 0;
    for (std::int64_t i = 0; i < images; i += images_at_once) {
      const auto part = std::span(list).subspan(static_cast<std::size_t>(i),
                                                static_cast<std::size_t>(std::min(images_at_once, images - i)));
      writer.append(part, values(row, rows_of(part)));
      row += rows_of(part);
    }
    writer.finish();
  }

  /// Whether `reader` gives everything as written.
  void expect_in(const ShardReader& reader) const {
    EXPECT_EQ(reader.info().model_hash, info.model_hash);
    EXPECT_EQ(reader.info().data_fingerprint, info.data_fingerprint);
    EXPECT_EQ(reader.info().seed, info.seed);
    EXPECT_EQ(reader.info().first_image, info.first_image);
    EXPECT_EQ(reader.info().image_count, info.image_count);
    ASSERT_EQ(reader.info().layers.size(), info.layers.size());
    ASSERT_EQ(reader.rows(), rows());
    std::vector<std::int32_t> tokens;
    std::vector<std::int64_t> row_images;
    const std::vector<ShardImage> list = all_images(), read = reader.images();
    ASSERT_EQ(read.size(), list.size());
    for (std::size_t i = 0; i < list.size(); ++i) {
      EXPECT_EQ(read[i].index, list[i].index);
      EXPECT_EQ(read[i].id, list[i].id);
      EXPECT_EQ(read[i].label, list[i].label);
      tokens.insert(tokens.end(), list[i].tokens.begin(), list[i].tokens.end());
      row_images.insert(row_images.end(), list[i].tokens.size(), list[i].index);
    }
    EXPECT_EQ(reader.tokens(), tokens);
    EXPECT_EQ(reader.row_images(), row_images);
    const auto expected = values(0, rows());
    for (std::size_t i = 0; i < info.layers.size(); ++i) {
      const ShardLayer& layer = info.layers[i];
      EXPECT_EQ(reader.info().layers[i].layer, layer.layer);
      for (const Tap tap : {Tap::x, Tap::h}) {
        const std::int64_t width = tap == Tap::x ? layer.x_width : layer.h_width;
        ASSERT_EQ(reader.width(layer.layer, tap), width);
        if (width == 0) continue;
        std::vector<std::uint16_t> out(static_cast<std::size_t>(rows() * width));
        reader.read_rows(layer.layer, tap, 0, rows(), out);
        EXPECT_EQ(out, expected[2 * i + (tap == Tap::h ? 1 : 0)]);
      }
    }
  }
};

}  // namespace moextract::store
