// Which kernel set this processor runs.
#pragma once

#include <vector>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {

/// The best that the processor has, or the one that MASKMM_ISA names; decided once. Throws unsupported_error where that
/// is unknown or the processor lacks it.
const KernelSet& kernel_set();

/// All that this processor can run, the best first.
std::vector<const KernelSet*> runnable_kernel_sets();

}  // namespace maskmm::cpu
