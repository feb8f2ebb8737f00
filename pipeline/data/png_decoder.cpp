#include "data/png_decoder.h"

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "data/image_limits.h"

namespace moextract::data {
namespace {

/// libpng's state. libpng is C: no exception may pass through it, so errors jump to the guarded() that called it.
class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, std::string_view name) : name_(name), rest_(bytes) {
    png_ = png_create_read_struct(
        PNG_LIBPNG_VER_STRING, this,
        [](png_structp png, png_const_charp text) { static_cast<Decoder*>(png_get_error_ptr(png))->stop(text); },
        [](png_structp, png_const_charp) {});
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw std::bad_alloc();
    }
    png_set_read_fn(png_, this, [](png_structp png, png_bytep out, std::size_t count) {
      static_cast<Decoder*>(png_get_io_ptr(png))->read(out, count);
    });
    // Sizes are checked by us, with one message for all formats.
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  }
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode() {
    guarded([this] { png_read_info(png_, info_); });
    const std::size_t width = png_get_image_width(png_, info_), height = png_get_image_height(png_, info_);
    check_image_size(static_cast<std::int64_t>(width), static_cast<std::int64_t>(height), name_);
    const int type = png_get_color_type(png_, info_);
    const int depth = png_get_bit_depth(png_, info_);
    guarded([this, type, depth] {
      png_set_packing(png_);
      if (depth == 16 && type != PNG_COLOR_TYPE_GRAY) png_set_strip_16(png_);
      png_set_interlace_handling(png_);
      png_read_update_info(png_, info_);
    });

    const std::size_t row_bytes = png_get_rowbytes(png_, info_);
    std::vector<std::uint8_t> raw(row_bytes * height);
    std::vector<png_bytep> rows(height);
    for (std::size_t y = 0; y < height; ++y) rows[y] = raw.data() + y * row_bytes;
    png_bytepp row_pointers = rows.data();
    guarded([this, row_pointers] {
      png_read_image(png_, row_pointers);
      png_read_end(png_, nullptr);
    });

    Image image;
    image.width = static_cast<int>(width);
    image.height = static_cast<int>(height);
    if (type == PNG_COLOR_TYPE_RGB) {
      image.rgb = std::move(raw);
    } else {
      image.rgb.resize(width * height * 3);
      to_rgb(raw, type, depth, image.rgb);
    }
    return image;
  }

 private:
  [[noreturn]] void stop(const char* reason) {
    std::snprintf(message_, sizeof(message_), "%s", reason);
    std::longjmp(jump_, 1);
  }

  /// `step` may only call libpng: a jump out of it runs no destructors.
  template <class Step>
  void guarded(Step step) {
    if (setjmp(jump_) != 0) throw ImageError(fmt::format("{}: damaged PNG: {}", name_, message_));
    step();
  }

  void read(png_bytep out, std::size_t count) {
    if (count > rest_.size()) stop("the file ends too early (truncated)");
    std::memcpy(out, rest_.data(), count);
    rest_ = rest_.subspan(count);
  }

  void to_rgb(std::span<const std::uint8_t> raw, int type, int depth, std::span<std::uint8_t> rgb) const {
    const std::size_t pixels = rgb.size() / 3;
    if (type == PNG_COLOR_TYPE_PALETTE) {
      png_colorp palette = nullptr;
      int colours = 0;
      png_get_PLTE(png_, info_, &palette, &colours);
      for (std::size_t i = 0; i < pixels; ++i) {
        const png_color colour = raw[i] < colours ? palette[raw[i]] : png_color{0, 0, 0};
        rgb[3 * i] = colour.red, rgb[3 * i + 1] = colour.green, rgb[3 * i + 2] = colour.blue;
      }
    } else if (type == PNG_COLOR_TYPE_RGB_ALPHA) {
      for (std::size_t i = 0; i < pixels; ++i) std::copy_n(&raw[4 * i], 3, &rgb[3 * i]);
    } else {
      const std::size_t step = type == PNG_COLOR_TYPE_GRAY_ALPHA || depth == 16 ? 2 : 1;
      const int scale = depth < 8 ? 255 / ((1 << depth) - 1) : 1;
      const bool clip = type == PNG_COLOR_TYPE_GRAY && depth == 16;
      for (std::size_t i = 0; i < pixels; ++i) {
        // 16-bit grey: everything above 255 becomes white, as in Pillow.
        const int grey = clip ? (raw[2 * i] != 0 ? 255 : raw[2 * i + 1]) : raw[step * i] * scale;
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = static_cast<std::uint8_t>(grey);
      }
    }
  }

  std::string_view name_;
  std::span<const std::byte> rest_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::jmp_buf jump_;
  char message_[200] = "";
};

}  // namespace

Image decode_png(std::span<const std::byte> bytes, std::string_view name) {
  return Decoder(bytes, name).decode();
}

}  // namespace moextract::data
