# shellcheck shell=bash
# How the scripts talk: plain lines on standard error, one message for one mistake, and the time each phase took.

say() { printf '%s\n' "$*" >&2; }

# die MESSAGE [CODE]: what went wrong and what to do next.
die() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  exit "${2:-1}"
}

# print_help FILE: the comment at the head of a script is its help.
print_help() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"; }

# phase NAME COMMAND [ARGS...]: runs the command and says how long it took; its exit status is kept.
phase() {
  local name=$1 begin=$SECONDS status=0
  shift
  say "== $name"
  "$@" || status=$?
  if ((status != 0)); then
    say "== $name: failed after $(duration $((SECONDS - begin)))"
    return "$status"
  fi
  say "== $name: $(duration $((SECONDS - begin)))"
}

duration() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }
