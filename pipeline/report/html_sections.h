// The sections of the report page. Each gives HTML, or nothing where the run has nothing to show there.
// `figures` counts the figures so far, and goes on counting.
#pragma once

#include <string>

#include "report/headline.h"
#include "report/results.h"

namespace moextract {

std::string page_title(const Results& results);

std::string front_section(const Results& results, const Headline& headline);
std::string variants_section(const Results& results, int& figures);
std::string layers_section(const Results& results, int& figures);
std::string vbp_section(const Results& results, int& figures);
std::string clusters_section(const Results& results, int& figures);
std::string finetune_section(const Results& results, int& figures);
std::string time_section(const Results& results, int& figures);
std::string origin_section(const Results& results);  ///< data sets, machine, files, settings

/// "s-dense", "s-vbp", "s-moee" or "s-other": the style class that gives a method its colour everywhere.
std::string series_of(const Variant& variant);

/// A figure with a numbered caption; `caption` is HTML. Pictures wider than the page scroll in a box of their own.
std::string figure(const std::string& picture, const std::string& caption, int& figures,
                   const std::string& css_class = "");

}  // namespace moextract
