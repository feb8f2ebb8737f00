// What moments will take, and that its statistics are those of the tokens, whatever the micro-batch.
#include <gtest/gtest.h>

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "model/input_batch.h"
#include "model/vit_params.h"
#include "moe/expert_router.h"
#include "moe/model_file.h"
#include "run/artefact.h"
#include "stages/collect/collect_plan.h"
#include "stages/moments/image_views.h"
#include "stages/moments/moments_plan.h"
#include "tests/stages/small_run.h"

namespace moextract::stages::test {
namespace {

TEST(MomentsPlan, OfImageNetOn64Ranks) {
  // DeiT-B, k = 8: the numbers of docs/scaling.md, by hand.
  const model::VitParams vit = model::find_named_vit("deit_base_patch16_224")->vit;
  MomentsParams params;
  params.products = Products::full;
  const MomentsScale scale{.images = 1281167, .ranks = 64, .threads = 16, .rank_rate = 50};
  MomentsPlan plan = plan_moments(params, vit, 8, scale);
  EXPECT_EQ(plan.layers, 12);
  EXPECT_EQ(plan.passes, 2);  // of eleven layers and one
  // 64059 micro-batches of 20 images: 1001 on the busiest rank.
  EXPECT_EQ(plan.rank_images, 1001 * 20);
  ASSERT_TRUE(plan.seconds);
  EXPECT_DOUBLE_EQ(*plan.seconds, 2 * 20020 / 50.0);
  const double layer = 9 * 8.0 * ((3072.0 * 3073 / 2 + 3072 + 2) + (768.0 * 769 / 2 + 768 + 2));
  EXPECT_DOUBLE_EQ(plan.sums, 11 * (layer + 8.0 * 1281167));
  EXPECT_DOUBLE_EQ(plan.traces, 16 * (3 * 20.0 * 197 * 12 * (768 + 3072) * 4 + 3072.0 * 3072 * 4));
  EXPECT_DOUBLE_EQ(plan.weights, 2 * weight_bytes(vit));
  EXPECT_DOUBLE_EQ(plan.root_file, 2 * 9 * 8.0 * (3072.0 * 3072 + 768.0 * 768));
  EXPECT_DOUBLE_EQ(plan.memory(), plan.weights + plan.sums + plan.traces);
  params.memory_gb = 4.4;
  EXPECT_EQ(plan_moments(params, vit, 8, scale).passes, 1);
  params.memory_gb = 0.01;  // one layer is always done
  EXPECT_EQ(plan_moments(params, vit, 8, scale).passes, 12);
  params.importance = false;
  params.products = Products::diagonal;
  plan = plan_moments(params, vit, 8, scale);
  EXPECT_EQ(plan.passes, 1);
  EXPECT_DOUBLE_EQ(plan.traces, 16 * 20.0 * 197 * 12 * (768 + 3072) * 4);
  model::VitParams short_last = vit;
  short_last.short_last_block = true;
  EXPECT_EQ(plan_moments(params, short_last, 8, scale).layers, 11) << "the last MLP sees prefix tokens alone";
  EXPECT_EQ(plan_moments(params, vit, 8, {.images = 7}).rank_images, 7);
}

TEST(MomentsPlan, IsWhatTheRunDoes) {
  const SmallRun small;
  const RunConfig config = small.config({"assemble.method=least_squares", "assemble.storage=own_output",
                                         "cluster.tap=x", "moments.micro_batch=4", "moments.memory_gb=0.01"});
  const Pipeline pipeline(config);
  const auto plan = pipeline.moments_plan({.images = 60});
  ASSERT_TRUE(plan);
  run_stages(config, 2, 1, {"moments"});
  const nlohmann::json counts = pipeline.graph().manifest("moments").at("counts");
  EXPECT_EQ(counts.at("passes"), plan->passes);
  const model::TensorMap tensors =
      model::load_weights(pipeline.graph().folder("moments") / "layer-000.safetensors", true).tensors;
  double bytes = 0;
  for (const char* name : {"covariance", "gradient_directions"})
    bytes += 2.0 * static_cast<double>(tensors.at(name).nbytes());
  EXPECT_EQ(plan->root_file, bytes);
  EXPECT_FALSE(Pipeline(small.config({})).moments_plan({.images = 60})) << "no such stage";
}

TEST(ImageViews, AreTheImageMovedByLessThanAPatch) {
  constexpr std::int64_t kSide = 12, kPatch = 5;  // shifts of -2 .. 2
  MomentsParams params;
  EXPECT_EQ(view_count(params), 1);
  params.flip = true;
  params.shifts = 3;
  ASSERT_EQ(view_count(params), 8);
  const at::Tensor images = at::arange(2 * 3 * kSide * kSide, at::kFloat).reshape({2, 3, kSide, kSide});
  const std::vector<std::string> ids{"a", "b"};
  std::set<std::string> names;
  std::set<std::pair<std::int64_t, std::int64_t>> moves;
  for (std::int64_t view = 0; view < view_count(params); ++view) {
    const at::Tensor seen = view_images(params, images, ids, view, kPatch),
                     second = view_images(params, images.narrow(0, 1, 1), std::span(ids).subspan(1), view, kPatch);
    EXPECT_TRUE(at::equal(seen.narrow(0, 1, 1), second)) << "whatever images come with it";
    ASSERT_EQ(seen.sizes(), images.sizes());
    for (std::int64_t n = 0; n < 2; ++n) {
      names.insert(view_name(params, ids[static_cast<std::size_t>(n)], view));
      const at::Tensor from = view % 2 == 1 ? images[n].flip({2}) : images[n];
      // The one move under which every pixel is the one it was moved from, or the nearest at the edge.
      std::vector<std::pair<std::int64_t, std::int64_t>> found;
      for (std::int64_t dy = -2; dy <= 2; ++dy) {
        for (std::int64_t dx = -2; dx <= 2; ++dx) {
          bool same = true;
          for (std::int64_t y = 0; y < kSide && same; ++y) {
            for (std::int64_t x = 0; x < kSide && same; ++x) {
              same = at::equal(seen[n].select(1, y).select(1, x),
                               from.select(1, std::clamp<std::int64_t>(y + dy, 0, kSide - 1))
                                   .select(1, std::clamp<std::int64_t>(x + dx, 0, kSide - 1)));
            }
          }
          if (same) found.emplace_back(dy, dx);
        }
      }
      ASSERT_EQ(found.size(), 1u) << "view " << view;
      if (view < 2) {
        EXPECT_EQ(found.front(), (std::pair<std::int64_t, std::int64_t>{0, 0}));
      } else {
        moves.insert(found.front());
      }
    }
  }
  EXPECT_EQ(names.size(), 16u);
  EXPECT_GT(moves.size(), 4u);
  EXPECT_EQ(view_name(params, "a", 1), "a mirrored") << "what earlier artefacts were drawn by";
}

TEST(ImageViews, NoneMoreLeavesTheAddressOfMomentsAsItWas) {
  const SmallRun small;
  const auto address = [&](const std::string& shifts) {
    return run_stages(small.config({"assemble.method=least_squares", "cluster.tap=x", "moments.shifts=" + shifts}), 1,
                      1, {"moments"})
        .at("moments");
  };
  const std::filesystem::path none = address("0");
  EXPECT_FALSE(run::ArtefactStore::manifest_of(none).at("settings").at("moments").contains("shifts"));
  EXPECT_NE(address("1"), none);
}

/// Sums in double of what the model computes of every image on its own.
struct Oracle {
  at::Tensor count, sum, products;  // [experts], [experts, H], [experts, H, H]
  at::Tensor absolute, magnitudes;  // sum and products of |h|
};

Oracle sums_of(const moe::LoadedModel& model, const data::ImageSet& images, const MomentsParams& params,
               const LayerMoments& moments, std::int64_t layer) {
  const std::int64_t experts = std::ssize(moments.experts), hidden = model.description.vit.hidden;
  const auto zeros = [&](std::vector<std::int64_t> shape) { return at::zeros(shape, at::kDouble); };
  Oracle oracle{at::zeros({experts}, at::kLong), zeros({experts, hidden}), zeros({experts, hidden, hidden}),
                zeros({experts, hidden}), zeros({experts, hidden, hidden})};
  const auto network = moe::make_network(model.description, model.tensors);
  const std::int64_t prefix = moments.prefix_apart ? model.description.vit.prefix_tokens() : 0;
  const at::NoGradGuard no_grad;
  for (std::int64_t n = 0; n < images.size() * view_count(params); ++n) {
    const std::int64_t i = n / view_count(params);
    const model::InputBatch one = model::load_batch(images, model.description.preprocess, i, 1, model::BadImages::stop);
    const std::string id = images.id(i);
    const at::Tensor view =
        view_images(params, one.images, std::span(&id, 1), n % view_count(params), model.description.vit.patch_size);
    network->logits(view, [&](std::int64_t l, const model::MlpTrace& trace) {
      if (l != layer) return;
      const at::Tensor x = trace.x.reshape({-1, trace.x.size(-1)}), h = trace.h.reshape({-1, hidden}).to(at::kDouble);
      const at::Tensor scores = moe::router_scores(moments.router, x);
      for (std::int64_t t = 0; t < x.size(0); ++t) {
        const std::int64_t e = t < prefix ? experts - 1 : scores[t].argmax().item<std::int64_t>();
        oracle.count[e] += 1;
        oracle.sum[e] += h[t];
        oracle.products[e] += at::outer(h[t], h[t]);
        oracle.absolute[e] += h[t].abs();
        oracle.magnitudes[e] += at::outer(h[t].abs(), h[t].abs());
      }
    });
  }
  return oracle;
}

TEST(Moments, DoNotDependOnTheMicroBatchBeyondTheRounding) {
  const SmallRun small;
  const moe::LoadedModel model = moe::load_model(small.weights_file(), std::nullopt);
  struct Case {
    std::int64_t micro_batch;
    std::string flip, shifts, tap;
  };
  for (const auto& [micro_batch, flip, shifts, tap] : {Case{1, "false", "0", "x"}, Case{4, "false", "0", "z"},
                                                       Case{7, "true", "2", "x"}, Case{60, "false", "0", "x"}}) {
    const RunConfig config =
        small.config({"assemble.method=least_squares", "assemble.storage=own_output", "cluster.tap=" + tap,
                      "moments.importance=false", "moments.flip=" + flip, "moments.shifts=" + shifts,
                      "moments.micro_batch=" + std::to_string(micro_batch)});
    const std::filesystem::path folder = run_stages(config, 2, 2, {"moments"}).at("moments");
    const auto images = data::open_image_set(config.data.calibration);
    const double batches =
        static_cast<double>((images->size() + micro_batch - 1) / micro_batch * view_count(config.moments));
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      const LayerMoments moments = load_layer_moments(folder, layer);
      const Oracle oracle = sums_of(model, *images, config.moments, moments, layer);
      for (std::int64_t e = 0; e < std::ssize(moments.experts); ++e) {
        const moe::SecondMoments& m = moments.experts[static_cast<std::size_t>(e)];
        ASSERT_EQ(m.count, oracle.count[e].item<std::int64_t>()) << "every token goes where it went";
        const auto n = static_cast<double>(m.count);
        EXPECT_EQ(m.weight, n);
        if (m.count == 0) continue;
        // second_moments.h: 2^-25 a micro-batch, beside a float32 sum's n 2^-24 of its terms' magnitudes.
        const at::Tensor bound = batches * std::ldexp(1.0, -25) + n * std::ldexp(1.0, -24) * oracle.magnitudes[e];
        const at::Tensor products = (m.covariance + at::outer(m.mean, m.mean)) * n;
        EXPECT_TRUE(((products - oracle.products[e]).abs() <= bound).all().item<bool>())
            << "micro-batches of " << micro_batch << ", layer " << layer << ", expert " << e << ": "
            << (products - oracle.products[e]).abs().max().item<double>();
        const at::Tensor mean_bound = batches * std::ldexp(1.0, -25) + n * std::ldexp(1.0, -24) * oracle.absolute[e];
        EXPECT_TRUE(((m.mean * n - oracle.sum[e]).abs() <= mean_bound).all().item<bool>());
      }
    }
  }
}

}  // namespace
}  // namespace moextract::stages::test
