// What mask_out keeps.
#pragma once

#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

inline constexpr int kHalf = kBlock / 2;  // its blocks may be of 32

/// Whether it keeps an element (of matrix `batch`).
__device__ inline bool keeps(const MultiplyParams& p, int batch, int row, int column) {
  const BitRows& bits = p.live_out;
  const int block = column >> p.block_n;
  const std::uint64_t word =
      bits.words[batch * bits.words_per_batch + (row >> p.block_m) * bits.words_per_row + block / 64];
  return word >> (block % 64) & 1;
}

/// Whether it keeps anything of the 64 x 64 elements from there on.
__device__ inline bool keeps_some(const MultiplyParams& p, int batch, int row, int column) {
  const bool lower = kHalf >> p.block_m != 0 && row + kHalf < p.m;
  const bool right = kHalf >> p.block_n != 0 && column + kHalf < p.n;
  return keeps(p, batch, row, column) || (right && keeps(p, batch, row, column + kHalf)) ||
         (lower && keeps(p, batch, row + kHalf, column)) ||
         (lower && right && keeps(p, batch, row + kHalf, column + kHalf));
}

}  // namespace maskmm::cuda::sm90
