#include "app/images_command.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/workers.h"
#include "data/survey.h"
#include "run/log.h"
#include "run/progress.h"
#include "stages/run_config.h"

namespace moextract::app {
namespace {

/// Lines of a finding, the first few of them.
template <class Items, class Line>
void print_some(const Items& items, Line line) {
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < std::min(kShown, items.size()); ++i) fmt::print("  {}\n", line(items[i]));
  if (items.size() > kShown) fmt::print("  ... and {} more\n", items.size() - kShown);
}

bool survey(const std::string& name, const data::ImageSet& set, Workers& workers) {
  fmt::print("data.{}: {}\n", name, set.summary());
  for (const std::string& remark : set.remarks()) fmt::print("  {}\n", remark);
  run::Progress progress(run::make_logger(0, 1, false), "images", set.size(), "pictures");
  const data::ImageSurvey found = data::survey_images(set, workers, [&](std::int64_t n) { progress.add(n); });
  std::vector<std::vector<std::int64_t>> mismatched, doubles;
  for (const auto& group : found.doubles) (data::labels_differ(set, group) ? mismatched : doubles).push_back(group);
  const auto members = [&](const std::vector<std::int64_t>& group) {
    std::string text;
    for (const std::int64_t i : group)
      text += fmt::format("{}{} (label {})", text.empty() ? "" : " = ", set.id(i), set.label(i));
    return text;
  };
  fmt::print("  {} of {} pictures cannot be decoded\n", found.broken.size(), found.images);
  print_some(found.broken, [](const std::string& message) { return message; });
  fmt::print("  {} pictures are there with different labels\n", mismatched.size());
  print_some(mismatched, members);
  fmt::print("  {} pictures are there more than once\n", doubles.size());
  print_some(doubles, members);
  return found.broken.empty() && mismatched.empty();
}

}  // namespace

bool images_command(const RunReference& reference) {
  stages::RunConfig config;
  stages::read_config(reference.place, reference.settings, config);
  Workers workers(config.run.threads > 0 ? config.run.threads : usable_cores());
  bool well = true;
  const std::vector<std::pair<std::string, const data::ImageSetParams*>> sets{{"calibration", &config.data.calibration},
                                                                              {"train", &config.data.train},
                                                                              {"validation", &config.data.validation}};
  for (const auto& [name, params] : sets) {
    if (params->source.empty()) continue;
    if (!survey(name, *data::open_image_set(*params), workers)) well = false;
  }
  return well;
}

}  // namespace moextract::app
