#!/usr/bin/env bash
# install-packages.sh with stand-ins for dpkg, apt-get, apt-cache, id and sudo that keep a record of their calls.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "${BASH_SOURCE[0]}")/expect.sh"

work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
mkdir -p "$work/bin" "$work/with space/scripts"
cp -r "$root/scripts/." "$work/with space/scripts/"
script="$work/with space/scripts/install-packages.sh"
export FAKE=$work ABSENT="" UNKNOWN="" FAKE_UID=0

cat > "$work/bin/dpkg" << 'FAKE'
#!/bin/sh
case " $ABSENT " in *" $2 "*) echo "package '$2' is not installed" >&2; exit 1 ;; esac
case " ${REMOVED:-} " in *" $2 "*) echo "Status: deinstall ok config-files"; exit 0 ;; esac
echo "Status: install ok installed"
FAKE
cat > "$work/bin/apt-get" << 'FAKE'
#!/bin/sh
echo "apt-get $* [$DEBIAN_FRONTEND]" >> "$FAKE/calls"
case " $* " in *" install "*) exit "${INSTALL_STATUS:-0}" ;; esac
FAKE
cat > "$work/bin/apt-cache" << 'FAKE'
#!/bin/sh
case " $UNKNOWN " in *" $2 "*) exit 0 ;; esac
printf '%s:\n  Installed: (none)\n  Candidate: 1.0\n' "$2"
FAKE
cat > "$work/bin/id" << 'FAKE'
#!/bin/sh
echo "$FAKE_UID"
FAKE
cat > "$work/bin/sudo" << 'FAKE'
#!/bin/sh
[ "${SUDO_STATUS:-1}" = 0 ] || exit 1
[ "$1" = -n ] && exit 0
echo "sudo $*" >> "$FAKE/calls"
exec "$@"
FAKE
chmod +x "$work"/bin/*
export PATH=$work/bin:$PATH

calls() { cat "$work/calls" 2> /dev/null || true; }
fresh() { rm -f "$work/calls"; }

# All there: apt-get is not called, whoever asks.
FAKE_UID=1000 run 0 "$script"
expect_output "packages are installed"
[[ -z $(calls) ]] || failed "called: $(calls)"

# Only what is missing is installed; a package that was removed but left its configuration counts as missing.
fresh
ABSENT="libpng-dev" REMOVED="zlib1g-dev" run 0 "$script"
output=$(calls)
expect_output "update"
expect_output "install -y --no-install-recommends libpng-dev zlib1g-dev [noninteractive]"

# --tests asks for more than the build does.
fresh
ABSENT="shellcheck" run 0 "$script"
[[ -z $(calls) ]] || failed "called: $(calls)"
ABSENT="shellcheck" run 0 "$script" --tests
output=$(calls)
expect_output "install -y --no-install-recommends shellcheck"

# No rights: the line for the administrator, and nothing is tried.
fresh
FAKE_UID=1000 ABSENT="g++ libhdf5-dev" run 1 "$script"
expect_output "apt-get install --no-install-recommends g++ libhdf5-dev"
output=$(calls)
expect_no_output "apt-get"

# sudo that asks no password.
fresh
FAKE_UID=1000 SUDO_STATUS=0 ABSENT="g++" run 0 "$script"
output=$(calls)
expect_output "sudo env"
expect_output "install -y --no-install-recommends g++ [noninteractive]"

# A release without one of the packages.
fresh
ABSENT="libcli11-dev libpng-dev" UNKNOWN="libcli11-dev" run 1 "$script"
expect_output "no package named: libcli11-dev."
output=$(calls)
expect_no_output "install -y"

# apt-get fails.
ABSENT="g++" INSTALL_STATUS=100 run 1 "$script"
expect_output "apt-get could not install"

# Asked to keep out.
fresh
MOEXTRACT_SKIP_PACKAGES=1 ABSENT="g++" run 0 "$script"
[[ -z $(calls) ]] || failed "called: $(calls)"
finish
