// Tells JPEG and PNG apart and refuses what is neither, by name where it is a known format.
#include <algorithm>
#include <array>

#include "data/image.h"
#include "data/image_limits.h"
#include "data/jpeg_decoder.h"
#include "data/png_decoder.h"

namespace moextract::data {
namespace {

struct Signature {
  std::string_view start;
  std::string_view format;
};

constexpr std::array<Signature, 8> kForeign{{{"GIF8", "GIF"},
                                             {"BM", "BMP"},
                                             {"RIFF", "WebP"},
                                             {"II*", "TIFF"},
                                             {"MM", "TIFF"},
                                             {"\x1f\x8b", "gzip"},
                                             {"<", "HTML or XML"},
                                             {"version https://git-lfs", "a Git LFS pointer"}}};

bool starts_with(std::span<const std::byte> bytes, std::string_view start) {
  return bytes.size() >= start.size() && std::equal(start.begin(), start.end(), bytes.begin(),
                                                    [](char c, std::byte b) { return static_cast<std::byte>(c) == b; });
}

}  // namespace

void check_image_size(std::int64_t width, std::int64_t height, std::string_view name) {
  if (width < 1 || height < 1) throw ImageError(fmt::format("{}: the picture is {} x {} pixels", name, width, height));
  if (width > kMaxImageSide || height > kMaxImageSide || width * height > kMaxImagePixels) {
    throw ImageError(
        fmt::format("{}: the picture is {} x {} pixels; at most {} a side and {} million in all are read. "
                    "Scale it down, or leave it out if its header is damaged.",
                    name, width, height, kMaxImageSide, kMaxImagePixels / 1'000'000));
  }
}

Image decode_image(std::span<const std::byte> bytes, std::string_view name) {
  if (bytes.empty()) throw ImageError(fmt::format("{}: the file is empty", name));
  if (starts_with(bytes, "\xff\xd8\xff")) return decode_jpeg(bytes, name);
  if (starts_with(bytes, "\x89PNG\r\n\x1a\n")) return decode_png(bytes, name);
  for (const Signature& foreign : kForeign) {
    if (starts_with(bytes, foreign.start)) {
      throw ImageError(
          fmt::format("{}: neither JPEG nor PNG, it looks like {}; convert it to PNG", name, foreign.format));
    }
  }
  throw ImageError(fmt::format("{}: neither JPEG nor PNG by its first bytes, or damaged there ({} bytes in all)", name,
                               bytes.size()));
}

}  // namespace moextract::data
