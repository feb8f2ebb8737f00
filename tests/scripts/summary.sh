#!/usr/bin/env bash
# The summary that test.sh prints, from a log as CTest writes it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/summary.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
cat > "$work/log" << 'LOG'
1/4 Testing: a
1/4 Test: a
[==========] Running 4 tests from 2 test suites.
[ RUN      ] A.one
[       OK ] A.one (0 ms)
[ RUN      ] A.two
tests/a.cpp:3: Skipped
MOEXTRACT_TEST_DATA is not set
[  SKIPPED ] A.two (0 ms)
[ RUN      ] I/P.x/1
tests/a.cpp:5: Failure
Expected: false
[  FAILED  ] I/P.x/1, where GetParam() = 1 (12 ms)
[==========] 3 tests from 2 test suites ran. (0 ms total)
[  PASSED  ] 1 test.
[  SKIPPED ] 1 test, listed below:
[  SKIPPED ] A.two
[  FAILED  ] 1 test, listed below:
[  FAILED  ] I/P.x/1, where GetParam() = 1
2/4 Testing: b.ranks2
2/4 Test: b.ranks2
[rank 0] tests/b.cpp:9: Skipped
MOEXTRACT_TEST_DATA is not set
[rank 1] tests/b.cpp:9: Skipped
MOEXTRACT_TEST_DATA is not set
[  SKIPPED ] B.one (3 ms)
3/4 Testing: scripts.shellcheck
3/4 Test: scripts.shellcheck
SKIPPED: shellcheck is not installed
4/4 Testing: c
4/4 Test: c
LOG
run 0 test_summary "$work/log"
expect_output "Summary: 4 tests by CTest (1 skipped), in them 4 GoogleTest cases (2 skipped)."
expect_output "  2 skipped: MOEXTRACT_TEST_DATA is not set"
expect_output "  1 skipped: shellcheck is not installed"
run 0 test_summary "$work/absent"
[[ -z $output ]] || failed "a summary of nothing: $output"
finish
