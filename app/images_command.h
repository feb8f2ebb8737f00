// moextract images: a look at every picture of a configuration before a long run meets it.
#pragma once

#include "app/store_commands.h"

namespace moextract::app {

/// Decodes every picture of every image set of a configuration and prints, by name, what is broken, what is there twice
/// and what is there with two labels. Returns whether all is well; doubles with one label are no fault.
bool images_command(const RunReference& reference);

}  // namespace moextract::app
