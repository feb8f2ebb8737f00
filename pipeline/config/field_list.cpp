#include "config/field_list.h"

#include <algorithm>

#include "core/error.h"

namespace moextract::config {
namespace {

std::string joined(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : path + "." + std::string(name);
}

void note_section(std::vector<SectionDoc>& sections, const std::string& path, std::string doc) {
  const auto known = std::find_if(sections.begin(), sections.end(), [&](const auto& s) { return s.path == path; });
  if (known == sections.end()) {
    sections.push_back({path, std::move(doc)});
  } else if (known->doc.empty()) {
    known->doc = std::move(doc);
  }
}

}  // namespace

Field& Section::add(std::string_view name, ValueRef value, std::string doc) {
  const std::string path = joined(path_, name);
  MOEX_ASSERT(!name.empty() && name.find('.') == std::string_view::npos, "a field's name is one word: " + path);
  MOEX_ASSERT(list_->find(path) == nullptr, "described twice: " + path);
  MOEX_ASSERT(path != "include", "the reader keeps the key 'include' for itself");
  if (!path_.empty()) note_section(list_->sections_, path_, "");
  return list_->fields_.emplace_back(path, std::move(value), std::move(doc));
}

Section Section::section(std::string_view name, std::string doc) {
  std::string path = joined(path_, name);
  MOEX_ASSERT(!name.empty() && name.find('.') == std::string_view::npos, "a section's name is one word: " + path);
  MOEX_ASSERT(list_->find(path) == nullptr, "both a field and a section: " + path);
  note_section(list_->sections_, path, std::move(doc));
  return Section(*list_, std::move(path));
}

const Field* FieldList::find(std::string_view path) const {
  const auto found = std::find_if(fields_.begin(), fields_.end(), [&](const Field& f) { return f.path == path; });
  return found == fields_.end() ? nullptr : &*found;
}

}  // namespace moextract::config
