#!/usr/bin/env bash
# scripts/install-packages.sh [--tests]: installs the distribution's packages that the build needs and that are missing.
#
# For Debian 12 and Ubuntu 24.04. Does nothing, and needs no rights, when all are there; otherwise it calls apt-get as
# root or by sudo. Where neither is possible it prints the line that an administrator has to run.
#
#   --tests   also what only the tests need
#   --help    this text
#
# Environment: MOEXTRACT_SKIP_PACKAGES=1  check nothing, install nothing: for machines where the packages come from
#              environment modules or a package manager other than apt
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source-path=SCRIPTDIR
source "$root/scripts/lib/messages.sh"

packages=(
  g++ cmake ninja-build ccache pkg-config
  libopenmpi-dev openmpi-bin libhdf5-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libjpeg-dev libpng-dev zlib1g-dev libxxhash-dev
  libgtest-dev libgmock-dev libbenchmark-dev
  dataset-fashion-mnist
  python3 python3-venv python3-pip ca-certificates
)
while (($# > 0)); do
  case $1 in
    --tests)
      packages+=(shellcheck)
      # libFuzzer, for scripts/fuzz.sh; the program itself is built by g++.
      packages+=(clang libclang-rt-dev)
      # Only root can start two Slurm hosts (scripts/slurm-test.sh); nobody else is given their daemons.
      [[ $(id -u) != 0 ]] || packages+=(slurm-wlm munge iproute2)
      ;;
    -h | --help)
      print_help "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *) die "unknown argument '$1'; see --help" 2 ;;
  esac
  shift
done

if [[ ${MOEXTRACT_SKIP_PACKAGES:-0} == 1 ]]; then
  say "MOEXTRACT_SKIP_PACKAGES=1: the distribution's packages are taken as they are"
  exit 0
fi

if ! command -v dpkg > /dev/null || ! command -v apt-get > /dev/null; then
  die "this is not a Debian or Ubuntu system, so nothing can be installed here. Install what corresponds to these \
packages, then set MOEXTRACT_SKIP_PACKAGES=1 and run the command again: ${packages[*]}"
fi

missing=()
for package in "${packages[@]}"; do
  # A package that was removed but not purged still answers `dpkg -s` with success.
  dpkg -s "$package" 2> /dev/null | grep -q '^Status: .* ok installed$' || missing+=("$package")
done
if ((${#missing[@]} == 0)); then
  say "All ${#packages[@]} packages are installed."
  exit 0
fi

as_root=()
by_hand="apt-get update && apt-get install --no-install-recommends ${missing[*]}"
if [[ $(id -u) != 0 ]]; then
  if command -v sudo > /dev/null && { [[ -t 0 ]] || sudo -n true 2> /dev/null; }; then
    as_root=(sudo)
  else
    die "${#missing[@]} packages are missing and this user may not install any. Ask an administrator to run
  $by_hand
or, where the same software comes from elsewhere, set MOEXTRACT_SKIP_PACKAGES=1; then run the command again."
  fi
fi
apt=(${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)

say "Missing: ${missing[*]}"
"${apt[@]}" update >&2 || say "apt-get update failed; going on with the package lists that are there"

unknown=()
for package in "${missing[@]}"; do
  candidate=$(LC_ALL=C apt-cache policy "$package" 2> /dev/null | sed -n 's/^ *Candidate: //p')
  [[ -n $candidate && $candidate != "(none)" ]] || unknown+=("$package")
done
if ((${#unknown[@]} > 0)); then
  release=$(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' /etc/os-release 2> /dev/null || true)
  die "${release:-this release} has no package named: ${unknown[*]}. Check the network and /etc/apt (on Ubuntu the \
component 'universe' must be on); supported are Debian 12 and Ubuntu 24.04."
fi

"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2 ||
  die "apt-get could not install the packages; its messages stand above. By hand:
  $by_hand"
say "Installed: ${missing[*]}"
