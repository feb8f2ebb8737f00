// Small models and messages for the tests of pipeline/model, moe and train.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/hash.h"
#include "core/random.h"
#include "model/description.h"
#include "model/vit.h"
#include "tests/pipeline/data/test_files.h"

namespace moextract::model::test {

/// Tensors here are too small to share out; waiting for each other is all that ATen's own threads would do.
inline const bool kOneThread = (at::set_num_threads(1), true);

using data::test::TemporaryFolder;
namespace fs = std::filesystem;

/// Expects a UserError of this code with each of `parts` in its message.
inline void expect_error(ExitCode code, const std::vector<std::string>& parts, const std::function<void()>& action) {
  try {
    action();
  } catch (const UserError& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    const std::string message = error.what();
    for (const std::string& part : parts)
      EXPECT_NE(message.find(part), message.npos) << part << " is not in: " << message;
    return;
  }
  ADD_FAILURE() << "no error";
}

/// Normal values that depend on the name alone.
inline at::Tensor random_tensor(const std::string& name, const std::vector<std::int64_t>& shape,
                                double deviation = 0.5) {
  at::Tensor tensor = at::empty(shape, at::kFloat);
  RandomStream stream(1, hash64(name));
  for (std::int64_t i = 0; i < tensor.numel(); ++i) {
    tensor.data_ptr<float>()[i] = static_cast<float>(deviation * stream.normal());
  }
  return tensor;
}

/// Four patches of a grey 8x8 picture, two blocks.
inline VitParams tiny_params() {
  VitParams p;
  p.image_size = 8;
  p.patch_size = 4;
  p.channels = 1;
  p.width = 8;
  p.depth = 2;
  p.heads = 2;
  p.hidden = 12;
  p.classes = 3;
  return p;
}

inline ModelDescription tiny_description() {
  ModelDescription d;
  d.name = "tiny";
  d.vit = tiny_params();
  d.preprocess.crop = 8;
  d.preprocess.channels = 1;
  return d;
}

/// Random values for every tensor of a dense Vit.
inline TensorMap random_vit_tensors(const VitParams& params) {
  TensorMap tensors;
  for (const auto& [name, shape] : vit_tensor_shapes(params)) tensors.emplace(name, random_tensor(name, shape));
  return tensors;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}
inline bool same_bits(const TensorMap& a, const TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!b.contains(name) || !same_bits(tensor, b.at(name))) return false;
  }
  return true;
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace moextract::model::test
