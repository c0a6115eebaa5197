#!/bin/sh
# make_venv.sh VENV: makes (or completes) the virtual environment with everything that a build needs, and says what the
# machine lacks: Python 3.11 with its headers, a C++20 compiler.
set -eu
here=$(dirname "$0")
. "$here/need.sh"
venv=$1

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ ! -x "$venv/bin/python" ]; then
  python=
  for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if is_new_enough "$candidate"; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || fail "Python 3.11 or newer is missing (tried ${PYTHON:-python3, python3.11 and newer}); set PYTHON=<path>"
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' 2>/dev/null || need_apt "python$version-venv" "Python's venv module"
  "$python" -m venv "$venv" || fail "$python -m venv $venv failed"
fi

python=$venv/bin/python
is_new_enough "$python" || fail "$venv holds a Python older than 3.11: remove it"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
"$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
  need_apt "python$version-dev" "Python.h"

probe='#include <concepts>
#include <bit>
static_assert(std::has_single_bit(4u) && std::integral<int>);
int main() {}'
compiler=${CXX:-$(command -v c++ || command -v g++ || command -v clang++ || true)}
[ -n "$compiler" ] || fail "a C++ compiler is missing: install g++ or clang++, or set CXX"
printf '%s\n' "$probe" | $compiler -std=c++20 -x c++ -fsyntax-only - 2>/dev/null ||
  fail "$compiler does not compile C++20: install g++ 12 or clang 15 or newer, or set CXX"

# oneTBB comes from PyPI, where wheels for this processor exist.
if [ "$(uname -m)" != x86_64 ]; then
  printf '#include <tbb/version.h>\n' | $compiler -std=c++20 -x c++ -fsyntax-only - 2>/dev/null ||
    need_apt libtbb-dev "oneTBB (PyPI has no wheel for $(uname -m))"
fi

"$python" -m pip install --quiet --disable-pip-version-check pip==26.3
"$python" "$here/requirements.py" build tools runtime | xargs "$python" -m pip install --quiet
