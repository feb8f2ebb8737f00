// Graphs of stages that do nothing, for plans.
#pragma once

#include <nlohmann/json.hpp>

#include "run/stage_graph.h"
#include "sweep/plan.h"

namespace moextract::sweep {

inline run::StageNode stage(const std::string& id, const nlohmann::json& settings,
                            std::map<std::string, std::string> inputs, std::vector<std::string> needs) {
  run::StageNode node;
  node.id = id;
  std::string name = id;
  for (char& c : name) c = c == '/' ? '-' : c;
  node.spec = {name, 1, settings, std::move(inputs)};
  node.needs = std::move(needs);
  return node;
}

/// collect <- cluster(k, seed) <- assemble/experts <- evaluate/experts, and evaluate/dense for all.
inline run::StageGraph sample_graph(const std::filesystem::path& store, int k, int seed) {
  run::StageGraph graph(store);
  const auto key = [&](const char* id) { return graph.node(id).spec.key(); };
  graph.add(stage("collect", {{"tokens", 16}}, {}, {}));
  graph.add(stage("cluster", {{"k", k}, {"seed", seed}}, {{"collect", key("collect")}}, {"collect"}));
  graph.add(stage("assemble/experts", {}, {{"cluster", key("cluster")}}, {"collect", "cluster"}));
  graph.add(stage("evaluate/dense", {}, {}, {}));
  graph.add(stage("evaluate/experts", {}, {{"model", key("assemble/experts")}}, {"assemble/experts"}));
  return graph;
}

}  // namespace moextract::sweep
