// The safetensors format: 8 bytes header length (little endian), JSON header, raw tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace moextract::store {

enum class TensorType { f32, f16, bf16, f64, i64, i32, u8, boolean };

struct TensorView {
  TensorType type = TensorType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
  std::int64_t elements() const;
};

/// "F32", "BF16", ... as the format spells them.
std::string type_name(TensorType type);
std::size_t type_size(TensorType type);

/// A file mapped into memory; views point into it and live as long as it. Data of files made elsewhere may be
/// unaligned: copy bytes, do not cast pointers. Throws UserError (input) with the file's name for every malformed
/// header (bounded length, offsets inside the file, not overlapping, shape times size = bytes).
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  ~SafetensorsFile();
  SafetensorsFile(SafetensorsFile&&) noexcept;
  const std::map<std::string, TensorView>& tensors() const;
  const std::map<std::string, std::string>& metadata() const;
  const std::filesystem::path& path() const;

 private:
  struct Mapping;
  std::unique_ptr<Mapping> mapping_;
};

/// Writes atomically; the same bytes for the same input. The header is padded so that the data start at a multiple of
/// 64; the format allows no holes between tensors, so these lie by element size (largest first), then by name: each is
/// aligned to its own elements, not to 64. Throws UserError (storage).
void write_safetensors(const std::filesystem::path& path, const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

/// The metadata with a checksum of the tensors (names, types, shapes, bytes): for files that a stage may find again
/// before its manifest, with the hashes of all files, is written.
std::map<std::string, std::string> with_checksum(const std::map<std::string, TensorView>& tensors,
                                                 std::map<std::string, std::string> metadata);
/// The file is there, well-formed, and has a checksum that fits. Reads all of it.
bool is_whole_safetensors(const std::filesystem::path& path);

}  // namespace moextract::store
