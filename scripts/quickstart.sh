#!/usr/bin/env bash
# scripts/quickstart.sh [moextract run options...]: from a clean clone to the first result.
#
# Installs what is missing, builds the program (not its tests), and runs configs/quickstart.yaml: a small Vision
# Transformer trained on Fashion-MNIST becomes a mixture of experts. The program ends with the table and says where the
# report is. A second call finds everything done. On 2 cores: up to 15 minutes, of which the job takes at most 4.
#
# Arguments go to the program: scripts/quickstart.sh --set cluster.k=16
#
#   --help   this text
#
# Environment: see build.sh, install-packages.sh and install-libtorch.sh
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"

case ${1:-} in
  -h | --help)
    print_help "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

# The same folder as the tests use, so that scripts/test.sh builds nothing twice.
"$root/scripts/build.sh" release --target moextract

cd "$root"
status=0
phase "Run configs/quickstart.yaml" build/release/bin/moextract run configs/quickstart.yaml "$@" || status=$?
if ((status != 0)); then
  die "the job ended with exit code $status; its message stands above, the codes are explained in docs/guide.md. What was \
finished is kept: run the command again to go on." "$status"
fi
say "All of it took $(duration $SECONDS)."
