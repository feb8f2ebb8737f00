// Kept listings of folders and tar files. Their checksum is made right, or nothing else would be reached.
#include "core/hash.h"
#include "data/listing.h"
#include "fuzz_case.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string text = "moextract-listing 2\n";
  text.append(reinterpret_cast<const char*>(data), size);
  text += hash_text(text);
  const fuzz::InputFile input({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  fuzz::accept_or_refuse([&] {
    if (!data::load_listing(input.path(), fuzz::scratch_folder())) fail(ExitCode::input, "not believed");
  });
  return 0;
}
