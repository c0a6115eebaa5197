// The Hopper kernels for small problems; see small.cuh.
#pragma once

#include "cuda/sm80/direct.hpp"
#include "cuda/sm90/config.hpp"

namespace maskmm::cuda::sm90 {

inline constexpr int kMostSmallK = 2048;

struct SmallParams {
  sm80::DirectParams direct;
  CUtensorMap a, b;  // 64 lines by 64 of k
  BatchSteps a_batch, b_batch;
  // Of a wave kernel:
  bool sorts;  // rows of blocks are paired by weight
  bool down;   // as in HopperParams
};

/// tall: 128 x 64; small: 64 x 64. Two (four) groups of warps take k in turns. Takes a SmallParams.
Kernel small_kernel(Dtype dtype, TileKind kind);

}  // namespace maskmm::cuda::sm90
