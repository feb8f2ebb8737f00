// Tar archives: the index of members, and each member's bytes.
#include "data/tar_index.h"
#include "fuzz_case.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    const data::RandomAccessFile file(input.path());
    for (const data::TarMember& member : data::index_tar(file)) fuzz::use(file.read(member.offset, member.size));
  });
  return 0;
}
