// The report page: from the sentence that says what was kept, over the pictures, down to settings and files.
#include "report/html_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "report/headline.h"
#include "report/html_page.h"
#include "report/html_sections.h"
#include "report/results.h"

namespace moextract {

std::string render_html(const nlohmann::json& json) {
  const Results results = parse_results(json);
  const Headline headline = make_headline(results);
  int figures = 0;
  std::string body = front_section(results, headline);
  body += variants_section(results, figures);
  body += layers_section(results, figures);
  body += vbp_section(results, figures);
  body += clusters_section(results, figures);
  body += finetune_section(results, figures);
  body += time_section(results, figures);
  body += origin_section(results);
  return html_page(page_title(results), body);
}

}  // namespace moextract
