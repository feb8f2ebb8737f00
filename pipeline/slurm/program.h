// Calls another program and takes what it says.
#pragma once

#include <string>
#include <vector>

namespace moextract::slurm {

struct ProgramResult {
  int code = 0;  ///< exit code; 127: there is no such program; 128 + signal
  std::string out, err;
};

/// Looks the program up in PATH; its standard input is empty. Waits for its end. Throws UserError (other) where no
/// process can be made.
ProgramResult run_program(const std::vector<std::string>& command);

/// Text as one word of a shell command.
std::string shell_word(const std::string& text);

}  // namespace moextract::slurm
