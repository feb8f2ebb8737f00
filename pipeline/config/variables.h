// ${VAR} in configuration values.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace moextract::config {

/// Replaces ${VAR} and ${VAR:-default} (the default also for an empty variable, as in a shell; it may hold variables
/// itself) by the environment's values; "$${" becomes "${". nullopt, with the reason in `problem`, if a variable is
/// unset and has no default or the form is wrong.
std::optional<std::string> expand_variables(std::string_view text, std::string& problem);

}  // namespace moextract::config
