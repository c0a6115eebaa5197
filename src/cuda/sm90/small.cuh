// float16 and bfloat16 for small problems on Hopper, where the time is latency: one launch, which reads the masks'
// bytes itself.
//
// Roles: a thread block has one tile. All its warps read the masks: what is live of each 16 of k, and which stages of
// 64 have anything. Then one warp has the copy engine fill a ring of stages, and groups of warps take them in turn,
// each with all of the tile (mma.sync, as sm80's kernels: squares of 16 x 16 x 16 are skipped). The groups' sums are
// added in order. Memory: kStages stages of a and b, 64 lines by 64 of k each, swizzled as sm80 wants it; then the
// barriers. Limits: masks are bool, k is at most kMostSmallK.
#pragma once

#include "cuda/sm80/multiply_16.cuh"
#include "cuda/sm90/ptx.cuh"
#include "cuda/sm90/small.hpp"

namespace maskmm::cuda::sm90 {

template <class Element_, int kRowBlocks_, int kGroups_>
struct Small {
  using Element = Element_;
  using Shape = TileShape<kBlock, kBlock, 2, 2, 0, 1>;  // of the four warps that share a row of blocks
  using Multiply = sm80::Multiply16<Element, Shape, Masks::choosing>;
  static constexpr int kRowBlocks = kRowBlocks_, kGroups = kGroups_, kStages = 8;
  static constexpr int kGroupThreads = 32 * Shape::kMultiplyWarps * kRowBlocks;
  static constexpr int kMultiplyThreads = kGroupThreads * kGroups, kThreads = kMultiplyThreads + 32;
  static constexpr int kStageBytes = (kRowBlocks + 1) * kBlockBytes;
  static constexpr int kSharedBytes = kStages * (kStageBytes + 2 * int(sizeof(std::uint64_t)));
  static constexpr int kSquareRows = kRowBlocks * 4, kSquareColumns = 4;  // of 16
  static constexpr int kParts = kMostSmallK / 16;
  static_assert(kParts <= kMultiplyThreads &&
                (kGroups - 1) * kGroupThreads * Multiply::kSums * 4 <= kStages * kStageBytes);
};

/// What the masks say of a tile.
template <class Work>
struct SmallMasks {
  unsigned short lines[Work::kParts];  // of each 16 of k: live rows (of 16), then from bit 8 live columns
  unsigned stages[Work::kRowBlocks];   // of 64 of k: those that need this row of blocks of a
  unsigned kept;                       // squares of 16 x 16, kSquareColumns bits a row

  /// By all threads of the block.
  __device__ void read(const SmallParams& params, const Tile& tile) {
    const MultiplyParams& p = params.direct.multiply;
    const auto start = [&](const MaskParams& mask) {
      return mask.data ? mask.data + batch_offset(p.batch, mask.batch, tile.batch) : nullptr;
    };
    const auto live = [](const std::byte* mask, const MaskParams& of, std::int64_t row, std::int64_t column) {
      return !mask || mask[row * of.row_stride + column * of.col_stride] != std::byte{0};
    };
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < 32) {
      const int row = static_cast<int>(tile.row) + thread / 4 * 16,
                column = static_cast<int>(tile.column) + thread % 4 * 16;
      const bool inside = thread < 4 * Work::kSquareRows && row < p.m && column < p.n;
      const unsigned found = __ballot_sync(
          kAllLanes,
          inside && live(start(params.direct.mask_out), params.direct.mask_out, row >> p.block_m, column >> p.block_n));
      if (thread == 0) kept = found;
      if (thread < Work::kRowBlocks) stages[thread] = 0;
    }
    unsigned rows = 0, columns = 0;
    const int k = thread * 16;
    if (thread < Work::kParts && k < p.k) {
      const std::byte *lhs = start(params.direct.mask_lhs), *rhs = start(params.direct.mask_rhs);
#pragma unroll
      for (int i = 0; i < Work::kSquareRows; ++i) {
        const std::int64_t row = tile.row + 16 * i;
        rows |= unsigned{row < p.m && live(lhs, params.direct.mask_lhs, row >> p.block_m, k >> p.block_k)} << i;
      }
#pragma unroll
      for (int j = 0; j < Work::kSquareColumns; ++j) {
        const std::int64_t column = tile.column + 16 * j;
        columns |= unsigned{column < p.n && live(rhs, params.direct.mask_rhs, column >> p.block_n, k >> p.block_k)}
                   << j;
      }
      lines[thread] = static_cast<unsigned short>(rows | columns << 8);
    }
    __syncthreads();
    if (rows != 0 && columns != 0) {
#pragma unroll
      for (int block = 0; block < Work::kRowBlocks; ++block) {
        unsigned wanted = 0;  // columns that some live row keeps
#pragma unroll
        for (int i = 4 * block; i < 4 * block + 4; ++i) wanted |= rows >> i & 1 ? kept >> 4 * i & 0xf : 0;
        if (wanted & columns) atomicOr(&stages[block], 1u << k / kBlock);
      }
    }
    __syncthreads();
  }

  __device__ unsigned live_stages() const { return Work::kRowBlocks == 1 ? stages[0] : stages[0] | stages[1]; }
};

/// The warp that has the copies made.
template <class Work>
__device__ void load_small(const SmallParams& params, const Tile& tile, const SmallMasks<Work>& masks,
                           std::uint32_t ring, std::uint32_t full, std::uint32_t empty) {
  const MultiplyParams& p = params.direct.multiply;
  int inner = static_cast<int>(tile.batch), outer = 0;
  if (p.batch.rank == 2) {
    outer = inner / static_cast<int>(p.batch.size[1]);
    inner -= outer * static_cast<int>(p.batch.size[1]);
  }
  const auto copy = [&](std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier, const Source& source,
                        const BatchSteps& steps, std::int64_t line, int k) {
    const int at = static_cast<int>(line);
    ptx::copy_box(to, map, barrier,
                  {source.k_major ? k : at, source.k_major ? at : k, 0, inner * steps.inner, outer * steps.outer});
  };
  int slot = 0;
  unsigned parity = 1;
  for (unsigned left = masks.live_stages(); left != 0; left &= left - 1) {
    const int stage = __ffs(static_cast<int>(left)) - 1;
    ptx::barrier_wait(empty + slot * 8, parity);
    if (ptx::elect()) {
      const std::uint32_t to = ring + slot * Work::kStageBytes, barrier = full + slot * 8;
      int blocks = 1;
#pragma unroll
      for (int i = 0; i < Work::kRowBlocks; ++i) blocks += masks.stages[i] >> stage & 1;
      ptx::barrier_arrive_expecting(barrier, static_cast<std::uint32_t>(blocks) * kBlockBytes);
      copy(to + Work::kRowBlocks * kBlockBytes, params.b, barrier, p.b, params.b_batch, tile.column, stage * kBlock);
#pragma unroll
      for (int i = 0; i < Work::kRowBlocks; ++i) {
        if (masks.stages[i] >> stage & 1)
          copy(to + i * kBlockBytes, params.a, barrier, p.a, params.a_batch, tile.row + i * kBlock, stage * kBlock);
      }
    }
    __syncwarp();
    if (++slot == Work::kStages) slot = 0, parity ^= 1;
  }
}

template <class Element, int kRowBlocks, int kGroups>
__global__ void __launch_bounds__(Small<Element, kRowBlocks, kGroups>::kThreads, 1)
    small_kernel(const __grid_constant__ SmallParams params) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Work = Small<Element, kRowBlocks, kGroups>;
  using Shape = typename Work::Shape;
  extern __shared__ __align__(1024) std::byte shared[];
  __shared__ SmallMasks<Work> masks;
  __shared__ unsigned live_of[kGroups][kRowBlocks * Shape::kMultiplyWarps];
  const MultiplyParams& p = params.direct.multiply;
  const std::uint32_t ring = ptx::shared_address(shared), full = ring + Work::kStages * Work::kStageBytes;
  const std::uint32_t empty = full + Work::kStages * 8;
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < Work::kStages; ++slot) {
      ptx::barrier_init(full + slot * 8, 1);
      ptx::barrier_init(empty + slot * 8, kRowBlocks * Shape::kMultiplyWarps);
    }
    ptx::publish_barriers();
  }
  Tile tile = tile_of_block(p.schedule, kRowBlocks * kBlock, kBlock);
  masks.read(params, tile);

  const int all_warps = static_cast<int>(uniform(threadIdx.x / 32));
  if (all_warps * 32 >= Work::kMultiplyThreads) return load_small<Work>(params, tile, masks, ring, full, empty);
  constexpr int kGroupWarps = kRowBlocks * Shape::kMultiplyWarps;
  const int group = all_warps / kGroupWarps, in_group = all_warps % kGroupWarps;
  const int row_block = in_group / Shape::kMultiplyWarps, warp = in_group % Shape::kMultiplyWarps;
  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows * 16;
  const int warp_column = warp % Shape::kWarpsAcross * Shape::kWarpColumns * 16;
  typename Work::Multiply multiply(p, warp_row, warp_column);
  multiply.clear();

  const int first_row = row_block * 4 + warp_row / 16, first_column = warp_column / 16;
  static_assert(Shape::kWarpRows == 2 && Shape::kWarpColumns == 2);
  const unsigned kept =
      (masks.kept >> (4 * first_row + first_column) & 3) | (masks.kept >> (4 * first_row + 4 + first_column) & 3) << 2;
  const int part_shift = p.block_k < 6 ? p.block_k : 6, parts_of_16 = 1 << (part_shift - 4);
  unsigned live = 0;
  int index = 0;
  for (unsigned left = masks.live_stages(); left != 0; left &= left - 1, ++index) {
    if (index % kGroups != group) continue;
    const int stage = __ffs(static_cast<int>(left)) - 1, slot = index % Work::kStages;
    ptx::barrier_wait(full + slot * 8, index / Work::kStages & 1);
    const std::uint32_t at = ring + slot * Work::kStageBytes;
#pragma unroll 1
    for (int part = 0; part < 4 && stage * 4 + part < Work::kParts; part += parts_of_16) {
      if (stage * kBlock + part * 16 >= p.k) break;
      const unsigned lines = uniform(masks.lines[stage * 4 + part]);
      const unsigned rows = lines >> first_row & 3, columns = lines >> (8 + first_column) & 3;
      const unsigned pairs = ((rows & 1 ? columns : 0) | (rows & 2 ? columns << 2 : 0)) & kept;
      if (pairs == 0) continue;
      live |= pairs;
      multiply.part(p, {at + row_block * kBlockBytes, at + kRowBlocks * kBlockBytes, part * 16,
                        (part + parts_of_16) * 16, pairs, nullptr});
    }
    if (threadIdx.x % 32 == 0) ptx::barrier_arrive(empty + slot * 8);
  }
  if constexpr (kGroups > 1) {  // no warp reads the ring any more, and no copy is under way
    cuda::ptx::sync_threads<Work::kMultiplyThreads>(1);
    const int thread = static_cast<int>(threadIdx.x) % Work::kGroupThreads;
    auto* const sums = reinterpret_cast<float*>(shared) + thread;
    constexpr int kGroupSums = Work::kGroupThreads * Work::Multiply::kSums;
    if (group > 0) {
      multiply.template put<Work::kGroupThreads>(sums + (group - 1) * kGroupSums);
      if (threadIdx.x % 32 == 0) live_of[group][in_group] = live;
    }
    cuda::ptx::sync_threads<Work::kMultiplyThreads>(1);
    if (group > 0) return;
#pragma unroll
    for (int other = 1; other < kGroups; ++other) {
      multiply.template add<Work::kGroupThreads>(sums + (other - 1) * kGroupSums);
      live |= live_of[other][in_group];
    }
  }
  tile.row += row_block * kBlock;
  multiply.store(p, tile, live);
#else
  __trap();  // never chosen: see DeviceLimits::hopper_code
#endif
}

}  // namespace maskmm::cuda::sm90
