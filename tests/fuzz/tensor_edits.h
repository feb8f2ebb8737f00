// Well-formed safetensors files whose tensors are not what their readers expect: a good set of tensors, changed as the
// fuzzer's bytes say, and written as bytes.
#pragma once

#include <ATen/ATen.h>
#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"

namespace moextract::fuzz {

struct RawTensor {
  std::string type;  ///< of the format: "F32"
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> bytes;
};
using RawTensors = std::map<std::string, RawTensor>;

struct RawType {
  const char* name;
  std::size_t size;
};
inline constexpr std::array<RawType, 8> kRawTypes{
    {{"F32", 4}, {"I32", 4}, {"I64", 8}, {"F64", 8}, {"F16", 2}, {"BF16", 2}, {"U8", 1}, {"BOOL", 1}}};

inline RawTensors raw(const std::map<std::string, at::Tensor>& tensors) {
  RawTensors all;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor whole = tensor.contiguous();
    const at::ScalarType type = whole.scalar_type();
    RawTensor& to = all[name];
    to.type = type == at::kInt ? "I32" : type == at::kLong ? "I64" : type == at::kDouble ? "F64" : "F32";
    to.shape = whole.sizes().vec();
    to.bytes.resize(whole.nbytes());
    if (!to.bytes.empty()) std::memcpy(to.bytes.data(), whole.const_data_ptr(), to.bytes.size());
  }
  return all;
}

/// Removes, renames, retypes, reshapes or fills one of the tensors. The bytes keep fitting type and shape.
inline void change_tensor(FuzzedDataProvider& input, RawTensors& tensors) {
  if (tensors.empty()) return;
  const auto found =
      std::next(tensors.begin(), input.ConsumeIntegralInRange<std::ptrdiff_t>(0, std::ssize(tensors) - 1));
  RawTensor& tensor = found->second;
  const auto size_of = [](const std::string& type) {
    return std::find_if(kRawTypes.begin(), kRawTypes.end(), [&](const RawType& t) { return t.name == type; })->size;
  };
  const auto fit = [&] {
    std::size_t count = size_of(tensor.type);
    for (const std::int64_t length : tensor.shape) count *= static_cast<std::size_t>(length);
    tensor.bytes.resize(count);
  };
  switch (input.ConsumeIntegralInRange(0, 5)) {
    case 0:
      tensors.erase(found);
      break;
    case 1:
      tensor.type = input.PickValueInArray(kRawTypes).name;
      fit();
      break;
    case 2: {  // another shape of small numbers; with a zero among them, of large ones
      const int dimensions = input.ConsumeIntegralInRange(0, 4);
      const bool empty = dimensions > 0 && input.ConsumeIntegralInRange(0, 7) == 0;
      tensor.shape.clear();
      for (int i = 0; i < dimensions; ++i) {
        tensor.shape.push_back(empty && i > 0 ? input.ConsumeIntegralInRange<std::int64_t>(0, std::int64_t{1} << 40)
                               : empty        ? 0
                                              : input.ConsumeIntegralInRange<std::int64_t>(0, 9));
      }
      fit();
      break;
    }
    case 3:  // one length
      if (tensor.shape.empty() || std::ranges::any_of(tensor.shape, [](std::int64_t n) { return n > 99; })) break;
      tensor.shape[input.ConsumeIntegralInRange<std::size_t>(0, tensor.shape.size() - 1)] =
          input.ConsumeIntegralInRange<std::int64_t>(0, 9);
      fit();
      break;
    default: {  // values; small integers stay in range more often than random bytes
      const std::size_t size = size_of(tensor.type);
      if (tensor.bytes.empty()) break;
      const std::size_t place = input.ConsumeIntegralInRange<std::size_t>(0, tensor.bytes.size() / size - 1) * size;
      if (input.ConsumeBool() && (tensor.type == "I32" || tensor.type == "I64")) {
        const auto value = input.ConsumeIntegralInRange<std::int64_t>(-2, 40);
        std::memcpy(tensor.bytes.data() + place, &value, size);  // little endian
      } else {
        const std::vector<std::uint8_t> bytes = input.ConsumeBytes<std::uint8_t>(size);
        std::copy(bytes.begin(), bytes.end(), tensor.bytes.begin() + static_cast<std::ptrdiff_t>(place));
      }
    }
  }
}

inline std::vector<std::uint8_t> safetensors_bytes(const RawTensors& tensors,
                                                   const std::map<std::string, std::string>& metadata) {
  nlohmann::json header{{"__metadata__", metadata}};
  std::size_t offset = 0;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {
        {"dtype", tensor.type}, {"shape", tensor.shape}, {"data_offsets", {offset, offset + tensor.bytes.size()}}};
    offset += tensor.bytes.size();
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = text.size();
  std::vector<std::uint8_t> bytes(sizeof(length));
  std::memcpy(bytes.data(), &length, sizeof(length));
  bytes.insert(bytes.end(), text.begin(), text.end());
  for (const auto& [name, tensor] : tensors) bytes.insert(bytes.end(), tensor.bytes.begin(), tensor.bytes.end());
  return bytes;
}

}  // namespace moextract::fuzz
