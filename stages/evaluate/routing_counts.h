// Which tokens went to which experts of a layer: the counts behind token shares, entropies, and what experts take on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "model/vit_params.h"

namespace moextract::stages {

/// Tokens of one layer by the expert they went to. A token that goes to several experts counts at each.
struct RoutingCounts {
  std::int64_t experts = 0;  ///< 0: a layer without
  std::int64_t routed_experts =
      0;  ///< without the prefix tokens' own, which is the last and to which nothing is routed
  std::int64_t classes = 0, positions = 0;
  std::vector<std::int64_t> by_class;     ///< [experts, class of the image]
  std::vector<std::int64_t> by_position;  ///< [experts, position in the image, prefix tokens first]
  std::int64_t entropy = 0, routed = 0;   ///< entropies of the router's probabilities in units of 2^-32 bit, over how
                                          ///< many tokens

  /// [experts]
  std::vector<std::int64_t> tokens() const;
  /// In bits, over the tokens that were routed; H_u: of their distribution over the experts.
  double usage_entropy() const;
  double class_information() const;     ///< I(E;Y)
  double position_information() const;  ///< I(E;P)
  double router_entropy() const;        ///< H_s: mean over tokens
};

/// An entropy as an integer, so that sums do not depend on their order.
std::int64_t entropy_units(double bits);

/// Tensors of layers with experts: "layer.<l>.by_class" [experts, classes], "layer.<l>.by_position" [experts,
/// positions], int64. Writes no file if there is none.
void save_routing(const std::filesystem::path& path, std::span<const RoutingCounts> layers);
/// What save_routing has written, by layer number, of as many layers as `prefix_apart` has values: whether the last
/// expert of each is the prefix tokens' own. Entropies are not in the file. Throws UserError (input) if it is damaged.
std::vector<RoutingCounts> load_routing(const std::filesystem::path& path, const std::vector<bool>& prefix_apart);

/// What each routed expert takes, for the report: {"grid": patches a side, "experts": [{"positions": [tokens from each
/// patch of the image, row by row], "classes": [{"class", "tokens", "lift"}]}]}. Classes are those that tell most about
/// the choice of this expert, at most five: with p = share of the expert's tokens, q = share of all routed tokens, p
/// log p/q is largest and positive; lift is p/q. null for a layer without experts or whose tokens are not all patches.
nlohmann::json specialisation(const RoutingCounts& counts, const model::VitParams& vit);

}  // namespace moextract::stages
