#include "data/tar_index.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <string_view>

#include "core/error.h"

namespace moextract::data {
namespace {

constexpr std::int64_t kBlock = 512;
// Names and pax records; a longer one is damage.
constexpr std::int64_t kMaxExtension = 1 << 20;

using Block = std::array<std::byte, kBlock>;

/// Reads one archive from front to end.
class Reader {
 public:
  explicit Reader(const RandomAccessFile& file) : file_(file) {}

  std::vector<TarMember> read_all() {
    if (file_.size() == 0) fail(ExitCode::input, "{}: the tar file is empty", file_.path().string());
    while (read_header()) {
      const char type = static_cast<char>(block_[156]);
      const bool has_data = type != '1' && type != '2' && type != '5';  // their size field may say anything
      const std::int64_t size = !has_data ? 0 : long_size_ && is_file(type) ? *long_size_ : number(124, 12, "size");
      const std::int64_t start = offset_ + kBlock;
      if (size < 0 || size > file_.size() - start) {
        fail(ExitCode::input,
             "{}: cut short: the member '{}' (header at byte {}) has {} bytes, the file only {} more; fetch it again",
             path(), name(), offset_, size, file_.size() - start);
      }
      switch (type) {
        case 'L':
          long_name_ = text(start, size);
          break;
        case 'K':
          break;  // a long link target
        case 'x':
          read_pax(start, size);
          break;
        case 'g':
          break;  // archive-wide pax records: comments, times
        case 'S':
          fail(ExitCode::input, "{}: '{}' is a sparse member (byte {}); pack without --sparse", path(), name(),
               offset_);
        default:
          if (is_file(type)) {
            members_.push_back({name(), start, size, false});
          } else if (type == '1' || type == '2') {
            members_.push_back({name(), start, 0, true});
          }
          long_name_.reset();
          long_size_.reset();
      }
      offset_ = start + (size + kBlock - 1) / kBlock * kBlock;
    }
    return std::move(members_);
  }

 private:
  static bool is_file(char type) { return type == '0' || type == '\0' || type == '7'; }
  std::string path() const { return file_.path().string(); }

  /// False at the end mark.
  bool read_header() {
    if (file_.size() - offset_ < kBlock) {
      fail(ExitCode::input,
           "{}: cut short: it ends at byte {} without the two blocks of zeros that end a tar; fetch it "
           "again",
           path(), file_.size());
    }
    file_.read(offset_, block_);
    if (std::all_of(block_.begin(), block_.end(), [](std::byte b) { return b == std::byte{0}; })) return false;
    unsigned sum = 0;
    for (std::size_t i = 0; i < block_.size(); ++i) {
      sum += i >= 148 && i < 156 ? ' ' : std::to_integer<unsigned>(block_[i]);  // its own field counts as blanks
    }
    if (offset_ == 0 && block_[0] == std::byte{0x1f} && block_[1] == std::byte{0x8b}) {
      fail(ExitCode::input, "{}: this tar is compressed, and pictures are read in place: gunzip it first", path());
    }
    if (number(148, 8, "checksum") != sum) {
      fail(ExitCode::input,
           "{}: no tar header at byte {} (its checksum is wrong): not a tar file, or damaged before there", path(),
           offset_);
    }
    return true;
  }

  std::string_view field(std::size_t at, std::size_t length) const {
    const std::string_view whole(reinterpret_cast<const char*>(block_.data()) + at, length);
    return whole.substr(0, whole.find('\0'));
  }

  /// Octal digits, or GNU's big-endian binary marked by the first bit.
  std::int64_t number(std::size_t at, std::size_t length, const char* what) const {
    if ((block_[at] & std::byte{0x80}) != std::byte{0}) {
      std::int64_t value = std::to_integer<std::int64_t>(block_[at] & std::byte{0x3f});
      for (std::size_t i = 1; i < length; ++i) {
        if (value > std::numeric_limits<std::int64_t>::max() >> 9) bad_number(what);
        value = value << 8 | std::to_integer<std::int64_t>(block_[at + i]);
      }
      return value;
    }
    std::string_view digits = field(at, length);
    digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
    digits = digits.substr(0, digits.find(' '));
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
    if (digits.empty() ? false : error != std::errc{} || end != digits.data() + digits.size()) bad_number(what);
    return value;
  }

  [[noreturn]] void bad_number(const char* what) const {
    fail(ExitCode::input,
         "{}: no tar header at byte {} (its {} is not a number): not a tar file, or damaged before there", path(),
         offset_, what);
  }

  std::string name() const {
    std::string name;
    if (long_name_) {
      name = *long_name_;
    } else {
      // Bytes 345.. are a prefix in POSIX archives only; GNU's own format keeps times there.
      const bool posix = field(257, 6) == "ustar" && block_[262] == std::byte{0};
      if (posix && !field(345, 155).empty()) name = std::string(field(345, 155)) + "/";
      name += field(0, 100);
    }
    while (name.starts_with("./")) name.erase(0, 2);
    return name;
  }

  std::string text(std::int64_t start, std::int64_t size) const {
    if (size > kMaxExtension) {
      fail(ExitCode::input, "{}: a name of {} bytes at byte {}: the tar is damaged", path(), size, offset_);
    }
    const std::vector<std::byte> bytes = file_.read(start, size);
    const std::string_view whole(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return std::string(whole.substr(0, whole.find('\0')));
  }

  /// Records "<length> <key>=<value>\n", the length counting itself.
  void read_pax(std::int64_t start, std::int64_t size) {
    const std::string records = text(start, size);
    std::string_view rest = records;
    while (!rest.empty()) {
      std::size_t length = 0;
      const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
      const auto head = static_cast<std::size_t>(end - rest.data()) + 1;
      if (error != std::errc{} || length <= head || length > rest.size() || rest[length - 1] != '\n') {
        fail(ExitCode::input, "{}: damaged pax header at byte {}", path(), offset_);
      }
      const std::string_view record = rest.substr(head, length - head - 1);
      const std::size_t equals = record.find('=');
      const std::string_view key = record.substr(0, equals);
      const std::string_view value = equals == record.npos ? std::string_view{} : record.substr(equals + 1);
      if (key == "path") long_name_ = std::string(value);
      if (key == "size") {
        std::int64_t number = -1;
        std::from_chars(value.data(), value.data() + value.size(), number);
        long_size_ = number;  // a bad one is negative and refused with the member
      }
      if (key.starts_with("GNU.sparse")) {
        fail(ExitCode::input, "{}: a sparse member at byte {}; pack without --sparse", path(), offset_);
      }
      rest.remove_prefix(length);
    }
  }

  const RandomAccessFile& file_;
  std::int64_t offset_ = 0;
  Block block_{};
  std::vector<TarMember> members_;
  std::optional<std::string> long_name_;
  std::optional<std::int64_t> long_size_;
};

}  // namespace

std::vector<TarMember> index_tar(const RandomAccessFile& file) {
  return Reader(file).read_all();
}

}  // namespace moextract::data
