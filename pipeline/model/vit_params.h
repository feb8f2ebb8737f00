// The shape of a plain Vision Transformer (Dosovitskiy et al. 2021; DeiT: Touvron et al. 2021) and timm's names for the
// common ones.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/preprocess.h"

namespace moextract::model {

struct VitParams {
  std::int64_t image_size = 224;  ///< side of the input, pixels
  std::int64_t patch_size = 16;   ///< side of a patch, pixels
  std::int64_t channels = 3;
  std::int64_t width = 192;  ///< embedding dimension d
  std::int64_t depth = 12;   ///< encoder blocks
  std::int64_t heads = 3;
  std::int64_t hidden = 768;  ///< neurons of each MLP, H
  std::int64_t classes = 1000;
  bool qkv_bias = true;
  bool class_token = true;  ///< false: the mean over patches is classified
  bool distilled = false;   ///< DeiT's distillation token and second head; the two heads' mean is the answer
  double norm_eps = 1e-6;
  /// The last block computes the tokens that the head reads alone: of the others keys and values are enough. The same
  /// logits for fewer MACs; only with a class token.
  bool short_last_block = false;

  std::int64_t patches() const { return (image_size / patch_size) * (image_size / patch_size); }
  std::int64_t prefix_tokens() const { return (class_token ? 1 : 0) + (distilled ? 1 : 0); }
  std::int64_t tokens() const { return patches() + prefix_tokens(); }
  /// Tokens of an image that go through the MLP of a block.
  std::int64_t mlp_tokens(std::int64_t layer) const {
    return short_last_block && layer == depth - 1 ? prefix_tokens() : tokens();
  }
};

/// A model that timm knows by name, with the preprocessing of its usual weights.
struct NamedVit {
  std::string name;
  VitParams vit;
  data::PreprocessParams preprocess;
};

/// vit_{tiny,small,base,large}_patch{8,16,32}_{224,384}, deit_{tiny,small,base}[_distilled]_patch16_{224,384}. A suffix
/// after a dot, as in vit_tiny_patch16_224.augreg_in21k_ft_in1k, is cut off. Empty if the name is none of them.
std::optional<NamedVit> find_named_vit(std::string_view name);
std::vector<std::string> named_vits();

/// Throws UserError (config) if the numbers do not fit together (names the key).
void validate(const VitParams& params);

}  // namespace moextract::model
