# shellcheck shell=bash
# What a test run amounts to, read from CTest's own log. CTest counts a program whose cases were all skipped as passed;
# here the cases are counted, and the skipped ones are told with their reasons.

# test_summary LOG: prints a paragraph; nothing where there is no log.
test_summary() {
  [[ -f $1 ]] || return 0
  awk '
    function skip() { skips[reason == "" ? "no reason given" : reason]++; reason = "" }
    /^[0-9]+\/[0-9]+ Test: / { programs++; reason = "" }
    # GoogleTest and the printer of the multi-rank tests say "FILE:LINE: Skipped", then the message.
    take_reason { if (reason == "") reason = $0; take_reason = 0 }
    /: Skipped$/ { take_reason = 1 }
    /^\[ +(OK|FAILED|SKIPPED) +\] .*\([0-9]+ ms\)$/ {
      cases++
      if (/^\[ +SKIPPED/) { skipped_cases++; skip() }
      reason = ""
    }
    # Scripts say it in one line.
    /^SKIPPED: / { skipped_programs++; reason = substr($0, 10); skip() }
    END {
      printf "Summary: %d tests by CTest (%d skipped), in them %d GoogleTest cases (%d skipped).\n",
             programs, skipped_programs, cases, skipped_cases
      for (text in skips) printf "  %d skipped: %s\n", skips[text], text | "sort"
    }' "$1"
}
