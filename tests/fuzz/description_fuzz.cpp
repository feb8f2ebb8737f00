// The description of a model in the metadata of its weights file.
#include "fuzz_case.h"
#include "model/description.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const model::Metadata metadata{{model::kDescriptionKey, std::string(reinterpret_cast<const char*>(data), size)}};
  fuzz::accept_or_refuse([&] { model::find_description(metadata, "input"); });
  return 0;
}
