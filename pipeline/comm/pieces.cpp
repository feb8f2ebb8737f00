// The one copy of the piece sizes.
#include "comm/pieces.h"

namespace moextract::comm {

PieceSizes& piece_sizes() noexcept {
  static PieceSizes sizes;
  return sizes;
}

}  // namespace moextract::comm
