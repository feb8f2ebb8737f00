#include "data/jpeg_decoder.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE and does not include it

#include <jerror.h>
#include <jpeglib.h>

#include "data/image_limits.h"

namespace moextract::data {
namespace {

// A hostile progressive file can repeat scans of the whole picture in a few bytes each; real ones have about ten.
constexpr int kMaxScans = 500;

/// libjpeg's state with error handling that comes back here instead of calling exit(). libjpeg is C: no exception may
/// pass through it, so errors jump to the guarded() that called it.
class Decoder {
 public:
  Decoder(std::span<const std::byte> bytes, std::string_view name) : name_(name) {
    info_.err = jpeg_std_error(&errors_);
    info_.client_data = this;
    errors_.error_exit = [](j_common_ptr info) { self(info)->stop(); };
    errors_.emit_message = [](j_common_ptr info, int level) {
      // Other warnings (a bad Huffman code, stray bytes) give a picture, here as in Pillow.
      const int code = info->err->msg_code;
      if (level < 0 && (code == JWRN_HIT_MARKER || code == JWRN_JPEG_EOF)) self(info)->stop();
    };
    errors_.output_message = [](j_common_ptr) {};
    guarded([this] { jpeg_create_decompress(&info_); });

    progress_.progress_monitor = [](j_common_ptr info) {
      if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number > kMaxScans) {
        self(info)->stop("more scans than any picture needs");
      }
    };
    info_.progress = &progress_;

    source_.next_input_byte = reinterpret_cast<const JOCTET*>(bytes.data());
    source_.bytes_in_buffer = bytes.size();
    source_.init_source = [](j_decompress_ptr) {};
    source_.term_source = [](j_decompress_ptr) {};
    source_.resync_to_restart = jpeg_resync_to_restart;
    // libjpeg's own memory source would invent an end mark here and return a grey remainder.
    source_.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
      self(reinterpret_cast<j_common_ptr>(info))->stop("the file ends too early (truncated)");
    };
    source_.skip_input_data = [](j_decompress_ptr info, long count) {
      if (count <= 0) return;
      if (static_cast<unsigned long>(count) > info->src->bytes_in_buffer) info->src->fill_input_buffer(info);
      info->src->next_input_byte += count;
      info->src->bytes_in_buffer -= static_cast<std::size_t>(count);
    };
    info_.src = &source_;
  }
  ~Decoder() { jpeg_destroy_decompress(&info_); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  Image decode() {
    guarded([this] { jpeg_read_header(&info_, TRUE); });
    check_image_size(info_.image_width, info_.image_height, name_);
    switch (info_.num_components) {
      case 1:
        info_.out_color_space = JCS_GRAYSCALE;
        break;
      case 3:
        info_.out_color_space = JCS_RGB;
        break;
      case 4:
        info_.out_color_space = JCS_CMYK;
        break;
      default:
        throw ImageError(fmt::format("{}: JPEG with {} colour components", name_, info_.num_components));
    }
    // What Pillow leaves at libjpeg's defaults, said aloud because equal bytes hang on it.
    info_.dct_method = JDCT_ISLOW;
    info_.do_fancy_upsampling = TRUE;
    guarded([this] { jpeg_start_decompress(&info_); });

    Image image;
    image.width = static_cast<int>(info_.output_width);
    image.height = static_cast<int>(info_.output_height);
    const auto components = static_cast<std::size_t>(info_.output_components);
    const std::size_t row_pixels = info_.output_width;
    image.rgb.resize(row_pixels * info_.output_height * 3);
    std::vector<std::uint8_t> row(components == 3 ? 0 : row_pixels * components);
    for (std::size_t y = 0; y < info_.output_height; ++y) {
      std::uint8_t* out = image.rgb.data() + y * row_pixels * 3;
      JSAMPROW target = components == 3 ? out : row.data();
      guarded([this, &target] { jpeg_read_scanlines(&info_, &target, 1); });
      if (components == 1) spread_grey(row, out);
      if (components == 4) mix_cmyk(row, out);
    }
    // Reads on to the end mark, so that a file cut within its last bytes is found too.
    guarded([this] { jpeg_finish_decompress(&info_); });
    return image;
  }

 private:
  static Decoder* self(j_common_ptr info) { return static_cast<Decoder*>(info->client_data); }

  [[noreturn]] void stop(const char* reason = nullptr) {
    if (reason) {
      std::snprintf(message_, sizeof(message_), "%s", reason);
    } else {
      (*errors_.format_message)(reinterpret_cast<j_common_ptr>(&info_), message_);
    }
    std::longjmp(jump_, 1);
  }

  /// `step` may only call libjpeg: a jump out of it runs no destructors.
  template <class Step>
  void guarded(Step step) {
    if (setjmp(jump_) != 0) throw ImageError(fmt::format("{}: damaged JPEG: {}", name_, message_));
    step();
  }

  static void spread_grey(std::span<const std::uint8_t> row, std::uint8_t* out) {
    for (std::size_t x = 0; x < row.size(); ++x) out[3 * x] = out[3 * x + 1] = out[3 * x + 2] = row[x];
  }

  /// Pillow takes every four-component JPEG as inverted (as Adobe writes it), then
  /// RGB = (255 - K) - muldiv255(CMY, 255 - K).
  static void mix_cmyk(std::span<const std::uint8_t> row, std::uint8_t* out) {
    for (std::size_t x = 0; x < row.size() / 4; ++x) {
      const int white = row[4 * x + 3];  // 255 - K of the inverted sample
      for (std::size_t c = 0; c < 3; ++c) {
        const int product = (255 - row[4 * x + c]) * white + 128;
        out[3 * x + c] = static_cast<std::uint8_t>(white - (((product >> 8) + product) >> 8));
      }
    }
  }

  std::string_view name_;
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
  jpeg_progress_mgr progress_{};
  jpeg_source_mgr source_{};
  std::jmp_buf jump_;
  char message_[JMSG_LENGTH_MAX] = "";
};

}  // namespace

Image decode_jpeg(std::span<const std::byte> bytes, std::string_view name) {
  return Decoder(bytes, name).decode();
}

}  // namespace moextract::data
