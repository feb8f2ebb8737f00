// Calling programs.
#include "slurm/program.h"

#include "scratch.h"

namespace moextract::slurm {
namespace {

TEST(Program, OutputErrorsAndCodeComeBack) {
  const ProgramResult result = run_program({"sh", "-c", "echo out; echo err >&2; exit 3"});
  EXPECT_EQ(result.out, "out\n");
  EXPECT_EQ(result.err, "err\n");
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(run_program({"sh", "-c", "kill -9 $$"}).code, 128 + 9);
  EXPECT_EQ(run_program({"no-such-program-anywhere"}).code, 127);
  EXPECT_EQ(run_program({"cat"}).out, "") << "nothing to read";
}

TEST(Program, MuchOutputOnBothSidesDoesNotBlock) {
  const ProgramResult result =
      run_program({"sh", "-c", "head -c 300000 /dev/zero >&2; head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"});
  EXPECT_EQ(result.out.size(), 300000u);
  EXPECT_EQ(result.err.size(), 600000u);
}

TEST(Program, WordsSurviveTheShell) {
  for (const std::string word : {"plain", "", "two words", "it's", "$HOME", "a\"b", "*", "x;y", "a\\b", "runs/k=8+x"}) {
    EXPECT_EQ(run_program({"sh", "-c", "printf %s " + shell_word(word)}).out, word);
  }
  EXPECT_EQ(shell_word("runs/k=8"), "runs/k=8") << "no needless quotes";
}

}  // namespace
}  // namespace moextract::slurm
