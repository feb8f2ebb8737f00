#include "config/describe.h"

#include <fmt/format.h>

#include <limits>
#include <type_traits>

namespace moextract::config {
namespace {

/// The type of one value: of the field itself, or of an element.
enum class Kind { boolean, whole, number, text, path, name };

struct Shape {
  Kind kind;
  bool list = false, nullable = false, triple = false;
};

Shape shape_of(const ValueRef& value) {
  struct Visitor {
    Shape operator()(bool*) const { return {Kind::boolean}; }
    Shape operator()(int*) const { return {Kind::whole}; }
    Shape operator()(std::int64_t*) const { return {Kind::whole}; }
    Shape operator()(std::uint64_t*) const { return {Kind::whole}; }
    Shape operator()(double*) const { return {Kind::number}; }
    Shape operator()(std::string*) const { return {Kind::text}; }
    Shape operator()(std::filesystem::path*) const { return {Kind::path}; }
    Shape operator()(std::optional<double>*) const { return {.kind = Kind::number, .nullable = true}; }
    Shape operator()(std::optional<std::int64_t>*) const { return {.kind = Kind::whole, .nullable = true}; }
    Shape operator()(std::array<double, 3>*) const { return {.kind = Kind::number, .triple = true}; }
    Shape operator()(std::vector<std::string>*) const { return {.kind = Kind::text, .list = true}; }
    Shape operator()(std::vector<std::int64_t>*) const { return {.kind = Kind::whole, .list = true}; }
    Shape operator()(std::vector<double>*) const { return {.kind = Kind::number, .list = true}; }
    Shape operator()(const EnumRef&) const { return {Kind::name}; }
  };
  return std::visit(Visitor{}, value);
}

std::string names_of(const Field& field) {
  std::string names;
  for (const auto& [name, sentence] : std::get<EnumRef>(field.value).names) {
    names += (names.empty() ? "" : ", ") + name;
  }
  return names;
}

std::string plain_kind(const Field& field, Kind kind) {
  switch (kind) {
    case Kind::boolean:
      return "true or false";
    case Kind::whole:
      return "whole number";
    case Kind::number:
      return "number";
    case Kind::text:
      return "text";
    case Kind::path:
      return field.output_path ? "output path" : "path";
    case Kind::name:
      return "one of " + names_of(field);
  }
  return "";
}

std::string with_bounds(const Field& field, const std::optional<std::string>& low,
                        const std::optional<std::string>& high) {
  const Shape shape = shape_of(field.value);
  std::string text;
  switch (shape.kind) {
    case Kind::boolean:
      return "true or false";
    case Kind::name:
      return "one of " + names_of(field);
    case Kind::text:
      return "text";
    case Kind::path:
      return "a path";
    case Kind::whole:
      text = "a whole number";
      break;
    case Kind::number:
      text = "a number";
      break;
  }
  if (low && high) {
    text += fmt::format(" between {} and {}", *low, *high);
  } else if (low) {
    text += " of at least " + *low;
  } else if (high) {
    text += " of at most " + *high;
  }
  return shape.nullable ? text + " or null" : text;
}

std::optional<std::string> bound(const std::optional<double>& value) {
  return value ? std::optional(fmt::format("{}", *value)) : std::nullopt;
}

bool is_unsigned(const Field& field) {
  return std::holds_alternative<std::uint64_t*>(field.value);
}

}  // namespace

std::string type_name(const Field& field) {
  const Shape shape = shape_of(field.value);
  const std::string kind = plain_kind(field, shape.kind);
  if (shape.list) return "list of " + kind + "s";
  if (shape.triple) return "number or list of three";
  return shape.nullable ? kind + " or null" : kind;
}

std::string bounds_text(const Field& field) {
  if (field.minimum && field.maximum) return fmt::format("{} to {}", *field.minimum, *field.maximum);
  if (field.minimum) return fmt::format("at least {}", *field.minimum);
  if (field.maximum) return fmt::format("at most {}", *field.maximum);
  return "";
}

std::string expected_value(const Field& field) {
  std::optional<std::string> low = bound(field.minimum);
  if (!low && is_unsigned(field)) low = "0";
  return with_bounds(field, low, bound(field.maximum));
}

std::string expected_value_with_type_limits(const Field& field) {
  const auto limits = [&]<class T>(T) {
    const auto low = bound(field.minimum).value_or(fmt::format("{}", std::numeric_limits<T>::min()));
    const auto high = bound(field.maximum).value_or(fmt::format("{}", std::numeric_limits<T>::max()));
    return with_bounds(field, low, high);
  };
  if (is_unsigned(field)) return limits(std::uint64_t{});
  if (std::holds_alternative<int*>(field.value)) return limits(int{});
  return limits(std::int64_t{});
}

std::string expected_whole_field(const Field& field) {
  const Shape shape = shape_of(field.value);
  if (shape.triple) return "one number or a list of three";
  return shape.list ? "a " + type_name(field) : expected_value(field);
}

std::string last_name(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? path : path.substr(dot + 1);
}

std::string parent_path(const std::string& path) {
  const auto dot = path.rfind('.');
  return dot == std::string::npos ? "" : path.substr(0, dot);
}

bool is_under(std::string_view path, std::string_view prefix) {
  if (!path.starts_with(prefix)) return false;
  return prefix.empty() || prefix.back() == '.' || path.size() == prefix.size() || path[prefix.size()] == '.';
}

}  // namespace moextract::config
