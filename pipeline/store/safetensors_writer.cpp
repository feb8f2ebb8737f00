// Writing safetensors: the same bytes for the same content.
#include <fmt/ranges.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"
#include "core/json_text.h"
#include "store/safetensors.h"

namespace moextract::store {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kAlignment = 64;

using Entry = std::map<std::string, TensorView>::value_type;

/// Largest elements first, then by name. The format allows no holes, and behind elements of its own size or larger
/// every tensor is aligned without any.
std::vector<const Entry*> placed(const std::map<std::string, TensorView>& tensors) {
  std::vector<const Entry*> order;
  for (const Entry& entry : tensors) {
    const auto& [name, view] = entry;
    MOEX_ASSERT(name != "__metadata__", "the name __metadata__ belongs to the format");
    MOEX_ASSERT(view.elements() * static_cast<std::int64_t>(type_size(view.type)) == std::ssize(view.data),
                fmt::format("data of '{}' fit its shape", name));
    order.push_back(&entry);
  }
  std::stable_sort(order.begin(), order.end(), [](const Entry* a, const Entry* b) {
    return type_size(a->second.type) > type_size(b->second.type);
  });
  return order;
}

/// Length and JSON, padded with spaces so that the data behind it start at a multiple of kAlignment.
std::string header_of(std::span<const Entry* const> order, const std::map<std::string, std::string>& metadata) {
  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const Entry* entry : order) {
    const TensorView& view = entry->second;
    header[entry->first] = {
        {"dtype", type_name(view.type)}, {"shape", view.shape}, {"data_offsets", {offset, offset + view.data.size()}}};
    offset += view.data.size();
  }
  // Paths in the metadata may be any bytes; JSON wants UTF-8.
  std::string text = json_text(header);
  std::uint64_t length = text.size();
  length += (kAlignment - (sizeof(length) + length) % kAlignment) % kAlignment;
  text.resize(length, ' ');
  std::string bytes(sizeof(length), '\0');
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes + text;
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

[[noreturn]] void fail_storage(const fs::path& path) {
  fail(ExitCode::storage,
       "{}: cannot be written ({}). Free space or mend the permissions, then run the same command "
       "again.",
       path.string(), std::strerror(errno));
}

constexpr const char* kChecksum = "checksum";

std::string checksum_of(const std::map<std::string, TensorView>& tensors) {
  Hasher hasher;
  for (const auto& [name, view] : tensors) {
    hasher.add(fmt::format("{} {} [{}] ", name, type_name(view.type), fmt::join(view.shape, ",")));
    hasher.add(view.data);
  }
  return hasher.hex();
}

}  // namespace

void write_safetensors(const fs::path& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  const std::vector<const Entry*> order = placed(tensors);
  const std::string header = header_of(order, metadata);
  write_file_atomically(path, [&](const fs::path& temporary) {
    std::unique_ptr<std::FILE, CloseFile> file(std::fopen(temporary.c_str(), "wbe"));
    if (!file) fail_storage(path);
    const auto write = [&](const void* data, std::size_t size) {
      if (size > 0 && std::fwrite(data, 1, size, file.get()) != size) fail_storage(path);
    };
    write(header.data(), header.size());
    for (const Entry* entry : order) write(entry->second.data.data(), entry->second.data.size());
    // Closing writes the rest of the buffer and is where some network file systems report a full disk.
    if (std::fclose(file.release()) != 0) fail_storage(path);
  });
}

std::map<std::string, std::string> with_checksum(const std::map<std::string, TensorView>& tensors,
                                                 std::map<std::string, std::string> metadata) {
  metadata[kChecksum] = checksum_of(tensors);
  return metadata;
}

bool is_whole_safetensors(const fs::path& path) {
  if (!fs::exists(path)) return false;
  try {
    const SafetensorsFile file(path);
    const auto found = file.metadata().find(kChecksum);
    return found != file.metadata().end() && found->second == checksum_of(file.tensors());
  } catch (const UserError&) {
    return false;
  }
}

}  // namespace moextract::store
