// What a run has shown, in sentences computed from its numbers and from nothing else.
#include "report/headline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/number_text.h"

namespace moextract {
namespace {

const Variant* find_variant(const Results& results, const std::string& method, bool finetuned) {
  for (const Variant& variant : results.variants) {
    if (variant.method == method && variant.finetuned == finetuned && variant.top1()) return &variant;
  }
  return nullptr;
}

const Variant* choose_subject(const Results& results) {
  for (const char* method : {"fitted", "moee", "vbp"}) {
    for (const bool finetuned : {true, false}) {
      if (const Variant* variant = find_variant(results, method, finetuned)) return variant;
    }
  }
  if (const Variant* dense = results.dense()) return dense;
  return results.variants.empty() ? nullptr : &results.variants.front();
}

/// "36.0 % fewer MACs", "the same number of MACs", "1.2 % more MACs"; empty when unknown.
std::string change(Number value, Number base, const std::string& what) {
  const Number share = ratio(value, base);
  if (!share) return {};
  const std::string size = percent_text(std::abs(1 - *share));
  if (size == "0.0 %") return "the same number of " + what;
  return fmt::format("{} {} {}", size, *share < 1 ? "fewer" : "more", what);
}

/// "1.21 times as many images per second", or that it is slower; empty when unknown.
std::string speed(const Variant& variant, const Variant& dense) {
  const Number factor = ratio(variant.images_per_second, dense.images_per_second);
  if (!factor) return {};
  const std::string times = fixed_text(factor, 2);
  if (times == "1.00") return "as many images per second as the dense model";
  if (*factor < 1) return times + " times as many images per second: it is slower than the dense model";
  return times + " times as many images per second";
}

std::string how_made(const Variant& variant) {
  if (variant.has_experts())
    return variant.finetuned ? "Cut into experts and fine-tuned" : "Cut into experts, without fine-tuning";
  if (variant.method == "vbp")
    return variant.finetuned ? "Pruned by VBP and fine-tuned" : "Pruned by VBP, without fine-tuning";
  return variant.label;
}

std::string join(const std::vector<std::string>& parts) {
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += i + 1 == parts.size() ? " and " : ", ";
    text += parts[i];
  }
  return text;
}

std::vector<std::string> savings(const Variant& variant, const Variant& dense) {
  std::vector<std::string> parts;
  const std::string macs = change(variant.macs_per_image, dense.macs_per_image, "MACs per image");
  const std::string parameters = change(as_number(variant.parameters), as_number(dense.parameters), "parameters");
  if (!macs.empty()) parts.push_back(macs);
  if (!parameters.empty()) parts.push_back(parameters);
  return parts;
}

std::string dense_sentence(const Variant& dense, bool alone) {
  return fmt::format("{} classifies {} of {} images correctly{}.",
                     dense.method == "dense" ? "The dense model" : dense.label, percent_text(dense.top1()),
                     count_text(dense.images), alone ? "; no reduced variant was evaluated" : "");
}

void add_uncertainty(const Variant& subject, const Variant& dense, std::vector<std::string>& details) {
  if (subject.images != dense.images) {
    details.push_back(
        fmt::format("The two were evaluated on different numbers of images ({} and {}), so the share kept "
                    "compares different image sets.",
                    count_text(subject.images), count_text(dense.images)));
  }
  const double difference = *subject.top1() - *dense.top1();
  // Both models saw the same images: where the answers were kept, the images that differ say how sure the difference
  // is.
  const Number paired = subject.paired_standard_error();
  const double error = paired ? *paired : std::hypot(*subject.top1_standard_error(), *dense.top1_standard_error());
  std::string text = fmt::format("Difference to the dense model: {}{} points, standard error {} points ({}, {} images)",
                                 difference > 0 ? "+" : "", fixed_text(difference * 100, 1), fixed_text(error * 100, 1),
                                 paired ? "paired" : "unpaired", count_text(subject.images));
  if (std::abs(difference) < 2 * error) {
    text += paired ? "; by these images the two cannot be told apart"
                   : "; by these counts alone the two cannot be told apart";
  }
  details.push_back(text + ".");
  if (paired && subject.agreeing) {
    details.push_back(
        fmt::format("Both give the same class for {} of the images; {} images are right with the dense model only, {} "
                    "with the reduced one only.",
                    percent_text(ratio(as_number(subject.agreeing), as_number(subject.images))),
                    count_text(subject.lost), count_text(subject.gained)));
  }
}

void add_rival(const Results& results, const Variant& subject, const Variant& dense,
               std::vector<std::string>& details) {
  if (!subject.has_experts()) return;
  const Variant* vbp = find_variant(results, "vbp", subject.finetuned);
  if (!vbp) return;
  const Number kept = ratio(vbp->top1(), dense.top1());
  const std::vector<std::string> saved = savings(*vbp, dense);
  if (!kept) return;
  std::string text = fmt::format("VBP, {}, keeps {}{}{}", vbp->finetuned ? "fine-tuned too" : "without fine-tuning too",
                                 percent_text(kept), saved.empty() ? "" : " with ", join(saved));
  if (vbp->top1() > subject.top1()) text += ": more than the experts do";
  details.push_back(text + ".");
}

}  // namespace

Headline make_headline(const Results& results) {
  Headline headline;
  headline.subject = choose_subject(results);
  if (!headline.subject) {
    headline.sentence = "No variant was evaluated.";
    return headline;
  }
  const Variant& subject = *headline.subject;
  const Variant* dense = results.dense();
  if (!subject.top1()) {
    headline.sentence = fmt::format("{}: the accuracy was not measured.", subject.label);
    return headline;
  }
  if (&subject == dense) {
    const bool alone = results.variants.size() == 1;
    headline.sentence = dense_sentence(*dense, alone);
    return headline;
  }
  const Number kept = dense ? ratio(subject.top1(), dense->top1()) : Number();
  if (!kept) {
    headline.sentence =
        fmt::format("{}, the model classifies {} of {} images correctly; {}, so what was kept is unknown.",
                    how_made(subject), percent_text(subject.top1()), count_text(subject.images),
                    dense ? "the dense model has no usable accuracy" : "the dense model was not evaluated");
    return headline;
  }

  const std::vector<std::string> saved = savings(subject, *dense);
  const std::string measured = speed(subject, *dense);
  headline.sentence = fmt::format("{}, the model keeps {} of its top-1 accuracy ({} instead of {})", how_made(subject),
                                  percent_text(kept), percent_text(subject.top1()), percent_text(dense->top1()));
  if (!saved.empty()) headline.sentence += " with " + join(saved);
  if (!measured.empty())
    headline.sentence += fmt::format("{} and classifies {}", saved.size() > 1 ? "," : "", measured);
  headline.sentence += ".";

  add_uncertainty(subject, *dense, headline.details);
  add_rival(results, subject, *dense, headline.details);
  if (subject.has_experts() && !results.layers.empty() &&
      std::all_of(results.layers.begin(), results.layers.end(), [](const Layer& l) { return l.kind == "dense"; })) {
    headline.details.push_back("Every layer stayed dense: nothing was cut into experts in this run.");
  }
  if (subject.skipped.value_or(0) > 0) {
    headline.details.push_back(fmt::format("{} images were skipped in the evaluation.", count_text(subject.skipped)));
  }
  return headline;
}

}  // namespace moextract
