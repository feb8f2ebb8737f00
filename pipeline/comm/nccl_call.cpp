// Calls in words, for messages.
#include "comm/nccl_call.h"

#include <array>

namespace moextract::comm {
namespace {

const char* name_of(ElementType type) {
  constexpr std::array kNames = {"int32", "int64", "float32", "float64"};
  return kNames[static_cast<std::size_t>(type)];
}

const char* name_of(Reduction reduction) {
  constexpr std::array kNames = {"sum", "min", "max"};
  return kNames[static_cast<std::size_t>(reduction)];
}

}  // namespace

const char* name_of(DeviceCall::Kind kind) noexcept {
  constexpr std::array kNames = {"all_reduce", "broadcast", "all_gather"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::size_t DeviceCall::bytes() const noexcept {
  return kind == Kind::all_reduce ? count * bytes_of(type) : count;
}

std::string DeviceCall::text() const {
  switch (kind) {
    case Kind::all_reduce:
      return fmt::format("all_reduce({} of {} {})", name_of(reduction), count, name_of(type));
    case Kind::broadcast:
      return fmt::format("broadcast({} bytes from rank {})", count, root);
    case Kind::all_gather:
      return fmt::format("all_gather({} bytes of each rank)", count);
  }
  return {};
}

}  // namespace moextract::comm
