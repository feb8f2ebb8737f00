#include "data/listing.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <span>
#include <string_view>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace moextract::data {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kFormat = "moextract-listing 2\n";
constexpr std::size_t kHashLength = 32;
/// Clocks of file systems tick as coarsely as this.
constexpr std::int64_t kDoubt = 2'000'000'000;

/// Numbers as eight bytes, texts with their length before them.
class Writer {
 public:
  void add(std::int64_t number) { text_.append(reinterpret_cast<const char*>(&number), sizeof(number)); }
  void add(std::string_view text) {
    add(static_cast<std::int64_t>(text.size()));
    text_.append(text);
  }
  std::string& text() { return text_; }

 private:
  std::string text_{kFormat};
};

/// Nothing is taken from beyond the end; after that, everything is zero.
class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}
  std::int64_t number() {
    std::int64_t value = 0;
    if (rest_.size() < sizeof(value)) return give_up(), 0;
    std::memcpy(&value, rest_.data(), sizeof(value));
    rest_.remove_prefix(sizeof(value));
    return value;
  }
  std::string text() {
    const std::int64_t length = count(1);
    const std::string value(rest_.substr(0, static_cast<std::size_t>(length)));
    rest_.remove_prefix(static_cast<std::size_t>(length));
    return value;
  }
  /// A count of things of at least `bytes` bytes each: no more than can follow.
  std::int64_t count(std::size_t bytes) {
    const std::int64_t value = number();
    if (value < 0 || static_cast<std::size_t>(value) > rest_.size() / bytes) return give_up(), 0;
    return value;
  }
  bool whole() const { return well_ && rest_.empty(); }

 private:
  void give_up() {
    well_ = false;
    rest_ = {};
  }
  std::string_view rest_;
  bool well_ = true;
};

std::optional<std::vector<ListedPlace>> parse(std::string_view text, std::int64_t& listed) {
  if (!text.starts_with(kFormat) || text.size() < kFormat.size() + kHashLength) return std::nullopt;
  const std::string_view hash = text.substr(text.size() - kHashLength);
  text.remove_suffix(kHashLength);
  if (hash_text(text) != hash) return std::nullopt;
  Reader reader(text.substr(kFormat.size()));
  listed = reader.number();
  std::vector<ListedPlace> places(static_cast<std::size_t>(reader.count(4 * sizeof(std::int64_t))));
  for (ListedPlace& place : places) {
    place.name = reader.text();
    place.size = reader.number();
    place.changed = reader.number();
    place.members.resize(static_cast<std::size_t>(reader.count(5 * sizeof(std::int64_t))));
    for (ListedMember& member : place.members) {
      member.name = reader.text();
      member.offset = reader.number();
      member.size = reader.number();
      member.changed = reader.number();
      member.link = reader.number() != 0;
    }
  }
  if (!reader.whole()) return std::nullopt;
  return places;
}

void list_into(const fs::path& source, const std::string& name, std::vector<ListedPlace>& places) {
  const fs::path folder = name.empty() ? source : source / name;
  ListedPlace place{name, 0, file_state(folder).changed, {}};  // before its entries are read
  std::vector<std::string> below;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string own = entry.path().filename().string();
    std::error_code error;
    const fs::file_status status = fs::status(entry.path(), error);
    if (status.type() == fs::file_type::not_found || error == std::errc::too_many_symbolic_link_levels) {
      place.members.push_back({own, 0, 0, 0, true});
      continue;
    }
    if (error) throw fs::filesystem_error("cannot look at", entry.path(), error);
    if (fs::is_directory(status)) {
      if (!name.empty() || !own.starts_with('.')) below.push_back(name.empty() ? own : name + "/" + own);
      continue;
    }
    if (!fs::is_regular_file(status)) continue;  // a pipe would block
    const FileState state = file_state(entry.path());
    place.members.push_back({own, 0, state.size, state.changed, false});
  }
  std::sort(place.members.begin(), place.members.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  places.push_back(std::move(place));
  std::sort(below.begin(), below.end());
  for (const std::string& child : below) list_into(source, child, places);
}

}  // namespace

FileState file_state(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    fail(ExitCode::input, "{}: cannot be read ({})", path.string(), std::strerror(errno));
  const std::chrono::sys_time<std::chrono::nanoseconds> time(std::chrono::seconds(status.st_mtim.tv_sec) +
                                                             std::chrono::nanoseconds(status.st_mtim.tv_nsec));
  return {status.st_size, std::chrono::file_clock::from_sys(time).time_since_epoch().count()};
}

fs::path listing_file(const fs::path& folder, const fs::path& source) {
  if (folder.empty()) return {};
  std::error_code ignored;
  const fs::path place = fs::absolute(source, ignored).lexically_normal();
  return folder / (hash_text(place.string()).substr(0, 16) + ".listing");
}

std::optional<std::vector<ListedPlace>> load_listing(const fs::path& file, const fs::path& source) {
  std::error_code missing;
  if (file.empty() || !fs::exists(file, missing)) return std::nullopt;
  try {
    std::int64_t listed = 0;
    std::optional<std::vector<ListedPlace>> places = parse(read_text_file(file), listed);
    if (!places) return std::nullopt;
    for (const ListedPlace& place : *places) {
      const fs::path path = place.name.empty() ? source : source / place.name;
      const FileState state = file_state(path);
      if (state.changed != place.changed || state.changed > listed - kDoubt) return std::nullopt;
      const bool folder = fs::is_directory(path);
      if (!folder && state.size != place.size) return std::nullopt;
      for (const ListedMember& member : place.members) {
        std::error_code nowhere;
        if (folder && member.link && fs::exists(path / member.name, nowhere)) return std::nullopt;
      }
    }
    return places;
  } catch (const UserError&) {
    return std::nullopt;  // a folder is gone
  }
}

std::int64_t file_clock_now() {
  return std::chrono::file_clock::now().time_since_epoch().count();
}

void save_listing(const fs::path& file, const std::vector<ListedPlace>& places, std::int64_t began) {
  if (file.empty()) return;
  Writer writer;
  writer.add(began);
  writer.add(static_cast<std::int64_t>(places.size()));
  for (const ListedPlace& place : places) {
    writer.add(place.name);
    writer.add(place.size);
    writer.add(place.changed);
    writer.add(static_cast<std::int64_t>(place.members.size()));
    for (const ListedMember& member : place.members) {
      writer.add(member.name);
      writer.add(member.offset);
      writer.add(member.size);
      writer.add(member.changed);
      writer.add(static_cast<std::int64_t>(member.link));
    }
  }
  writer.text() += hash_text(writer.text());
  try {
    make_folder(file.parent_path());
    write_file_atomically(file, writer.text());
  } catch (const UserError&) {
  }
}

std::vector<ListedPlace> list_folders(const fs::path& source) {
  std::vector<ListedPlace> places;
  try {
    list_into(source, "", places);
  } catch (const fs::filesystem_error& error) {
    fail(ExitCode::input, "{}: cannot list the folder ({})", source.string(), error.what());
  }
  return places;
}

}  // namespace moextract::data
