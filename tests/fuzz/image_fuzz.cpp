// Pictures: JPEG and PNG.
#include "data/image.h"
#include "fuzz_case.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::accept_or_refuse([&] {
    const data::Image image = data::decode_image(std::as_bytes(std::span(data, size)), "input");
    MOEX_ASSERT(image.rgb.size() == static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height) * 3,
                "three bytes a pixel");
    fuzz::use(std::as_bytes(std::span(image.rgb)));
  });
  return 0;
}
