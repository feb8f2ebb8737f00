#include "model/vit_params.h"

#include <array>
#include <cmath>

#include "core/error.h"

namespace moextract::model {
namespace {

struct Size {
  const char* name;
  std::int64_t width, depth, heads;
};
constexpr std::array<Size, 4> kSizes{
    {{"tiny", 192, 12, 3}, {"small", 384, 12, 6}, {"base", 768, 12, 12}, {"large", 1024, 24, 16}}};
constexpr std::array<std::int64_t, 3> kPatches{8, 16, 32};
constexpr std::array<std::int64_t, 2> kImages{224, 384};

NamedVit make(std::string name, const Size& size, std::int64_t patch, std::int64_t image) {
  NamedVit named{std::move(name), {}, {}};
  named.vit.image_size = image;
  named.vit.patch_size = patch;
  named.vit.width = size.width;
  named.vit.depth = size.depth;
  named.vit.heads = size.heads;
  named.vit.hidden = 4 * size.width;
  // timm's default configurations: ViT (augreg): crop share 0.9 (1.0 at 384), mean = std = 0.5; DeiT: ImageNet's.
  const bool deit = named.name.starts_with("deit");
  const double crop_share = image == 384 ? 1.0 : 0.9;
  named.preprocess.crop = static_cast<int>(image);
  named.preprocess.resize = static_cast<int>(std::floor(static_cast<double>(image) / crop_share));
  named.preprocess.interpolation = data::Interpolation::bicubic;
  if (deit) {
    named.preprocess.mean = {0.485, 0.456, 0.406};
    named.preprocess.std = {0.229, 0.224, 0.225};
  }
  return named;
}

std::vector<NamedVit> make_all() {
  std::vector<NamedVit> all;
  for (const Size& size : kSizes) {
    for (const std::int64_t patch : kPatches) {
      for (const std::int64_t image : kImages) {
        all.push_back(make(fmt::format("vit_{}_patch{}_{}", size.name, patch, image), size, patch, image));
      }
    }
  }
  for (const Size& size : {kSizes[0], kSizes[1], kSizes[2]}) {
    for (const std::int64_t image : kImages) {
      all.push_back(make(fmt::format("deit_{}_patch16_{}", size.name, image), size, 16, image));
      NamedVit distilled = make(fmt::format("deit_{}_distilled_patch16_{}", size.name, image), size, 16, image);
      distilled.vit.distilled = true;
      all.push_back(std::move(distilled));
    }
  }
  return all;
}

}  // namespace

std::optional<NamedVit> find_named_vit(std::string_view name) {
  const std::string_view stem = name.substr(0, name.find('.'));
  for (NamedVit& named : make_all()) {
    if (named.name == stem) return named;
  }
  return std::nullopt;
}

std::vector<std::string> named_vits() {
  std::vector<std::string> names;
  for (const NamedVit& named : make_all()) names.push_back(named.name);
  return names;
}

void validate(const VitParams& p) {
  const auto positive = [](const char* key, std::int64_t value) {
    if (value < 1) fail(ExitCode::config, "model.{}: must be at least 1, is {}", key, value);
  };
  positive("image_size", p.image_size);
  positive("patch_size", p.patch_size);
  positive("channels", p.channels);
  positive("width", p.width);
  positive("depth", p.depth);
  positive("heads", p.heads);
  positive("hidden", p.hidden);
  positive("classes", p.classes);
  if (p.image_size % p.patch_size != 0) {
    fail(ExitCode::config, "model.patch_size: {} does not divide model.image_size {}", p.patch_size, p.image_size);
  }
  if (p.width % p.heads != 0) {
    fail(ExitCode::config, "model.heads: {} does not divide model.width {}", p.heads, p.width);
  }
  if (p.short_last_block && !p.class_token) {
    fail(ExitCode::config, "model.short_last_block: needs model.class_token: the mean over patches reads all tokens");
  }
  if (p.distilled && !p.class_token) fail(ExitCode::config, "model.distilled: needs model.class_token");
}

}  // namespace moextract::model
