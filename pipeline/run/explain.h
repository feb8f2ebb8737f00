// Why a stage would run: what distinguishes the artefact that is wanted from those that are there.
#pragma once

#include <string>
#include <vector>

#include "run/artefact.h"

namespace moextract::run {

/// Lines for people: "done: ...", "begun by an earlier run; ...", "damaged: ...", or "to be made: " and what differs
/// from the nearest finished artefact of the same stage (algorithm version, settings, inputs), if there is one.
std::vector<std::string> explain(const ArtefactStore& store, const ArtefactSpec& spec);

}  // namespace moextract::run
