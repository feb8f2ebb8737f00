#include "data/idx_file.h"

#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "core/error.h"
#include "data/image_limits.h"

namespace moextract::data {
namespace {

constexpr std::uint32_t kImagesMagic = 0x00000803, kLabelsMagic = 0x00000801;
// More than any set of this family by far; a header must not be able to ask for all memory.
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 36;

/// gzopen reads plain files too.
class IdxReader {
 public:
  explicit IdxReader(const std::filesystem::path& path) : path_(path.string()), file_(gzopen(path.c_str(), "rb")) {
    if (!file_) fail(ExitCode::input, "{}: cannot open ({}); check the path", path_, std::strerror(errno));
    gzbuffer(file_.get(), 1 << 17);
  }

  std::uint32_t number() {
    std::array<std::uint8_t, 4> bytes{};
    if (read(bytes.data(), bytes.size()) != bytes.size()) {
      fail(ExitCode::input, "{}: the file ends within its header; fetch it again", path_);
    }
    return std::uint32_t{bytes[0]} << 24 | std::uint32_t{bytes[1]} << 16 | std::uint32_t{bytes[2]} << 8 | bytes[3];
  }

  void expect_magic(std::uint32_t expected) {
    const std::uint32_t magic = number();
    if (magic == expected) return;
    const char* hint = "this is not an IDX file of unsigned bytes";
    if (magic == kLabelsMagic) hint = "this is a label file: are source and labels swapped?";
    if (magic == kImagesMagic) hint = "this is an image file: are source and labels swapped?";
    fail(ExitCode::input, "{}: magic number 0x{:08x}, expected 0x{:08x}; {}", path_, magic, expected, hint);
  }

  IdxShape image_shape() {
    expect_magic(kImagesMagic);
    IdxShape shape;
    shape.count = number();
    const std::int64_t height = number(), width = number();
    check_image_size(width, height, path_);
    shape.height = static_cast<int>(height);
    shape.width = static_cast<int>(width);
    return shape;
  }

  /// The rest of the file, which must be `size` bytes. Grows with what is there, not with what the header claims.
  std::vector<std::uint8_t> payload(std::int64_t size, const std::string& claim) {
    if (size > kMaxBytes)
      fail(ExitCode::input, "{}: its header claims {}, {} bytes; it is damaged", path_, claim, size);
    std::vector<std::uint8_t> bytes;
    const auto wanted = static_cast<std::size_t>(size);
    while (bytes.size() < wanted) {
      const std::size_t have = bytes.size(), step = std::min<std::size_t>(wanted - have, std::size_t{1} << 24);
      bytes.resize(have + step);
      const std::size_t got = read(bytes.data() + have, step);
      if (got < step) {
        fail(ExitCode::input, "{}: its header claims {}, but only {} of {} bytes follow; fetch it again", path_, claim,
             have + got, size);
      }
    }
    std::uint8_t more = 0;
    if (read(&more, 1) != 0) {
      fail(ExitCode::input, "{}: its header claims {}, but more than these {} bytes follow", path_, claim, size);
    }
    return bytes;
  }

 private:
  std::size_t read(void* out, std::size_t count) {
    const int got = gzread(file_.get(), out, static_cast<unsigned>(count));
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    // A gzip stream that stops early gives its bytes and sets Z_BUF_ERROR.
    if (got < 0 || (code != Z_OK && code != Z_STREAM_END)) {
      fail(ExitCode::input, "{}: cannot read ({}); fetch it again", path_,
           code == Z_ERRNO       ? std::strerror(errno)
           : code == Z_BUF_ERROR ? "the gzip stream is cut short"
                                 : text);
    }
    return static_cast<std::size_t>(got);
  }

  struct Close {
    void operator()(gzFile_s* file) const { gzclose(file); }
  };
  std::string path_;
  std::unique_ptr<gzFile_s, Close> file_;
};

}  // namespace

IdxShape read_idx_shape(const std::filesystem::path& path) {
  return IdxReader(path).image_shape();
}

IdxImages read_idx_images(const std::filesystem::path& path) {
  IdxReader reader(path);
  IdxImages images{reader.image_shape(), {}};
  const auto& [count, height, width] = images.shape;
  images.pixels =
      reader.payload(count * height * width, fmt::format("{} images of {} x {} pixels", count, width, height));
  return images;
}

std::vector<std::uint8_t> read_idx_labels(const std::filesystem::path& path) {
  IdxReader reader(path);
  reader.expect_magic(kLabelsMagic);
  const std::int64_t count = reader.number();
  return reader.payload(count, fmt::format("{} labels", count));
}

}  // namespace moextract::data
