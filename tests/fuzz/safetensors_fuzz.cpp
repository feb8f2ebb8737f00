// Weights of others: the safetensors header and the places of its tensors.
#include "fuzz_case.h"
#include "store/safetensors.h"

using namespace moextract;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::InputFile input({data, size});
  fuzz::accept_or_refuse([&] {
    const store::SafetensorsFile file(input.path());
    for (const auto& [name, tensor] : file.tensors()) {
      MOEX_ASSERT(tensor.data.size() == static_cast<std::size_t>(tensor.elements()) * store::type_size(tensor.type),
                  "a tensor has the bytes that its shape needs");
      fuzz::use(tensor.data);
    }
  });
  return 0;
}
