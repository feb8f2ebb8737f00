// IDX files, plain and gzip: images and labels.
#include "data/idx_file.h"
#include "fuzz_case.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    const data::IdxImages images = data::read_idx_images(input.path());
    const auto& [count, height, width] = images.shape;
    MOEX_ASSERT(static_cast<std::int64_t>(images.pixels.size()) == count * height * width, "all pixels are there");
  });
  fuzz::accept_or_refuse([&] {
    const std::vector<std::uint8_t> labels = data::read_idx_labels(input.path());
    fuzz::use(std::as_bytes(std::span(labels)));
  });
  return 0;
}
