#include "config/field_value.h"

#include <fmt/format.h>

#include <limits>

#include "config/describe.h"
#include "config/number_text.h"
#include "config/reader.h"
#include "config/variables.h"
#include "core/error.h"

namespace moextract::config {
namespace {

std::string quoted(std::string text) {
  constexpr std::size_t kLongest = 60;
  if (text.size() > kLongest) {
    std::size_t cut = kLongest;
    while (cut > 0 && (static_cast<unsigned char>(text[cut]) & 0xc0) == 0x80) --cut;  // not inside a UTF-8 character
    text = text.substr(0, cut) + "...";
  }
  return "'" + text + "'";
}

/// A text in plain style is null when it is one of YAML's words; yaml-cpp has told for files, --set hands on texts.
bool is_null_word(const std::string& text) {
  return text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL";
}

class Assignment {
 public:
  Assignment(const Field& field, const YAML::Node& node, const YAML::Mark& key_mark, const ValueSource& source)
      : field_(field), node_(node), key_mark_(key_mark), source_(source) {}

  void operator()(bool* value) const {
    const std::string text = scalar(node_);
    if (text != "true" && text != "yes" && text != "false" && text != "no") {
      wrong(node_, "true or false (or yes, no)", quoted(text));
    }
    *value = text == "true" || text == "yes";
  }
  void operator()(int* value) const { *value = whole<int>(node_); }
  void operator()(std::int64_t* value) const { *value = whole<std::int64_t>(node_); }
  void operator()(std::uint64_t* value) const { *value = whole<std::uint64_t>(node_); }
  void operator()(double* value) const { *value = number(node_); }
  void operator()(std::string* value) const { *value = scalar(node_); }
  void operator()(std::filesystem::path* value) const {
    std::filesystem::path path = scalar(node_);
    if (!path.empty() && !field_.output_path) path = (source_.folder / path).lexically_normal();
    *value = std::move(path);
  }
  void operator()(std::optional<double>* value) const {
    *value = is_null() ? std::nullopt : std::optional(number(node_));
  }
  void operator()(std::optional<std::int64_t>* value) const {
    *value = is_null() ? std::nullopt : std::optional(whole<std::int64_t>(node_));
  }
  void operator()(std::array<double, 3>* value) const {
    if (!node_.IsSequence()) {
      if (!node_.IsScalar()) wrong(node_, expected_whole_field(field_), found_text(node_));
      value->fill(number(node_));
      return;
    }
    if (node_.size() != value->size()) {
      wrong(node_, expected_whole_field(field_), fmt::format("a list of {}", node_.size()));
    }
    std::array<double, 3> numbers{};
    for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = number(node_[i], static_cast<int>(i));
    *value = numbers;
  }
  void operator()(std::vector<std::string>* value) const {
    list(value, [this](const YAML::Node& node, int index) { return scalar(node, index); });
  }
  void operator()(std::vector<std::int64_t>* value) const {
    list(value, [this](const YAML::Node& node, int index) { return whole<std::int64_t>(node, index); });
  }
  void operator()(std::vector<double>* value) const {
    list(value, [this](const YAML::Node& node, int index) { return number(node, index); });
  }
  void operator()(const EnumRef& value) const {
    const std::string text = scalar(node_);
    if (value.set(text)) return;
    std::vector<std::string> names;
    for (const auto& [name, sentence] : value.names) names.push_back(name);
    const std::string near = nearest_name(text, names);
    wrong(node_, expected_value(field_), quoted(text) + (near.empty() ? "" : "; did you mean " + near + "?"));
  }

 private:
  /// `index` >= 0 names an element of a list.
  std::string key(int index) const { return index < 0 ? field_.path : fmt::format("{}[{}]", field_.path, index); }
  /// The parser's mark of a value that is not there is that of whatever comes next.
  const YAML::Mark& mark(const YAML::Node& node, int index) const {
    place_ = node.IsNull() ? (index < 0 ? key_mark_ : node_.Mark()) : node.Mark();
    return place_;
  }
  [[noreturn]] void wrong(const YAML::Node& node, const std::string& expected, const std::string& found,
                          int index = -1) const {
    fail(ExitCode::config, "{}expected {}, got {}", source_.prefix(mark(node, index), key(index)), expected, found);
  }
  bool is_null() const {
    return node_.IsNull() || (node_.IsScalar() && node_.Tag() != "!" && is_null_word(node_.Scalar()));
  }

  std::string scalar(const YAML::Node& node, int index = -1) const {
    if (!node.IsScalar()) {
      std::string found = found_text(node);
      if (node.IsNull() && field_takes_text()) found += " (write \"\" for an empty text)";
      wrong(node, expected_value(field_), found, index);
    }
    return scalar_text(node, key_mark_, key(index), source_);
  }
  bool field_takes_text() const {
    return std::holds_alternative<std::string*>(field_.value) ||
           std::holds_alternative<std::filesystem::path*>(field_.value) ||
           std::holds_alternative<std::vector<std::string>*>(field_.value);
  }

  bool is_within_bounds(long double value) const {
    return !(field_.minimum && value < *field_.minimum) && !(field_.maximum && value > *field_.maximum);
  }
  double number(const YAML::Node& node, int index = -1) const {
    const std::string text = scalar(node, index);
    const std::optional<double> value = parse_number(text);
    if (!value || !is_within_bounds(*value)) wrong(node, expected_value(field_), quoted(text), index);
    return *value;
  }
  template <class Integer>
  Integer whole(const YAML::Node& node, int index = -1) const {
    const std::string text = scalar(node, index);
    const std::optional<WholeNumber> number = parse_whole_number(text);
    if (!number) wrong(node, expected_value(field_), quoted(text), index);
    if (number->too_large || number->value < std::numeric_limits<Integer>::min() ||
        number->value > std::numeric_limits<Integer>::max()) {
      wrong(node, expected_value_with_type_limits(field_), quoted(text), index);
    }
    if (!is_within_bounds(static_cast<long double>(number->value))) {
      wrong(node, expected_value(field_), quoted(text), index);
    }
    return static_cast<Integer>(number->value);
  }

  template <class Element, class Convert>
  void list(std::vector<Element>* value, const Convert& convert) const {
    if (node_.IsScalar()) {
      *value = {convert(node_, -1)};
      return;
    }
    if (!node_.IsSequence()) {
      wrong(node_, expected_whole_field(field_), found_text(node_) + (node_.IsNull() ? " (write [] for none)" : ""));
    }
    std::vector<Element> elements;
    for (const YAML::Node& node : node_) elements.push_back(convert(node, static_cast<int>(elements.size())));
    *value = std::move(elements);
  }

  const Field& field_;
  const YAML::Node& node_;
  const YAML::Mark& key_mark_;
  const ValueSource& source_;
  mutable YAML::Mark place_;
};

}  // namespace

void assign(Field& field, const YAML::Node& node, const YAML::Mark& key_mark, const ValueSource& source) {
  std::visit(Assignment(field, node, key_mark, source), field.value);
  field.given = true;
}

std::string scalar_text(const YAML::Node& node, const YAML::Mark& key_mark, const std::string& key,
                        const ValueSource& source) {
  std::string problem;
  const std::optional<std::string> text = expand_variables(node.Scalar(), problem);
  if (!text) {
    fail(ExitCode::config, "{}{}", source.prefix(node.Mark().is_null() ? key_mark : node.Mark(), key), problem);
  }
  return *text;
}

std::string found_text(const YAML::Node& node) {
  if (node.IsScalar()) return quoted(node.Scalar());
  if (node.IsSequence()) return "a list";
  return node.IsMap() ? "a section" : "nothing";
}

}  // namespace moextract::config
