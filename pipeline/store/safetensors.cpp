// Reading safetensors: the file is mapped, its header checked as strictly as the format's own library does, save that
// holes between tensors are let pass.
#include "store/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/error.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are used as they lie in the file");

using nlohmann::json;

/// The format's own limit; keeps a damaged length from making us parse gigabytes.
constexpr std::uint64_t kLongestHeader = 100'000'000;
constexpr const char* kMetadataKey = "__metadata__";
/// { name: { "shape": [ .. ] } } is three deep.
constexpr int kDeepest = 3;

struct TypeEntry {
  TensorType type;
  const char* name;
  std::size_t size;
};
constexpr std::array<TypeEntry, 8> kTypes = {{{TensorType::f32, "F32", 4},
                                              {TensorType::f16, "F16", 2},
                                              {TensorType::bf16, "BF16", 2},
                                              {TensorType::f64, "F64", 8},
                                              {TensorType::i64, "I64", 8},
                                              {TensorType::i32, "I32", 4},
                                              {TensorType::u8, "U8", 1},
                                              {TensorType::boolean, "BOOL", 1}}};

const TypeEntry& entry_of(TensorType type) {
  const auto found = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeEntry& e) { return e.type == type; });
  MOEX_ASSERT(found != kTypes.end(), "every tensor type has an entry");
  return *found;
}

template <class... Args>
[[noreturn]] void fail_input(const fs::path& path, fmt::format_string<Args...> format, Args&&... args) {
  fail(ExitCode::input, "{}: {}. The file is damaged or not a safetensors file: fetch or make it again.", path.string(),
       fmt::format(format, std::forward<Args>(args)...));
}

/// Parses the header. Rejects what a JSON tree cannot show any more: a name given twice; and nesting no header has.
json parse_header(const fs::path& path, std::string_view text) {
  std::array<std::set<std::string>, kDeepest + 1> names;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      if (depth >= kDeepest) fail_input(path, "its header is nested too deeply");
      names[static_cast<std::size_t>(depth) + 1].clear();
    } else if (event == json::parse_event_t::key) {
      const auto& name = parsed.get_ref<const std::string&>();
      if (!names[static_cast<std::size_t>(std::min(depth, kDeepest))].insert(name).second) {
        fail_input(path, "its header gives '{}' twice", name);
      }
    }
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::exception& error) {
    fail_input(path, "its header is not valid JSON ({})", error.what());
  }
}

/// A non-negative integer that fits int64, or an error that says where.
std::int64_t whole_number(const fs::path& path, const std::string& tensor, const char* what, const json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{INT64_MAX}) {
    fail_input(path, "tensor '{}': its {} is not a list of whole numbers", tensor, what);
  }
  return value.get<std::int64_t>();
}

const json& member(const fs::path& path, const std::string& tensor, const json& entry, const char* name) {
  if (!entry.is_object()) fail_input(path, "tensor '{}' is not described by an object", tensor);
  const auto found = entry.find(name);
  if (found == entry.end()) fail_input(path, "tensor '{}' has no '{}'", tensor, name);
  return *found;
}

TensorView read_tensor(const fs::path& path, const std::string& name, const json& entry,
                       std::span<const std::byte> data) {
  TensorView view;
  const json& dtype = member(path, name, entry, "dtype");
  if (!dtype.is_string()) fail_input(path, "tensor '{}': its dtype is not a text", name);
  const auto& spelled = dtype.get_ref<const std::string&>();
  const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeEntry& e) { return spelled == e.name; });
  if (type == kTypes.end()) {
    fail(ExitCode::input,
         "{}: tensor '{}' has dtype '{}', which is not supported (F64, F32, F16, BF16, I64, I32, U8 and BOOL are). "
         "Convert the file first.",
         path.string(), name, spelled);
  }
  view.type = type->type;

  const json& shape = member(path, name, entry, "shape");
  if (!shape.is_array()) fail_input(path, "tensor '{}': its shape is not a list", name);
  std::int64_t bytes = static_cast<std::int64_t>(type->size);
  for (const json& extent : shape) {
    view.shape.push_back(whole_number(path, name, "shape", extent));
    if (__builtin_mul_overflow(bytes, view.shape.back(), &bytes))
      fail_input(path, "tensor '{}': its shape is too large", name);
  }

  const json& offsets = member(path, name, entry, "data_offsets");
  if (!offsets.is_array() || offsets.size() != 2)
    fail_input(path, "tensor '{}': its data_offsets are not two numbers", name);
  const std::int64_t begin = whole_number(path, name, "data_offsets", offsets[0]);
  const std::int64_t end = whole_number(path, name, "data_offsets", offsets[1]);
  if (begin > end || end > static_cast<std::int64_t>(data.size())) {
    fail_input(path, "tensor '{}' lies at bytes {} to {} of {}: outside the file", name, begin, end, data.size());
  }
  if (end - begin != bytes) {
    fail_input(path, "tensor '{}' takes {} bytes, its shape and dtype need {}", name, end - begin, bytes);
  }
  view.data = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  return view;
}

void check_overlap(const fs::path& path, const std::map<std::string, TensorView>& tensors) {
  std::vector<std::pair<std::span<const std::byte>, const std::string*>> places;
  for (const auto& [name, view] : tensors) {
    if (!view.data.empty()) places.emplace_back(view.data, &name);
  }
  std::sort(places.begin(), places.end(), [](const auto& a, const auto& b) { return a.first.data() < b.first.data(); });
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (places[i].first.data() < places[i - 1].first.data() + places[i - 1].first.size()) {
      fail_input(path, "tensors '{}' and '{}' overlap", *places[i - 1].second, *places[i].second);
    }
  }
}

}  // namespace

std::int64_t TensorView::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape) count *= extent;
  return count;
}

std::string type_name(TensorType type) {
  return entry_of(type).name;
}
std::size_t type_size(TensorType type) {
  return entry_of(type).size;
}

struct SafetensorsFile::Mapping {
  ~Mapping() {
    if (!bytes.empty()) ::munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
  }
  void map();
  void read();

  fs::path path;
  std::span<const std::byte> bytes;
  std::map<std::string, TensorView> tensors;
  std::map<std::string, std::string> metadata;
};

void SafetensorsFile::Mapping::map() {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    fail(ExitCode::input, "{}: cannot be opened ({}). Check the path in the configuration.", path.string(),
         std::strerror(errno));
  }
  struct stat status {};
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  void* address = MAP_FAILED;
  int error = 0;
  if (regular && status.st_size > 0) {
    address = ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    error = errno;
  }
  ::close(fd);
  if (!regular) fail(ExitCode::input, "{}: not a file. Name the .safetensors file itself.", path.string());
  if (status.st_size == 0) fail_input(path, "the file is empty");
  if (address == MAP_FAILED) {
    fail(ExitCode::input, "{}: cannot be mapped into memory ({})", path.string(), std::strerror(error));
  }
  bytes = {static_cast<const std::byte*>(address), static_cast<std::size_t>(status.st_size)};
}

void SafetensorsFile::Mapping::read() {
  std::uint64_t length = 0;
  if (bytes.size() < sizeof(length)) fail_input(path, "only {} bytes long", bytes.size());
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > kLongestHeader || length > bytes.size() - sizeof(length)) {
    fail_input(path, "its header claims {} bytes, the file has {}", length, bytes.size());
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
  if (!text.starts_with('{')) fail_input(path, "its header does not start with a brace");
  const json header = parse_header(path, text);
  const auto data = bytes.subspan(sizeof(length) + length);
  for (const auto& [name, entry] : header.items()) {
    if (name != kMetadataKey) {
      tensors.emplace(name, read_tensor(path, name, entry, data));
      continue;
    }
    if (!entry.is_object()) fail_input(path, "its metadata are not an object");
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) fail_input(path, "metadata '{}' is not a text", key);
      metadata.emplace(key, value.get<std::string>());
    }
  }
  check_overlap(path, tensors);
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : mapping_(std::make_unique<Mapping>()) {
  mapping_->path = path;
  mapping_->map();
  mapping_->read();
}

SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;

const std::map<std::string, TensorView>& SafetensorsFile::tensors() const {
  return mapping_->tensors;
}
const std::map<std::string, std::string>& SafetensorsFile::metadata() const {
  return mapping_->metadata;
}
const fs::path& SafetensorsFile::path() const {
  return mapping_->path;
}

}  // namespace moextract::store
