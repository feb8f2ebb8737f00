# shellcheck shell=bash
# Finds a Python that can install the wheels. Needs messages.sh.

# suitable_python: prints the first 64-bit CPython 3.10 to 3.14 among python3 and its siblings; where MOEXTRACT_PYTHON
# names one, only that is asked.
suitable_python() {
  local candidate candidates
  candidates=(python3 /usr/bin/python3 python3.12 python3.11 python3.13 python3.10 python3.14)
  [[ -z ${MOEXTRACT_PYTHON:-} ]] || candidates=("$MOEXTRACT_PYTHON")
  for candidate in "${candidates[@]}"; do
    if "$candidate" -c 'import platform, struct, sys
sys.exit(not ((3, 10) <= sys.version_info[:2] <= (3, 14) and struct.calcsize("P") == 8
              and platform.python_implementation() == "CPython"))' > /dev/null 2>&1; then
      command -v "$candidate"
      return 0
    fi
  done
  say "No suitable Python: the wheels need a 64-bit CPython 3.10 to 3.14, and ${candidates[0]} is" \
    "$("${candidates[0]}" -V 2> /dev/null || echo absent). Install one (scripts/install-packages.sh does it on Debian 12" \
    "and Ubuntu 24.04) or name it: MOEXTRACT_PYTHON=/path/to/python3"
  return 1
}

# make_venv PYTHON FOLDER: a virtual environment with pip in it, made anew.
make_venv() {
  rm -rf -- "$2"
  "$1" -m venv "$2" > /dev/null 2>&1 && "$2/bin/python" -m pip --version > /dev/null 2>&1
}

# pip_of PYTHON FOLDER: prints a Python that has pip: one in a virtual environment in FOLDER, or PYTHON itself where its
# venv module is incomplete.
pip_of() {
  if make_venv "$1" "$2"; then
    printf '%s\n' "$2/bin/python"
  elif "$1" -m pip --version > /dev/null 2>&1; then
    printf '%s\n' "$1"
  else
    say "$1 has neither a working venv module nor pip: install the packages python3-venv and python3-pip"
    return 1
  fi
}
