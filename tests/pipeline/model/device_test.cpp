// Models on a device, with LibTorch's CPU in the place of a GPU: the answers of the packed path, and no loop over
// memory that may not be the host's.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <thread>
#include <vector>

#include "model/device_tensors.h"
#include "tests/pipeline/model/model_cases.h"

namespace moextract::model::test {
namespace {

constexpr Device kThere{DeviceKind::libtorch_cpu, 0};

struct DeviceCase {
  const char* name;
  bool class_token, distilled, short_last_block;
};

VitParams params_of(const DeviceCase& c) {
  VitParams params = tiny_params();
  params.image_size = 32;
  params.channels = 3;
  params.width = 24;
  params.hidden = 56;
  params.class_token = c.class_token;
  params.distilled = c.distilled;
  params.short_last_block = c.short_last_block;
  return params;
}

const DeviceCase kDeviceCases[] = {{"plain", true, false, false},
                                   {"short", true, false, true},
                                   {"mean", false, false, false},
                                   {"distilled and short", true, true, true}};

TEST(Devices, AreNamed) {
  EXPECT_EQ((Device{}.text()), "cpu");
  EXPECT_EQ((Device{DeviceKind::cuda, 3}.text()), "cuda:3");
  EXPECT_EQ((Device{DeviceKind::cuda, -1}.text()), "cuda (none)");
  EXPECT_FALSE((Device{DeviceKind::cuda, -1}.is_there()));
  EXPECT_EQ(kThere.text(), "libtorch_cpu");
  EXPECT_TRUE(kThere.is_there());
  EXPECT_FALSE(Device{}.by_tensors());
  EXPECT_GE(visible_cuda_devices(), 0);
  synchronize(Device{});
  synchronize(kThere);
}

TEST(Devices, ScopesNestAndAreOfOneThread) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::ones({2, 2});
  EXPECT_TRUE(packed_applies(x));
  {
    const DeviceScope scope(kThere);
    EXPECT_TRUE(by_tensors(x));
    EXPECT_FALSE(packed_applies(x));
    {
      const DeviceScope inner(Device{});
      EXPECT_FALSE(by_tensors(x));
    }
    EXPECT_TRUE(by_tensors(x));
    bool other = true;
    std::thread([&] { other = computes_by_tensors(); }).join();
    EXPECT_FALSE(other);
  }
  EXPECT_TRUE(packed_applies(x));
  EXPECT_TRUE(by_tensors(at::empty({1}, at::TensorOptions(at::kMeta)))) << "not the host's memory";
}

TEST(Devices, AVitAnswersAsItsPackedProductsDo) {
  const at::NoGradGuard no_grad;
  for (const DeviceCase& c : kDeviceCases) {
    const VitParams params = params_of(c);
    const TensorMap tensors = initial_vit_tensors(params, 3);
    const at::Tensor images = random_tensor("images", {5, 3, 32, 32}, 1.0);
    const auto run = [&](const Device& device, Precision precision, std::vector<MlpTrace>* traces) {
      const Vit vit(params, tensors, make_dense_mlp, precision);
      const DeviceScope scope(device);
      return vit.logits(to_device(images, device), [&](std::int64_t, const MlpTrace& t) {
        if (traces != nullptr) traces->push_back(t);
      });
    };
    std::vector<MlpTrace> packed_traces, traces;
    const at::Tensor packed = run(Device{}, Precision::float32, &packed_traces),
                     answer = run(kThere, Precision::float32, &traces);
    // Two orders of float32 sums of some hundred terms near one.
    EXPECT_LT(largest_difference(answer, packed), 2e-5) << c.name;
    EXPECT_FALSE(same_bits(answer, packed)) << c.name << ": or the packed path was taken";
    ASSERT_EQ(traces.size(), packed_traces.size());
    for (std::size_t l = 0; l < traces.size(); ++l) {
      EXPECT_LT(largest_difference(traces[l].x, packed_traces[l].x), 2e-5) << c.name;
      EXPECT_LT(largest_difference(traces[l].h, packed_traces[l].h), 2e-5) << c.name;
      EXPECT_LT(largest_difference(traces[l].y, packed_traces[l].y), 2e-5) << c.name;
    }
    traces.clear();
    const at::Tensor rounded = run(kThere, Precision::bfloat16, &traces);
    EXPECT_EQ(rounded.scalar_type(), at::kFloat);
    EXPECT_EQ(traces[0].h.scalar_type(), at::kFloat);
    EXPECT_LT(largest_difference(rounded, packed), 0.1) << c.name << ": 2^-9 of numbers near one, a few layers deep";
    EXPECT_GT(largest_difference(rounded, packed), 1e-4) << c.name << ": or nothing was rounded";
    EXPECT_TRUE(same_bits(run(kThere, Precision::int16, nullptr), answer)) << "the packed products' alone";
  }
}

TEST(Devices, GradientsAreThoseWithoutADevice) {
  for (const DeviceCase& c : kDeviceCases) {
    const VitParams params = params_of(c);
    const at::Tensor images = random_tensor("images", {3, 3, 32, 32}, 1.0);
    const auto gradients = [&](const Device& device) {
      TensorMap leaves;
      for (const auto& [name, tensor] : initial_vit_tensors(params, 3))
        leaves.emplace(name, tensor.detach().clone().requires_grad_(true));
      const DeviceScope scope(device);
      Vit(params, leaves).logits(images).square().sum().backward();
      TensorMap found;
      for (const auto& [name, leaf] : leaves) found.emplace(name, leaf.grad());
      return found;
    };
    const TensorMap plain = gradients(Device{}), there = gradients(kThere);
    for (const auto& [name, gradient] : plain) {
      const double size = gradient.abs().max().item<double>();
      EXPECT_LT(largest_difference(gradient, there.at(name)), 1e-5 * (1 + size)) << c.name << ", " << name;
    }
  }
}

// Tensors without memory: whoever reads a value in a loop of the host finds none, and the test dies. (Of a whole Vit
// LibTorch's C++ half has no such form.)
TEST(Devices, NoLoopOfTheHostReadsWhatADeviceHolds) {
  const at::NoGradGuard no_grad;
  const at::TensorOptions nowhere = at::TensorOptions(at::kMeta).dtype(at::kFloat);
  for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::int16}) {
    const DenseMlp mlp(at::empty({12, 8}, nowhere), at::empty({12}, nowhere), at::empty({8, 12}, nowhere),
                       at::empty({8}, nowhere), precision);
    MlpTrace trace;
    const at::Tensor y = mlp.forward(at::empty({5, 3, 8}, nowhere), &trace);
    EXPECT_TRUE(y.is_meta() && trace.h.is_meta());
    EXPECT_EQ(y.sizes(), at::IntArrayRef({5, 3, 8}));
    EXPECT_EQ(trace.h.sizes(), at::IntArrayRef({5, 3, 12}));
  }
}

}  // namespace
}  // namespace moextract::model::test
