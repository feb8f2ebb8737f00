#!/usr/bin/env bash
# scripts/sanitize.sh [PRESET]...: the tests of comm and run, built with sanitizers.
#
# PRESET is asan (addresses, leaks, undefined behaviour) or tsan (races between threads); by default both, one after the
# other. Builds into build/PRESET what these tests need, which is neither LibTorch's users nor the program, and runs them.
# The first finding ends the rank that has it, and the test fails.
#
#   --help   this text
#
# Environment: MOEXTRACT_JOBS  number of compilers at once
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/jobs.sh"

presets=()
while (($# > 0)); do
  case $1 in
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    asan | tsan) presets+=("$1") ;;
    *) die "unknown preset or argument '$1': the presets are asan and tsan; see --help" 2 ;;
  esac
  shift
done
((${#presets[@]} > 0)) || presets=(asan tsan)

jobs=${MOEXTRACT_JOBS:-$(compile_jobs)}
targets=(test_comm_local test_comm_mpi test_comm_watched comm_abort_probe test_run run_lock_probe)
cd "$root"
for preset in "${presets[@]}"; do
  phase "Configure ($preset)" cmake --preset "$preset" >/dev/null
  # The back end of NCCL is there where the toolkit is.
  if cmake --build "$root/build/$preset" --target help | grep -q '^test_comm_nccl:'; then
    wanted=("${targets[@]}" test_comm_nccl)
  else
    wanted=("${targets[@]}")
  fi
  phase "Build ($preset, $jobs at once)" cmake --build "$root/build/$preset" --parallel "$jobs" --target "${wanted[@]}"
  # A sanitized program is several times slower, and ranks share the cores: the tests' limits are for such machines.
  # The MPI library is not built with sanitizers. Its allocations are told by whole stacks, which its lack of frame
  # pointers hides from the fast way; its accesses to memory say nothing about races, for its atomics are not seen.
  ASAN_OPTIONS=detect_stack_use_after_return=1:fast_unwind_on_malloc=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    LSAN_OPTIONS=suppressions="$root/tests/sanitizers/leaks.supp":print_suppressions=0 \
    TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:ignore_noninstrumented_modules=1 \
    phase "Tests ($preset)" ctest --test-dir "$root/build/$preset" --output-on-failure --no-tests=error \
    -R '^(comm_(local|mpi|watched|nccl$|abort)|run$)'
done
