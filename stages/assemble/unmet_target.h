// A budget that no choice of neurons can meet.
#pragma once

#include <string_view>

namespace moextract::stages {

/// Throws UserError (config): what `key` asks for cannot be met, what could be, and what to change. `asked` and `least`
/// (of the smallest model allowed) are shares of the dense model's; `experts`: some layer is cut at all.
[[noreturn]] void fail_unmet(std::string_view key, double asked, double least, bool experts);

}  // namespace moextract::stages
