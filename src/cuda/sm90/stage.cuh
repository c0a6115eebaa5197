// The ring of stages in shared memory that ties the loading warp to the multiplying warpgroups.
//
// A stage holds 64 elements of k: kRowBlocks blocks of a, then four of b, 8 KB each. A block is 64 rows of 128 bytes,
// swizzled over 128 bytes by the copy engine: rows are lines and k runs along them (k_major), or rows are k and lines
// run along them (line_major).
//   full[slot]   the copies have landed and the stage's description is written
//   empty[slot]  every multiplying warp of the cluster is through with the slot
#pragma once

#include "cuda/sm90/config.hpp"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// What a stage is: live rows (or pairs, kColumnBlocks bits a row), the rows of blocks that its tile has (from bit
/// kOwned on), those of its gathered columns (from bit kColumns on), and kLast; its tile. kExit: there is no tile left.
struct StageState {
  static constexpr int kOwned = 16, kColumns = 20;
  static constexpr unsigned kExit = 1u << 30;
  static constexpr unsigned kLast = 1u << 31;
  unsigned live;
  int row, column, matrix;  // of the tile: first row, first column (or its GatheredTile), matrix * splits + split
};

template <class Config>
struct Ring {
  static constexpr int kBytes =
      kStages * (Config::kStageBytes + 2 * int(sizeof(std::uint64_t)) + int(sizeof(StageState)));
  static constexpr int kWarps = Config::kThreads / 32 - 4;  // that multiply

  std::uint32_t start;  // a multiple of 1024

  __device__ std::uint32_t a(int slot, int row_block) const {
    return start + slot * Config::kStageBytes + row_block * kBlockBytes;
  }
  __device__ std::uint32_t b(int slot, int column_block) const { return a(slot, Config::kRowBlocks + column_block); }
  __device__ std::uint32_t state(int slot) const {
    return start + kStages * Config::kStageBytes + slot * int(sizeof(StageState));
  }
  __device__ std::uint32_t full(int slot) const { return state(kStages) + slot * 8; }
  __device__ std::uint32_t empty(int slot) const { return full(kStages) + slot * 8; }

  __device__ void init() const {
    for (int slot = 0; slot < kStages; ++slot) {
      ptx::barrier_init(full(slot), 1);
      ptx::barrier_init(empty(slot), Config::kCluster * kWarps);
    }
  }

  /// Tells every loading warp that writes into the slot that this warp is through with it.
  __device__ void release(int slot) const {
    const unsigned lane = threadIdx.x % 32;
    if constexpr (Config::kCluster > 1) {
      if (lane < Config::kCluster) ptx::barrier_arrive_in_cluster(ptx::in_block(empty(slot), lane));
    } else {
      if (lane == 0) ptx::barrier_arrive(empty(slot));
    }
  }
};

/// A place in the ring and the parity of the barriers' phases there.
template <class Config>
struct RingPosition {
  int slot = 0;
  unsigned parity = 0;
  __device__ void next() {
    if (++slot == kStages) {
      slot = 0;
      parity ^= 1;
    }
  }
};

}  // namespace maskmm::cuda::sm90
