// One list of fields for everything: a params struct describes its fields once (name, where the value lives, one
// sentence, bounds), and the YAML reader, --set, --help, the reference page and the manifest all walk that list.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

namespace moextract::config {

/// Refers to a value inside a params struct. The struct must outlive the list.
struct EnumRef {
  std::function<std::string()> get;
  std::function<bool(std::string_view)> set;               ///< false: no such name
  std::vector<std::pair<std::string, std::string>> names;  ///< name, one sentence
};
using ValueRef = std::variant<bool*, int*, std::int64_t*, std::uint64_t*, double*, std::string*, std::filesystem::path*,
                              std::optional<double>*, std::optional<std::int64_t>*, std::array<double, 3>*,
                              std::vector<std::string>*, std::vector<std::int64_t>*, std::vector<double>*, EnumRef>;

class Field {
 public:
  Field(std::string path, ValueRef value, std::string doc)
      : path(std::move(path)), value(std::move(value)), doc(std::move(doc)) {}

  std::string path;  ///< "cluster.k"
  ValueRef value;
  std::string doc;  ///< one sentence, no trailing period needed
  std::optional<double> minimum, maximum;
  std::string unit;
  bool affects_result = true;  ///< false: speed, places, logging: not part of an artefact's address
  bool required = false;       ///< must be given in the file
  bool output_path = false;    ///< a path relative to the working folder instead of the config file's folder
  bool given = false;          ///< set by the reader: a file or --set named this field

  Field& at_least(double v) {
    minimum = v;
    return *this;
  }
  Field& at_most(double v) {
    maximum = v;
    return *this;
  }
  Field& in(std::string u) {
    unit = std::move(u);
    return *this;
  }
  Field& runtime_only() {
    affects_result = false;
    return *this;
  }
  Field& must_be_given() {
    required = true;
    return *this;
  }
  Field& output() {
    output_path = true;
    return *this;
  }
};

struct SectionDoc {
  std::string path, doc;
};

class FieldList;

/// A place in the list under which a struct's describe() adds its fields.
class Section {
 public:
  Section(FieldList& list, std::string path) : list_(&list), path_(std::move(path)) {}
  /// Adds a field; returns it for at_least() and the like.
  Field& add(std::string_view name, ValueRef value, std::string doc);
  /// Adds a field of an enum class whose values have names.
  template <class E>
  Field& add_enum(std::string_view name, E& value, std::vector<std::tuple<std::string, E, std::string>> names,
                  std::string doc) {
    EnumRef ref;
    for (const auto& [text, number, sentence] : names) ref.names.emplace_back(text, sentence);
    ref.get = [&value, names] {
      for (const auto& [text, number, sentence] : names) {
        if (number == value) return text;
      }
      return std::string("?");
    };
    ref.set = [&value, names](std::string_view wanted) {
      for (const auto& [text, number, sentence] : names) {
        if (text == wanted) {
          value = number;
          return true;
        }
      }
      return false;
    };
    return add(name, ValueRef(std::move(ref)), std::move(doc));
  }
  Section section(std::string_view name, std::string doc);

 private:
  FieldList* list_;
  std::string path_;
};

/// The fields of a whole configuration, in the order they were described.
class FieldList {
 public:
  Section root() { return Section(*this, ""); }
  const std::deque<Field>& fields() const { return fields_; }
  std::deque<Field>& fields() { return fields_; }
  const std::vector<SectionDoc>& sections() const { return sections_; }
  const Field* find(std::string_view path) const;

 private:
  friend class Section;
  std::deque<Field> fields_;  // a deque: add() hands out references
  std::vector<SectionDoc> sections_;
};

/// The value as it would stand in YAML: 8, 0.5, true, [1, 2], shared, null. Doubles are the shortest text that reads
/// back to the same bits; texts are quoted where YAML or ${VAR} would read them otherwise.
std::string to_yaml_text(const Field& field);

}  // namespace moextract::config
