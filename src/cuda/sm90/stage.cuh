// The ring of stages in shared memory that ties the loading warps to the multiplying warpgroups.
//
// A stage holds one slice of 64 k, or two of 32 k that need not be neighbours: the tile's rows of blocks of a, then its
// columns of blocks of b, 64 columns each. Lines are rows of a or columns of b; either k runs along them (k_major), or
// lines run along k (line_major). What a copy brings has rows of 128 bytes and is swizzled over 128, but for k_major
// slices of 32 k and blocks of 32 rows: rows of 64 bytes, swizzled over 64.
//   full[slot]   the copies have landed and the stage's description is written
//   empty[slot]  every multiplying warp of the cluster is through with the slot
#pragma once

#include "cuda/sm90/config.hpp"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// What a stage is: live rows (or pairs, kColumnBlocks bits a row; those of a second slice from bit kSlice on), the
/// rows of blocks that its tile has (from bit kOwned on), those of its gathered columns (from bit kColumns on), and
/// kLast; its tile. kExit: there is no tile left. kX: not operands but x of a dot, columns of blocks 0 and 1 or, with
/// kRight, 2 and 3: three rows of two blocks of 64 x 64.
struct StageState {
  static constexpr int kSlice = 8, kOwned = 16, kColumns = 20;
  static constexpr unsigned kX = 1u << 28, kRight = 1u << 29;
  static constexpr int kHalves = 24;  // of gathered columns: those that are multiplied
  static constexpr unsigned kExit = 1u << 30;
  static constexpr unsigned kLast = 1u << 31;
  unsigned live;
  int row, column, matrix;  // of the tile: first row, first column (or its GatheredTile), matrix * splits + split
};

template <class Config>
struct Ring {
  static constexpr int kRowBlockBytes = Config::kBlock * Config::kBlock * 2;
  static constexpr int kColumnBlockBytes = Config::kColumnWidth * Config::kBlock * 2;
  static constexpr int kSliceBytes = Config::kRowBlocks * kRowBlockBytes + Config::kColumnBlocks * kColumnBlockBytes;
  static constexpr int kStageBytes = Config::kSlices * kSliceBytes;
  /// Factors of a slice's rows, then of its columns; behind those of all slices, what is live of the second slice.
  static constexpr int kScaleLines = Config::kMasks == Masks::choosing ? 0 : Config::kBlock == 32 ? 8 : 4;
  static constexpr int kSecond = 2 * kScaleLines * Config::kSlices;
  static constexpr int kScaleBytes = kSecond * 4 + (kPairs32<Config> ? 16 : 0);
  static constexpr int kBytes =
      kStages * (kStageBytes + 2 * int(sizeof(std::uint64_t)) + int(sizeof(StageState)) + kScaleBytes);
  static constexpr int kWarps = Config::kThreads / 32 - 4;  // that multiply
  /// Of lanes that write scales, for racecheck: see kWarpArrivals.
  static constexpr int kScaleArrivals =
      Config::kMasks == Masks::scaling && cuda::ptx::kWarpArrivals == 32 ? cuda::ptx::kWarpArrivals : 0;

  std::uint32_t start;  // a multiple of 1024

  __device__ std::uint32_t slice(int slot, int index) const { return start + slot * kStageBytes + index * kSliceBytes; }
  static __device__ std::uint32_t a(std::uint32_t slice, int row_block) { return slice + row_block * kRowBlockBytes; }
  static __device__ std::uint32_t b(std::uint32_t slice, int column_block) {
    return slice + Config::kRowBlocks * kRowBlockBytes + column_block * kColumnBlockBytes;
  }
  static __device__ std::uint32_t x(std::uint32_t slice, int row_block, int column_block) {
    return slice + (2 * row_block + column_block % 2) * (kBlock * kBlock * 2);
  }
  __device__ std::uint32_t state(int slot) const {
    return start + kStages * kStageBytes + slot * int(sizeof(StageState));
  }
  __device__ std::uint32_t row_scale(int slot, int row_block) const {
    return state(kStages) + slot * kScaleBytes + row_block * 4;
  }
  __device__ std::uint32_t second(int slot) const { return row_scale(slot, kSecond); }
  __device__ std::uint32_t row_scales(int slot, int slice) const { return row_scale(slot, 2 * kScaleLines * slice); }
  __device__ std::uint32_t column_scales(int slot, int slice) const {
    return row_scale(slot, (2 * slice + 1) * kScaleLines);
  }
  __device__ std::uint32_t full(int slot) const { return row_scale(kStages, 0) + slot * 8; }
  __device__ std::uint32_t empty(int slot) const { return full(kStages) + slot * 8; }

  __device__ void init() const {
    for (int slot = 0; slot < kStages; ++slot) {
      ptx::barrier_init(full(slot), 1 + kScaleArrivals);
      ptx::barrier_init(empty(slot), Config::kCluster * kWarps * cuda::ptx::kWarpArrivals);
    }
  }

  /// Tells every loading warp that writes into the slot that this warp is through with it.
  __device__ void release(int slot) const {
    const unsigned lane = threadIdx.x % 32;
    if constexpr (cuda::ptx::kWarpArrivals == 32) {
      for (unsigned block = 0; block < Config::kCluster; ++block) {
        ptx::barrier_arrive_in_cluster(ptx::in_block(empty(slot), block));
      }
    } else if constexpr (Config::kCluster > 1) {
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
  __device__ void next(int count = 1) {
    slot += count;
    if (slot >= kStages) {
      slot -= kStages;
      parity ^= 1;
    }
  }
};

}  // namespace maskmm::cuda::sm90
