#include "stages/sweep_plan.h"

#include <algorithm>

#include "config/reader.h"
#include "config/render.h"
#include "core/error.h"
#include "stages/pipeline.h"

namespace moextract::stages {
namespace fs = std::filesystem;
using sweep::Setting;
using sweep::Settings;
namespace {

/// One configuration that is set again and again: describing the fields anew for each run would take longer than all
/// the rest.
class Candidate {
 public:
  Candidate() : fields_(field_list(config_)) {}
  config::FieldList& fields() { return fields_; }
  const RunConfig& config() const { return config_; }

  void read(const fs::path& file) {
    config::read_yaml(file, fields_);
    for (const config::Field& field : fields_.fields()) given_.push_back(field.given);
    base_ = config_;
  }
  void set(const fs::path& file, const Settings& settings) {
    config_ = base_;
    for (std::size_t i = 0; i < given_.size(); ++i) fields_.fields()[i].given = given_[i];
    for (const Setting& setting : settings) config::apply_setting(setting.key + "=" + setting.value, fields_);
    config::check_required(fields_, file);
  }
  /// A text that differs where results do.
  std::string identity() const {
    std::string text;
    for (const config::Field& field : fields_.fields()) {
      const bool is_input = std::holds_alternative<fs::path*>(field.value) && !field.output_path;
      if (field.affects_result || is_input) text += field.path + "=" + config::to_yaml_text(field) + "\n";
    }
    const DeviceKind device = kind_of(config_.run.device);
    return device == DeviceKind::cpu ? text : text + "run.device=" + std::string(name_of(device)) + "\n";
  }

 private:
  RunConfig config_, base_;
  config::FieldList fields_;
  std::vector<bool> given_;
};

std::string text_of(const Settings& settings) {
  std::string text;
  for (const Setting& setting : settings) text += (text.empty() ? "" : ", ") + setting.key + "=" + setting.value;
  return text;
}

Settings joined(const Settings& fixed, const Settings& varied) {
  Settings all = fixed;
  all.insert(all.end(), varied.begin(), varied.end());
  return all;
}

sweep::SweepFile read_file(const fs::path& file) {
  RunConfig trial;
  config::FieldList fields = field_list(trial);
  return sweep::read_sweep_file(file, fields);
}

}  // namespace

sweep::Plan plan_sweep(const fs::path& path) {
  const sweep::SweepFile file = read_file(path);
  Candidate candidate;
  candidate.read(file.base);
  InputCache cache;
  sweep::PlanBuilder builder(file);
  for (const Settings& varied : sweep::expand(file)) {
    try {
      candidate.set(file.base, joined(file.fixed, varied));
      const nlohmann::json values = config::to_json(candidate.fields(), /*only_results=*/false);
      const bool excluded = std::any_of(file.constraints.begin(), file.constraints.end(),
                                        [&](const sweep::Constraint& condition) { return !condition.holds(values); });
      builder.count_combination(excluded);
      if (excluded || !builder.begin_run(joined(file.fixed, varied), values, candidate.identity())) continue;
      const Pipeline pipeline(candidate.config(), &cache);
      builder.add_stages(pipeline.graph(), pipeline.bytes_written());
    } catch (const UserError& error) {
      throw UserError(error.code(),
                      fmt::format("{}: the run with {}: {}", path.string(), text_of(varied), error.what()));
    }
  }
  sweep::Plan plan = std::move(builder).finish();
  if (plan.runs.empty()) {
    fail(ExitCode::config, "{}: the constraints exclude all {} combinations", path.string(), plan.combinations);
  }
  return plan;
}

std::string run_config_text(const sweep::Plan& plan, const sweep::PlannedRun& run, const fs::path& folder,
                            int threads) {
  Candidate candidate;
  candidate.read(plan.file.base);
  Settings settings = run.settings;
  settings.push_back({"run.name", plan.file.name + "/" + run.id});
  settings.push_back({"run.folder", folder.string()});
  settings.push_back({"report.title", plan.file.name + ": " + (run.varied.empty() ? run.id : run.label())});
  if (threads > 0) settings.push_back({"run.threads", std::to_string(threads)});
  candidate.set(plan.file.base, settings);
  // Where the run is made there may be other devices than where it was planned, and it would have other artefacts.
  if (candidate.config().run.device == DeviceChoice::automatic) {
    settings.push_back({"run.device", std::string(name_of(kind_of(DeviceChoice::automatic)))});
    candidate.set(plan.file.base, settings);
  }
  return config::to_yaml(candidate.fields());
}

}  // namespace moextract::stages
