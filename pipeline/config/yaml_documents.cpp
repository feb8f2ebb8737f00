#include "config/yaml_documents.h"

#include <yaml-cpp/eventhandler.h>

#include <sstream>

namespace moextract::config {
namespace {

/// Where a document begins; all else is left to the second reading.
class Beginnings : public YAML::EventHandler {
 public:
  YAML::Mark last = YAML::Mark::null_mark();

  void OnDocumentStart(const YAML::Mark& mark) override { last = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t, const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t, YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

}  // namespace

std::vector<YAML::Node> load_documents(const std::string& text) {
  // Where a document begins with what none can begin with, such as a comma, yaml-cpp takes it for an empty one, does
  // not step over it, and finds empty documents until the memory ends.
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  Beginnings beginnings;
  for (YAML::Mark before = YAML::Mark::null_mark(); parser.HandleNextDocument(beginnings); before = beginnings.last) {
    if (!before.is_null() && before.pos == beginnings.last.pos)
      throw YAML::ParserException(before, "text that belongs to no key or list");
  }
  return YAML::LoadAll(text);
}

}  // namespace moextract::config
