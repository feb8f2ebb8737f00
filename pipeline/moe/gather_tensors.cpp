#include "moe/gather_tensors.h"

#include <ATen/ATen.h>

#include <cstring>
#include <vector>

#include "core/error.h"

namespace moextract::moe {
namespace {

void put(std::vector<std::byte>& to, const void* data, std::size_t bytes) {
  const auto* from = static_cast<const std::byte*>(data);
  to.insert(to.end(), from, from + bytes);
}
void put_number(std::vector<std::byte>& to, std::int64_t number) {
  put(to, &number, sizeof(number));
}

class Reader {
 public:
  explicit Reader(const std::vector<std::byte>& bytes) : bytes_(bytes) {}
  bool at_end() const { return next_ == bytes_.size(); }
  const std::byte* take(std::size_t count) {
    MOEX_ASSERT(next_ + count <= bytes_.size(), "gathered tensors are cut short");
    const std::byte* here = bytes_.data() + next_;
    next_ += count;
    return here;
  }
  std::int64_t number() {
    std::int64_t value = 0;
    std::memcpy(&value, take(sizeof(value)), sizeof(value));
    return value;
  }

 private:
  const std::vector<std::byte>& bytes_;
  std::size_t next_ = 0;
};

}  // namespace

model::TensorMap gather_tensors(const model::TensorMap& mine, comm::Communicator& comm) {
  std::vector<std::byte> packed;
  for (const auto& [name, tensor] : mine) {
    const at::Tensor whole = tensor.contiguous();
    put_number(packed, static_cast<std::int64_t>(name.size()));
    put(packed, name.data(), name.size());
    put_number(packed, static_cast<std::int64_t>(whole.scalar_type()));
    put_number(packed, whole.dim());
    for (const std::int64_t length : whole.sizes()) put_number(packed, length);
    put(packed, whole.const_data_ptr(), whole.nbytes());
  }
  const std::vector<std::byte> all = comm.all_gather(std::span<const std::byte>(packed));
  model::TensorMap tensors;
  for (Reader reader(all); !reader.at_end();) {
    const auto length = static_cast<std::size_t>(reader.number());
    std::string name(reinterpret_cast<const char*>(reader.take(length)), length);
    const auto type = static_cast<at::ScalarType>(reader.number());
    std::vector<std::int64_t> shape(static_cast<std::size_t>(reader.number()));
    for (std::int64_t& size : shape) size = reader.number();
    at::Tensor tensor = at::empty(shape, at::TensorOptions(type));
    std::memcpy(tensor.data_ptr(), reader.take(tensor.nbytes()), tensor.nbytes());
    tensors.emplace(std::move(name), std::move(tensor));
  }
  return tensors;
}

}  // namespace moextract::moe
