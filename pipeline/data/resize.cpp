// The two passes of the resize. Sums are 32-bit integers, so the order in which they are computed does not matter:
// eight at a time, with AVX2 where the build has it (the default, MOEXTRACT_CPU), else as the compiler finds best.
#include "data/resize.h"

#include <algorithm>
#include <array>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "data/resize_taps.h"

namespace moextract::data {
namespace {

constexpr std::size_t kChannels = 3;
constexpr std::size_t kLanes = 8;
constexpr std::int32_t kHalf = 1 << (kResizeBits - 1);

#if defined(__AVX2__)

/// Eight sums.
struct Sums {
  __m256i lanes;

  static Sums half() { return {_mm256_set1_epi32(kHalf)}; }
  /// Adds weight * values[0..8).
  void add(std::int32_t weight, const std::uint8_t* values) {
    const __m256i wide = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(values)));
    lanes = _mm256_add_epi32(lanes, _mm256_mullo_epi32(_mm256_set1_epi32(weight), wide));
  }
  void store_rounded(std::uint8_t* to) const {
    const __m256i shifted = _mm256_srai_epi32(lanes, kResizeBits);
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(shifted), _mm256_extracti128_si256(shifted, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
  }
};

/// to[c * 8 + r] = rows[r][at + c], 8 by 8 bytes.
void turn8x8(const std::array<const std::uint8_t*, kLanes>& rows, std::size_t at, std::uint8_t* to) {
  const auto load = [&](std::size_t r) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(rows[r] + at)); };
  const __m128i a = _mm_unpacklo_epi8(load(0), load(1)), b = _mm_unpacklo_epi8(load(2), load(3)),
                c = _mm_unpacklo_epi8(load(4), load(5)), d = _mm_unpacklo_epi8(load(6), load(7));
  const __m128i ab_low = _mm_unpacklo_epi16(a, b), ab_high = _mm_unpackhi_epi16(a, b),
                cd_low = _mm_unpacklo_epi16(c, d), cd_high = _mm_unpackhi_epi16(c, d);
  auto* out = reinterpret_cast<__m128i*>(to);
  _mm_storeu_si128(out, _mm_unpacklo_epi32(ab_low, cd_low));
  _mm_storeu_si128(out + 1, _mm_unpackhi_epi32(ab_low, cd_low));
  _mm_storeu_si128(out + 2, _mm_unpacklo_epi32(ab_high, cd_high));
  _mm_storeu_si128(out + 3, _mm_unpackhi_epi32(ab_high, cd_high));
}

#else

struct Sums {
  std::array<std::int32_t, kLanes> lanes;

  static Sums half() {
    Sums sums;
    sums.lanes.fill(kHalf);
    return sums;
  }
  void add(std::int32_t weight, const std::uint8_t* values) {
    for (std::size_t i = 0; i < kLanes; ++i) lanes[i] += weight * values[i];
  }
  void store_rounded(std::uint8_t* to) const {
    for (std::size_t i = 0; i < kLanes; ++i)
      to[i] = static_cast<std::uint8_t>(std::clamp(lanes[i] >> kResizeBits, 0, 255));
  }
};

void turn8x8(const std::array<const std::uint8_t*, kLanes>& rows, std::size_t at, std::uint8_t* to) {
  for (std::size_t c = 0; c < kLanes; ++c) {
    for (std::size_t r = 0; r < kLanes; ++r) to[c * kLanes + r] = rows[r][at + c];
  }
}

#endif

std::uint8_t rounded(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kResizeBits, 0, 255));
}

/// Eight rows (the last may be repeated), bytes from .. to-1 of each: turned[(i - from) * 8 + r].
void turn_rows(const std::array<const std::uint8_t*, kLanes>& rows, std::size_t from, std::size_t to,
               std::uint8_t* turned) {
  std::size_t i = from;
  for (; i + kLanes <= to; i += kLanes) turn8x8(rows, i, turned + (i - from) * kLanes);
  for (; i < to; ++i) {
    for (std::size_t r = 0; r < kLanes; ++r) turned[(i - from) * kLanes + r] = rows[r][i];
  }
}

/// Rows first_row .. first_row + rows - 1 of the input, each to the columns that `taps` stand for. Eight rows at a time
/// are turned so that they lie beside each other: a sum's eight lanes are eight rows.
Image resize_width(const Image& in, int first_row, int rows, const ResizeTaps& taps) {
  const std::size_t width = taps.first.size();
  Image out{static_cast<int>(width), rows,
            std::vector<std::uint8_t>(width * static_cast<std::size_t>(rows) * kChannels)};
  const std::size_t in_row = static_cast<std::size_t>(in.width) * kChannels, out_row = width * kChannels;
  const std::size_t from = static_cast<std::size_t>(taps.first.front()) * kChannels;
  const std::size_t to = static_cast<std::size_t>(taps.end()) * kChannels;
  std::vector<std::uint8_t> turned((to - from) * kLanes);
  constexpr std::size_t kGroup = 8 * kChannels;  // values of eight output pixels
  std::array<std::uint8_t, kGroup * kLanes> tile;
  for (std::size_t top = 0; top < static_cast<std::size_t>(rows); top += kLanes) {
    const std::size_t block = std::min(kLanes, static_cast<std::size_t>(rows) - top);
    std::array<const std::uint8_t*, kLanes> sources;
    for (std::size_t r = 0; r < kLanes; ++r) {
      sources[r] = in.rgb.data() + (static_cast<std::size_t>(first_row) + top + std::min(r, block - 1)) * in_row;
    }
    turn_rows(sources, from, to, turned.data());
    for (std::size_t x = 0; x < width; x += 8) {
      const std::size_t columns = std::min<std::size_t>(8, width - x);
      for (std::size_t column = 0; column < columns; ++column) {
        const std::int32_t* weights = taps.of(x + column);
        const std::uint8_t* values =
            turned.data() + (static_cast<std::size_t>(taps.first[x + column]) * kChannels - from) * kLanes;
        Sums red = Sums::half(), green = red, blue = red;
        for (int t = 0; t < taps.count[x + column]; ++t, values += kChannels * kLanes) {
          red.add(weights[t], values);
          green.add(weights[t], values + kLanes);
          blue.add(weights[t], values + 2 * kLanes);
        }
        std::uint8_t* at = tile.data() + column * kChannels * kLanes;
        red.store_rounded(at);
        green.store_rounded(at + kLanes);
        blue.store_rounded(at + 2 * kLanes);
      }
      // Back: tile[value][row] to rows of values.
      std::uint8_t* target = out.rgb.data() + top * out_row + x * kChannels;
      if (columns == 8) {
        std::array<const std::uint8_t*, kLanes> lines;
        std::array<std::uint8_t, 64> square;
        for (std::size_t part = 0; part < kChannels; ++part) {
          for (std::size_t i = 0; i < kLanes; ++i) lines[i] = tile.data() + (part * 8 + i) * kLanes;
          turn8x8(lines, 0, square.data());
          for (std::size_t r = 0; r < block; ++r) std::memcpy(target + r * out_row + part * 8, &square[r * 8], 8);
        }
      } else {
        for (std::size_t r = 0; r < block; ++r) {
          for (std::size_t i = 0; i < columns * kChannels; ++i) target[r * out_row + i] = tile[i * kLanes + r];
        }
      }
    }
  }
  return out;
}

/// `taps` refer to rows of the original picture, of which `in` begins at `first_row`.
Image resize_height(const Image& in, int first_row, const ResizeTaps& taps) {
  const std::size_t height = taps.first.size(), row = static_cast<std::size_t>(in.width) * kChannels;
  Image out{in.width, static_cast<int>(height), std::vector<std::uint8_t>(height * row)};
  constexpr std::size_t kVectors = 4;
  for (std::size_t y = 0; y < height; ++y) {
    const std::int32_t* weights = taps.of(y);
    const int count = taps.count[y];
    const std::uint8_t* source = in.rgb.data() + static_cast<std::size_t>(taps.first[y] - first_row) * row;
    std::uint8_t* target = out.rgb.data() + y * row;
    std::size_t i = 0;
    for (; i + kVectors * kLanes <= row; i += kVectors * kLanes) {
      std::array<Sums, kVectors> sums;
      sums.fill(Sums::half());
      const std::uint8_t* values = source + i;
      for (int t = 0; t < count; ++t, values += row) {
        for (std::size_t v = 0; v < kVectors; ++v) sums[v].add(weights[t], values + v * kLanes);
      }
      for (std::size_t v = 0; v < kVectors; ++v) sums[v].store_rounded(target + i + v * kLanes);
    }
    for (; i < row; ++i) {
      std::int32_t sum = kHalf;
      for (int t = 0; t < count; ++t) sum += weights[t] * source[i + static_cast<std::size_t>(t) * row];
      target[i] = rounded(sum);
    }
  }
  return out;
}

Image cut(const Image& image, const Region& region) {
  if (region.width == image.width && region.height == image.height) return image;
  const std::size_t row = static_cast<std::size_t>(region.width) * kChannels;
  Image out{region.width, region.height, std::vector<std::uint8_t>(row * static_cast<std::size_t>(region.height))};
  for (int y = 0; y < region.height; ++y) {
    const std::size_t from =
        (static_cast<std::size_t>(region.top + y) * image.width + static_cast<std::size_t>(region.left)) * kChannels;
    std::copy_n(image.rgb.begin() + static_cast<std::ptrdiff_t>(from), row,
                out.rgb.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(y) * row));
  }
  return out;
}

}  // namespace

Image resize_region(const Image& image, int width, int height, const Region& region, Interpolation interpolation) {
  MOEX_ASSERT(width >= 1 && height >= 1, "resize to nothing");
  MOEX_ASSERT(
      image.rgb.size() == static_cast<std::size_t>(image.width) * image.height * kChannels && !image.rgb.empty(),
      "picture and its size disagree");
  MOEX_ASSERT(region.left >= 0 && region.top >= 0 && region.width >= 1 && region.height >= 1 &&
                  region.left + region.width <= width && region.top + region.height <= height,
              "the region lies in the resized picture");
  const bool horizontal = width != image.width, vertical = height != image.height;
  if (!horizontal && !vertical) return cut(image, region);
  if (!horizontal) {
    const ResizeTaps rows = make_resize_taps(image.height, height, region.top, region.height, interpolation);
    const int first_row = rows.first.front();
    return resize_height(cut(image, {region.left, first_row, region.width, rows.end() - first_row}), first_row, rows);
  }
  const ResizeTaps columns = make_resize_taps(image.width, width, region.left, region.width, interpolation);
  if (!vertical) return resize_width(image, region.top, region.height, columns);
  const ResizeTaps rows = make_resize_taps(image.height, height, region.top, region.height, interpolation);
  const int first_row = rows.first.front();
  return resize_height(resize_width(image, first_row, rows.end() - first_row, columns), first_row, rows);
}

Image resize(const Image& image, int width, int height, Interpolation interpolation) {
  return resize_region(image, width, height, {0, 0, width, height}, interpolation);
}

}  // namespace moextract::data
