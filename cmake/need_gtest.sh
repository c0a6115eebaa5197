#!/bin/sh
# GoogleTest is the one tool of the C++ tests that PyPI does not have.
set -eu
. "$(dirname "$0")/need.sh"

has_gtest() { printf '#include <gtest/gtest.h>\n' | ${CXX:-c++} -x c++ -std=c++20 -fsyntax-only - 2>/dev/null; }

has_gtest || need_apt libgtest-dev GoogleTest
has_gtest || fail "GoogleTest is installed, but ${CXX:-c++} does not find gtest/gtest.h"
