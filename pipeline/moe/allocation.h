// How many neurons each expert of each layer gets, from one threshold over all of them.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace moextract::moe {

/// One expert's claim: what each of its neurons is worth, in the order in which they would be removed.
struct Claim {
  std::vector<double> worth;  ///< [H], not falling: the expected rise of error per token when it is removed next
  double factor = 1.0;        ///< brings claims of different experts and layers onto one scale
  double price = 1.0;         ///< cost of one neuron: MACs of the tokens that go there
};

/// Keeps, of each claim, the neurons whose worth * factor is above one threshold, at least `minimum`; the threshold is
/// the lowest at which the summed price is within `budget`. Returns the number kept of each claim. Throws UserError
/// (config) naming `key` if even the minimum costs more.
std::vector<std::int64_t> allocate(const std::vector<Claim>& claims, std::int64_t minimum, double budget,
                                   const char* key);

}  // namespace moextract::moe
