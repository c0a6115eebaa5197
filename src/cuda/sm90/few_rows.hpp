// The Hopper kernel for results of at most 64 rows; see few_rows.cuh.
#pragma once

#include "cuda/sm90/small.hpp"

namespace maskmm::cuda::sm90 {

inline constexpr int kMostFewRowsK = 1 << 16;

/// Tiles of 64 columns. Takes a SmallParams.
Kernel few_rows_kernel(Dtype dtype);

}  // namespace maskmm::cuda::sm90
