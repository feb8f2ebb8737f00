#include "sweep/sweep_file.h"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <set>

#include "config/field_value.h"
#include "config/number_text.h"
#include "config/reader.h"
#include "config/yaml_file.h"
#include "core/error.h"
#include "core/file.h"
#include "core/hash.h"

namespace moextract::sweep {
namespace fs = std::filesystem;
namespace {

const std::vector<std::string> kKeys{"name",   "base",        "folder", "set",  "grid",   "list",
                                     "random", "constraints", "seeds",  "jobs", "threads"};

bool is_whole(const config::Field& field) {
  return std::holds_alternative<int*>(field.value) || std::holds_alternative<std::int64_t*>(field.value) ||
         std::holds_alternative<std::uint64_t*>(field.value) ||
         std::holds_alternative<std::optional<std::int64_t>*>(field.value);
}

bool is_number(const config::Field& field) {
  return is_whole(field) || std::holds_alternative<double*>(field.value) ||
         std::holds_alternative<std::optional<double>*>(field.value);
}

class Reader {
 public:
  Reader(const fs::path& file, config::FieldList& fields) : file_(file), fields_(fields) {
    source_.folder = fs::absolute(file).parent_path();
    source_.prefix = [this](const YAML::Mark& mark, const std::string& key) { return place(mark) + key + ": "; };
  }

  SweepFile read() {
    const YAML::Node root = config::load_yaml_file(file_);
    sweep_.file = file_;
    sweep_.name = file_.stem().string();
    sweep_.hash = hash_text(read_text_file(file_));
    for_each(root, "", [&](const std::string& key, const YAML::Node& name, const YAML::Node& value) {
      if (key == "name") sweep_.name = text(value, name, key);
      if (key == "base") sweep_.base = (source_.folder / text(value, name, key)).lexically_normal();
      if (key == "folder") sweep_.folder = text(value, name, key);
      if (key == "set") read_settings(value, name, key, sweep_.fixed);
      if (key == "grid") read_grid(value, name);
      if (key == "list") read_list(value, name);
      if (key == "random") read_random(value, name);
      if (key == "constraints") constraints_ = value;
      if (key == "seeds") seeds_ = value;
      if (key == "jobs") sweep_.jobs = static_cast<int>(whole(value, name, key, 1, 10'000));
      if (key == "threads") sweep_.threads = static_cast<int>(whole(value, name, key, 0, 10'000));
      if (std::find(kKeys.begin(), kKeys.end(), key) != kKeys.end()) return;
      const std::string near = config::nearest_name(key, kKeys);
      wrong(name, key,
            near.empty() ? fmt::format("no such key; a sweep has {}", fmt::join(kKeys, ", "))
                         : fmt::format("no such key; did you mean {}?", near));
    });
    finish();
    return std::move(sweep_);
  }

 private:
  using Entry = std::function<void(const std::string& key, const YAML::Node& name, const YAML::Node& value)>;

  std::string place(const YAML::Mark& mark) const { return config::position(file_, mark) + ": "; }
  [[noreturn]] void wrong(const YAML::Node& node, const std::string& key, const std::string& problem) const {
    fail(ExitCode::config, "{}{}: {}", place(node.Mark()), key, problem);
  }

  void for_each(const YAML::Node& map, const std::string& section, const Entry& entry) const {
    std::set<std::string> seen;
    for (const auto& pair : map) {
      if (!pair.first.IsScalar()) wrong(pair.first, section.empty() ? "sweep" : section, "expected the name of a key");
      const std::string key = pair.first.Scalar();
      if (!seen.insert(key).second) wrong(pair.first, key, "given twice; leave one of them");
      entry(key, pair.first, pair.second);
    }
  }
  void need_map(const YAML::Node& value, const YAML::Node& name, const std::string& key) const {
    if (!value.IsMap()) {
      wrong(value.IsNull() ? name : value, key,
            fmt::format("expected keys and values on lines of their own, got {}", config::found_text(value)));
    }
  }
  void need_list(const YAML::Node& value, const YAML::Node& name, const std::string& key) const {
    if (!value.IsSequence() || value.size() == 0) {
      wrong(value.IsNull() ? name : value, key,
            fmt::format("expected a list of at least one element, as in [4, 8], got {}",
                        value.IsSequence() ? "an empty one" : config::found_text(value)));
    }
  }
  std::string text(const YAML::Node& value, const YAML::Node& name, const std::string& key) const {
    if (!value.IsScalar() || value.Scalar().empty()) {
      wrong(value.IsNull() ? name : value, key, fmt::format("expected a text, got {}", config::found_text(value)));
    }
    return config::scalar_text(value, name.Mark(), key, source_);
  }
  std::int64_t whole(const YAML::Node& value, const YAML::Node& name, const std::string& key, std::int64_t low,
                     std::int64_t high) const {
    const std::optional<config::WholeNumber> number = config::parse_whole_number(text(value, name, key));
    if (!number || number->too_large || number->value < low || number->value > high)
      wrong(value, key, fmt::format("expected a whole number between {} and {}, got '{}'", low, high, value.Scalar()));
    return static_cast<std::int64_t>(number->value);
  }
  double number(const YAML::Node& value, const YAML::Node& name, const std::string& key) const {
    const std::optional<double> parsed = config::parse_number(text(value, name, key));
    if (!parsed) wrong(value, key, fmt::format("expected a number, got '{}'", value.Scalar()));
    return *parsed;
  }

  config::Field& field(const YAML::Node& name, const std::string& key) const {
    return config::need_field(fields_, key, place(name.Mark()) + key + ": ");
  }
  /// The value as --set takes it, after it was tried.
  std::string tried(config::Field& field, const YAML::Node& value, const YAML::Node& name) const {
    config::assign(field, value, name.Mark(), source_);
    return config::to_yaml_text(field);
  }
  /// A key that is varied must be able to make a difference, and may be varied in one place only.
  config::Field& varied(const YAML::Node& name, const std::string& key, const std::string& section) {
    config::Field& found = field(name, key);
    if (key == "run.folder" || key == "run.name") wrong(name, key, "is chosen by the sweep for each run");
    if (!found.affects_result && !std::holds_alternative<fs::path*>(found.value)) {
      wrong(name, key,
            "does not affect results, so runs that differ in it alone would be one and the same; give it under set");
    }
    const auto [earlier, is_new] = sections_.try_emplace(key, section);
    if (!is_new && earlier->second != section) {
      wrong(name, key, fmt::format("given under {} and under {}; leave one of them", earlier->second, section));
    }
    return found;
  }

  void read_settings(const YAML::Node& value, const YAML::Node& name, const std::string& section, Settings& settings) {
    need_map(value, name, section);
    for_each(value, section, [&](const std::string& key, const YAML::Node& key_name, const YAML::Node& entry) {
      if (section == "set") {
        if (key == "run.folder" || key == "run.name") wrong(key_name, key, "is chosen by the sweep for each run");
        sections_.try_emplace(key, section);
        settings.push_back({key, tried(field(key_name, key), entry, key_name)});
      } else {
        settings.push_back({key, tried(varied(key_name, key, section), entry, key_name)});
      }
    });
  }

  void read_grid(const YAML::Node& value, const YAML::Node& name) {
    need_map(value, name, "grid");
    for_each(value, "grid", [&](const std::string& key, const YAML::Node& key_name, const YAML::Node& entry) {
      config::Field& target = varied(key_name, key, "grid");
      need_list(entry, key_name, key);
      GridKey axis{key, {}};
      for (const YAML::Node& element : entry) axis.values.push_back(tried(target, element, key_name));
      sweep_.grid.push_back(std::move(axis));
    });
  }

  void read_list(const YAML::Node& value, const YAML::Node& name) {
    need_list(value, name, "list");
    for (const YAML::Node& element : value) read_settings(element, name, "list", sweep_.list.emplace_back());
  }

  void read_random(const YAML::Node& value, const YAML::Node& name) {
    need_map(value, name, "random");
    for_each(value, "random", [&](const std::string& key, const YAML::Node& key_name, const YAML::Node& entry) {
      if (key == "count") {
        sweep_.draws = whole(entry, key_name, "random.count", 1, 100'000);
      } else if (key == "seed") {
        sweep_.seed = static_cast<std::uint64_t>(whole(entry, key_name, "random.seed", 0, INT64_MAX));
      } else if (key == "keys") {
        need_map(entry, key_name, "random.keys");
        for_each(entry, "random.keys",
                 [&](const std::string& drawn, const YAML::Node& drawn_name, const YAML::Node& how) {
                   read_drawn(drawn, drawn_name, how);
                 });
      } else {
        wrong(key_name, "random." + key, "no such key; random has count, seed and keys");
      }
    });
    if (sweep_.draws == 0) wrong(name, "random", "count is missing: the number of draws");
    if (sweep_.drawn.empty()) wrong(name, "random", "keys is missing: what is drawn");
  }

  void read_drawn(const std::string& key, const YAML::Node& name, const YAML::Node& how) {
    config::Field& target = varied(name, key, "random");
    DrawnKey drawn{.key = key, .choices = {}};
    if (how.IsSequence()) {
      need_list(how, name, key);
      for (const YAML::Node& element : how) drawn.choices.push_back(tried(target, element, name));
      sweep_.drawn.push_back(std::move(drawn));
      return;
    }
    const std::string form = "expected a list to choose from, or {from: 2, to: 64, scale: log}";
    if (!how.IsMap()) wrong(how.IsNull() ? name : how, key, form + ", got " + config::found_text(how));
    if (!is_number(target)) wrong(how, key, "is no number: give a list to choose from");
    bool from = false, to = false;
    for_each(how, key, [&](const std::string& part, const YAML::Node& part_name, const YAML::Node& entry) {
      if (part == "from" || part == "to") {
        static_cast<void>(tried(target, entry, part_name));  // both ends are legal values of the key
        (part == "from" ? drawn.low : drawn.high) = number(entry, part_name, key + "." + part);
        (part == "from" ? from : to) = true;
      } else if (part == "scale") {
        const std::string scale = text(entry, part_name, key + ".scale");
        if (scale != "log" && scale != "linear")
          wrong(entry, key + ".scale", "expected log or linear, got '" + scale + "'");
        drawn.logarithmic = scale == "log";
      } else {
        wrong(part_name, key + "." + part, form);
      }
    });
    if (!from || !to) wrong(how, key, form);
    if (drawn.low > drawn.high) wrong(how, key, "from is larger than to");
    if (drawn.logarithmic && drawn.low <= 0) wrong(how, key, "scale log needs from above 0");
    drawn.whole = is_whole(target);
    sweep_.drawn.push_back(std::move(drawn));
  }

  void finish() {
    if (sweep_.base.empty())
      fail(ExitCode::config, "{}: base is missing: the configuration that all runs start from", file_.string());
    if (sweep_.grid.empty() && sweep_.list.empty() && sweep_.drawn.empty()) {
      fail(ExitCode::config, "{}: nothing is varied; give grid, list or random", file_.string());
    }
    for (const auto& [key, section] : sections_) {
      if (section != "set") is_varied_.insert(key);
    }
    for (const Setting& setting : sweep_.fixed) {
      if (sections_.at(setting.key) != "set") {
        fail(ExitCode::config, "{}: {}: given under set and under {}; leave one of them", file_.string(), setting.key,
             sections_.at(setting.key));
      }
    }
    for (const char c : sweep_.name) {
      if (!std::isalnum(static_cast<unsigned char>(c)) && std::string_view("-_.+=").find(c) == std::string_view::npos)
        fail(ExitCode::config,
             "{}: name: '{}' holds a character other than letters, digits and -_.+=; it names a folder", file_.string(),
             sweep_.name);
    }
    if (sweep_.folder.empty()) sweep_.folder = fs::path("runs") / "sweeps" / sweep_.name;
    read_constraints();
    read_seeds();
  }

  void read_constraints() {
    if (!constraints_.IsDefined() || constraints_.IsNull()) return;
    if (!constraints_.IsSequence())
      wrong(constraints_, "constraints", "expected a list of conditions, as in [cluster.k <= 16]");
    for (const YAML::Node& element : constraints_) {
      const std::string prefix = place(element.Mark()) + "constraints: ";
      sweep_.constraints.emplace_back(text(element, constraints_, "constraints"), prefix, [&](const std::string& key) {
        static_cast<void>(config::need_field(fields_, key, prefix + key + ": "));
      });
    }
  }

  void read_seeds() {
    if (!seeds_.IsDefined() || seeds_.IsNull()) {
      for (const std::string& key : is_varied_) {
        if (key.ends_with(".seed") || key.ends_with("_seed")) sweep_.seeds.push_back(key);
      }
      return;
    }
    if (!seeds_.IsSequence()) wrong(seeds_, "seeds", "expected a list of keys, as in [cluster.seed]");
    for (const YAML::Node& element : seeds_) {
      const std::string key = text(element, seeds_, "seeds");
      if (!is_varied_.contains(key)) wrong(element, "seeds", key + " is not varied by grid, list or random");
      sweep_.seeds.push_back(key);
    }
  }

  const fs::path& file_;
  config::FieldList& fields_;
  config::ValueSource source_;
  SweepFile sweep_;
  YAML::Node constraints_{YAML::NodeType::Undefined}, seeds_{YAML::NodeType::Undefined};
  std::map<std::string, std::string> sections_;  // where a key is given
  std::set<std::string> is_varied_;
};

}  // namespace

SweepFile read_sweep_file(const fs::path& file, config::FieldList& fields) {
  return Reader(file, fields).read();
}

}  // namespace moextract::sweep
