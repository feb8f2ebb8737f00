// Content hashes: known values of XXH3, pieces, files.
#include "core/hash.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "core/error.h"

namespace moextract {
namespace {

TEST(Hash, IsXxh3AsPublished) {
  // `xxhsum -H2` of nothing, and XXH3_64bits of nothing: the values in xxHash's own documentation and tests.
  EXPECT_EQ(hash_text(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(hash64(""), 0x2d06800538d394c2ull);
}

TEST(Hash, BordersOfPiecesDoNotMatter) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * i);
  const std::string whole = hash_text(text);
  EXPECT_EQ(whole.size(), 32u);
  EXPECT_EQ(whole.find_first_not_of("0123456789abcdef"), whole.npos);
  for (const std::size_t piece : {1u, 7u, 240u, 1024u, 4999u}) {
    Hasher hasher;
    for (std::size_t i = 0; i < text.size(); i += piece) hasher.add(std::string_view(text).substr(i, piece));
    EXPECT_EQ(hasher.hex(), whole) << piece;
    EXPECT_EQ(hasher.hex(), whole) << "reading the hash changes nothing";
  }
}

TEST(Hash, TellsSmallChangesApart) {
  std::string text(1000, 'a');
  const std::string before = hash_text(text);
  for (const std::size_t at : {0u, 500u, 999u}) {
    std::string changed = text;
    changed[at] ^= 1;
    EXPECT_NE(hash_text(changed), before);
  }
  EXPECT_NE(hash_text(text + std::string(1, '\0')), before);
  EXPECT_NE(hash64("a", 1), hash64("a", 2));
}

TEST(Hash, CanBeMovedOn) {
  Hasher first;
  first.add("ab");
  Hasher second(std::move(first));
  second.add("c");
  EXPECT_EQ(second.hex(), hash_text("abc"));
  Hasher third;
  third = std::move(second);
  EXPECT_EQ(third.hex(), hash_text("abc"));
}

TEST(Hash, OfAFileIsOfItsBytes) {
  const auto path = std::filesystem::temp_directory_path() / ("moextract-hash-" + std::to_string(getpid()));
  std::string text((1 << 20) * 2 + 17, 'x');  // more than two of the reader's buffers
  text[1 << 20] = 'y';
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(hash_file(path), hash_text(text));
  std::ofstream(path, std::ios::binary).close();
  EXPECT_EQ(hash_file(path), hash_text(""));
  std::filesystem::remove(path);
  try {
    hash_file(path);
    FAIL() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), ExitCode::input);
    EXPECT_NE(std::string(error.what()).find(path.string()), std::string::npos);
  }
}

}  // namespace
}  // namespace moextract
