// A condition on the keys of a run: "cluster.k <= 16 or assemble.storage == shared".
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace moextract::sweep {

/// Keys, numbers, names, true, false and null, joined by == != < <= > >=, + - * /, and, or, not and parentheses. A word
/// with a dot is a key; other words are names ("shared"). Comparing null by anything but == and != is false.
class Constraint {
 public:
  struct Node;

  /// `check_key` is called with every key that the text names, and throws if there is no such key. Throws UserError
  /// (config) that shows the text and the place of a mistake, behind `prefix`.
  Constraint(std::string text, const std::string& prefix, const std::function<void(const std::string&)>& check_key);

  /// `values`: the nested configuration as config::to_json gives it. Throws UserError (config) where text is compared
  /// with a number, or calculated with.
  bool holds(const nlohmann::json& values) const;
  const std::string& text() const { return text_; }

 private:
  std::string text_, prefix_;
  std::shared_ptr<const Node> root_;
};

}  // namespace moextract::sweep
