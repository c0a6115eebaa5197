# Shell functions shared by the scripts here: say what is missing, or install it where that is possible.
# shellcheck shell=sh

fail() {
  printf 'maskmm: %s\n' "$*" >&2
  exit 1
}

# need_apt PACKAGE WHAT: installs a Debian package as root; otherwise says how to.
need_apt() {
  if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
    printf 'maskmm: %s is missing, installing %s\n' "$2" "$1"
    { apt-get install -y -qq "$1" || { apt-get update -qq && apt-get install -y -qq "$1"; }; } >/dev/null 2>&1 ||
      fail "$2 is missing, and 'apt-get install $1' failed"
  else
    fail "$2 is missing. On Debian or Ubuntu: sudo apt-get install $1"
  fi
}
