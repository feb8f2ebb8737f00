// What a run has shown, in sentences computed from its numbers and from nothing else.
#pragma once

#include <string>
#include <vector>

#include "report/results.h"

namespace moextract {

struct Headline {
  const Variant* subject =
      nullptr;  ///< the variant the sentence is about, within the Results given; null without variants
  std::string sentence;
  std::vector<std::string> details;  ///< how sure it is, what VBP does, what to keep in mind
};

/// The subject is the best prepared reduced variant there is: experts before VBP, fine-tuned before not.
/// A loss is called a loss: slower, more MACs and "cannot be told apart" are said as plainly as a gain.
Headline make_headline(const Results& results);

}  // namespace moextract
