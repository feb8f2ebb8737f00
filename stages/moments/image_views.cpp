#include "stages/moments/image_views.h"

#include <ATen/ATen.h>

#include <vector>

#include "core/hash.h"
#include "core/random.h"

namespace moextract::stages {
namespace {

bool is_mirrored(const MomentsParams& params, std::int64_t view) {
  return params.flip && view % 2 == 1;
}

/// Which shifted copy a view is; 0: it is not shifted.
std::int64_t copy_of(const MomentsParams& params, std::int64_t view) {
  return params.flip ? view / 2 : view;
}

}  // namespace

std::int64_t view_count(const MomentsParams& params) {
  return (params.flip ? 2 : 1) * (1 + params.shifts);
}

std::string view_name(const MomentsParams& params, const std::string& id, std::int64_t view) {
  std::string name = id;
  if (is_mirrored(params, view)) name += " mirrored";
  if (const std::int64_t copy = copy_of(params, view); copy > 0) name += " shifted " + std::to_string(copy);
  return name;
}

at::Tensor view_images(const MomentsParams& params, const at::Tensor& images, std::span<const std::string> ids,
                       std::int64_t view, std::int64_t patch) {
  const at::Tensor turned = is_mirrored(params, view) ? images.flip({3}) : images;
  const std::int64_t most = patch / 2;
  if (copy_of(params, view) == 0 || most == 0 || images.size(0) == 0) return turned;
  const at::Tensor wide = at::replication_pad2d(turned, {most, most, most, most});
  std::vector<at::Tensor> shifted;
  for (std::int64_t n = 0; n < images.size(0); ++n) {
    RandomStream random(params.seed,
                        hash64(view_name(params, ids[static_cast<std::size_t>(n)], view), hash64("shift")));
    const auto range = static_cast<std::uint64_t>(2 * most + 1);
    const auto dy = static_cast<std::int64_t>(random.below(range)), dx = static_cast<std::int64_t>(random.below(range));
    shifted.push_back(wide[n].narrow(1, dy, images.size(2)).narrow(2, dx, images.size(3)));
  }
  return at::stack(shifted);
}

}  // namespace moextract::stages
