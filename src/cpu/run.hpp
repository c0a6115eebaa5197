// The CPU back end with everything given that the process decides otherwise: for tests and measurements.
#pragma once

#include "core/canonical.hpp"
#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {

/// As run(), with this kernel set and at most this many threads.
void run_with(const core::Canonical& given, const KernelSet& set, int threads);

}  // namespace maskmm::cpu
