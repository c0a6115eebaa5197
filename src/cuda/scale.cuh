// Float masks: the product of one live k block, times the two masks' values, onto the main sum.
#pragma once

#include "cuda/kernel.cuh"

namespace maskmm::cuda {

/// One square's factor mask_lhs * mask_rhs.
template <class Accumulator>
struct PairScale {
  Accumulator lhs, rhs;

  /// Block row and block column of the tile.
  __device__ PairScale(const MultiplyParams& params, const std::byte* scales, int block_row, int block_column) {
    const auto* values = reinterpret_cast<const Accumulator*>(scales);
    lhs = params.scale_lhs.values ? values[block_row] : Accumulator(1);
    rhs = params.scale_rhs.values ? values[16 + block_column] : Accumulator(1);
  }

  /// Whether lhs * rhs is exact up to rounding, so that float32 may hold it.
  __device__ bool is_plain() const {
    if constexpr (sizeof(Accumulator) == 4) {
      const float product = fabsf(lhs * rhs);
      return product >= 1.17549435e-38f && product <= 3.40282347e+38f;
    } else {
      return true;
    }
  }

  /// Adds the scaled sums of a block to the main sums, and clears them for the next one.
  template <int kCount>
  __device__ void add(Accumulator* sums, Accumulator* block_sums) const {
    if (is_plain()) {
      const Accumulator scale = lhs * rhs;
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] = fma(scale, block_sums[i], sums[i]);
    } else {
      const double scale = static_cast<double>(lhs) * rhs;
#pragma unroll
      for (int i = 0; i < kCount; ++i) sums[i] += static_cast<Accumulator>(scale * block_sums[i]);
    }
#pragma unroll
    for (int i = 0; i < kCount; ++i) block_sums[i] = 0;
  }
};

}  // namespace maskmm::cuda
