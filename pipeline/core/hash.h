// Content hashes: XXH3, 128 bits, as 32 hex digits. Not cryptographic: they find accidents, not attackers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace moextract {

/// Hash of bytes fed piece by piece; the pieces' borders do not matter.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;

  Hasher& add(std::span<const std::byte> bytes);
  Hasher& add(std::string_view text);
  /// 32 lower-case hex digits of all bytes added so far.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string hash_text(std::string_view text);
/// Hash of a whole file. Throws UserError (input) if it cannot be read.
std::string hash_file(const std::filesystem::path& path);
/// 64-bit hash of a text, for seeding random streams by name.
std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0);

}  // namespace moextract
