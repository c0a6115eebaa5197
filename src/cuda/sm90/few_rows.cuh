// float16 and bfloat16 on Hopper where the result has at most 64 rows: every live block of b is read once, at the speed
// of memory, and each thread block's share of a comes from L2 beside it.
//
// Roles: a thread block has 64 columns of the result. All its warps read the masks' bytes: which 64s of k are live for
// these columns. Then one warp has the copy engine fill a ring of stages, as far ahead as the ring goes, and groups of
// warps take them in turn (mma.sync, as sm80's kernels). The groups' sums are added in order. Two thread blocks share a
// processor. Memory: kStages stages of a and b, 64 lines by 64 of k each, swizzled as sm80 wants it; then the barriers.
// Limits: masks are bool; blocks of k, and of n where a mask has them, are multiples of 64; the result has one row of
// blocks; k is at most kMostFewRowsK. Design: docs/design/cuda.md.
#pragma once

#include "cuda/sm80/multiply_16.cuh"
#include "cuda/sm90/few_rows.hpp"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

template <class Element_, int kGroups_, int kStages_>
struct FewRows {
  using Element = Element_;
  using Shape = TileShape<kBlock, kBlock, 2, 2, 0, 1>;  // of a group
  using Multiply = sm80::Multiply16<Element, Shape, Masks::choosing>;
  static constexpr int kGroups = kGroups_, kStages = kStages_;
  static constexpr int kGroupThreads = 32 * Shape::kMultiplyWarps;
  static constexpr int kMultiplyThreads = kGroupThreads * kGroups, kThreads = kMultiplyThreads + 32;
  static constexpr int kStageBytes = 2 * kBlockBytes;
  static constexpr int kSharedBytes = kStages * (kStageBytes + 2 * int(sizeof(std::uint64_t)));
  static constexpr int kWords = kMostFewRowsK / kBlock / 32;
  static_assert((kGroups - 1) * kGroupThreads * Multiply::kSums * 4 <= kStages * kStageBytes);
};

/// Which 64s of k are live for the tile, 32 a word. By all threads of the block.
template <int kThreads>
__device__ void list_live(const sm80::DirectParams& params, const Tile& tile, int words, unsigned* live) {
  const MultiplyParams& p = params.multiply;
  const auto start = [&](const MaskParams& mask) {
    return mask.data ? mask.data + batch_offset(p.batch, mask.batch, tile.batch) : nullptr;
  };
  const std::byte *out = start(params.mask_out), *lhs = start(params.mask_lhs), *rhs = start(params.mask_rhs);
  const std::int64_t block_column = tile.column >> p.block_n;
  if (rhs) rhs += block_column * params.mask_rhs.row_stride;
  const bool kept = !out || out[block_column * params.mask_out.col_stride] != std::byte{0};
  for (int base = 0; base < words * 32; base += kThreads) {
    const int index = base + static_cast<int>(threadIdx.x);
    const std::int64_t k = std::int64_t{index} * kBlock, k_block = k >> p.block_k;
    const bool is_live = kept && k < p.k && (!rhs || rhs[k_block * params.mask_rhs.col_stride] != std::byte{0}) &&
                         (!lhs || lhs[k_block * params.mask_lhs.col_stride] != std::byte{0});
    const unsigned word = __ballot_sync(kAllLanes, is_live);
    if (threadIdx.x % 32 == 0 && index / 32 < words) live[index / 32] = word;
  }
}

/// The warp that has the copies made.
template <class Work>
__device__ void load_few_rows(const SmallParams& params, const Tile& tile, const unsigned* live, int words,
                              std::uint32_t ring, std::uint32_t full, std::uint32_t empty) {
  const MultiplyParams& p = params.direct.multiply;
  int inner = static_cast<int>(tile.batch), outer = 0;
  if (p.batch.rank == 2) {
    outer = inner / static_cast<int>(p.batch.size[1]);
    inner -= outer * static_cast<int>(p.batch.size[1]);
  }
  const auto copy = [&](std::uint32_t to, const CUtensorMap& map, std::uint32_t barrier, const Source& source,
                        const BatchSteps& steps, int line, int k) {
    ptx::copy_box(to, map, barrier,
                  {source.k_major ? k : line, source.k_major ? line : k, 0, inner * steps.inner, outer * steps.outer});
  };
  int slot = 0;
  unsigned parity = 1;
  for (int word = 0; word < words; ++word) {
    for (unsigned left = uniform(live[word]); left != 0; left &= left - 1) {
      const int k = (word * 32 + __ffs(static_cast<int>(left)) - 1) * kBlock;
      ptx::barrier_wait(empty + slot * 8, parity);
      if (ptx::elect()) {
        const std::uint32_t to = ring + slot * Work::kStageBytes, barrier = full + slot * 8;
        ptx::barrier_arrive_expecting(barrier, Work::kStageBytes);
        copy(to + kBlockBytes, params.b, barrier, p.b, params.b_batch, static_cast<int>(tile.column), k);
        copy(to, params.a, barrier, p.a, params.a_batch, 0, k);
      }
      __syncwarp();
      if (++slot == Work::kStages) slot = 0, parity ^= 1;
    }
  }
}

template <class Element, int kGroups, int kStages>
__global__ void __launch_bounds__(FewRows<Element, kGroups, kStages>::kThreads, kGroups > 2 ? 1 : 2)
    few_rows_kernel_of(const __grid_constant__ SmallParams params) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using Work = FewRows<Element, kGroups, kStages>;
  using Shape = typename Work::Shape;
  extern __shared__ __align__(1024) std::byte shared[];
  __shared__ unsigned live[Work::kWords];
  const MultiplyParams& p = params.direct.multiply;
  const std::uint32_t ring = ptx::shared_address(shared), full = ring + kStages * Work::kStageBytes;
  const std::uint32_t empty = full + kStages * 8;
  if (threadIdx.x == 0) {
    for (int slot = 0; slot < kStages; ++slot) {
      ptx::barrier_init(full + slot * 8, 1);
      ptx::barrier_init(empty + slot * 8, Shape::kMultiplyWarps * cuda::ptx::kWarpArrivals);
    }
    ptx::publish_barriers();
  }
  const Tile tile = tile_of_block(p.schedule, kBlock, kBlock);
  const int words = static_cast<int>((p.k + 32 * kBlock - 1) / (32 * kBlock));
  list_live<Work::kThreads>(params.direct, tile, words, live);
  __syncthreads();

  const int all_warps = static_cast<int>(uniform(threadIdx.x / 32));
  if (all_warps * 32 >= Work::kMultiplyThreads) {
    return load_few_rows<Work>(params, tile, live, words, ring, full, empty);
  }
  const int group = all_warps / Shape::kMultiplyWarps, warp = all_warps % Shape::kMultiplyWarps;
  typename Work::Multiply multiply(p, warp / Shape::kWarpsAcross * Shape::kWarpRows * 16,
                                   warp % Shape::kWarpsAcross * Shape::kWarpColumns * 16);
  multiply.clear();
  constexpr unsigned kAllPairs = (1u << Shape::kWarpRows * Shape::kWarpColumns) - 1;
  int index = 0, slot = 0;
  unsigned parity = 0;
  for (int word = 0; word < words; ++word) {
    for (unsigned left = uniform(live[word]); left != 0; left &= left - 1, ++index) {
      if (index % kGroups == group) {
        ptx::barrier_wait(full + slot * 8, parity);
        const std::uint32_t at = ring + slot * Work::kStageBytes;
        multiply.part(p, {at, at + kBlockBytes, 0, kBlock, kAllPairs, nullptr});
        cuda::ptx::barrier_arrive_of_warp(empty + slot * 8);
      }
      if (++slot == kStages) slot = 0, parity ^= 1;
    }
  }
  // No warp reads the ring any more, and no copy is under way.
  cuda::ptx::sync_threads<Work::kMultiplyThreads>(1);
  const int thread = static_cast<int>(threadIdx.x) % Work::kGroupThreads;
  auto* const sums = reinterpret_cast<float*>(shared) + thread;
  constexpr int kGroupSums = Work::kGroupThreads * Work::Multiply::kSums;
  if (group > 0) multiply.template put<Work::kGroupThreads>(sums + (group - 1) * kGroupSums);
  cuda::ptx::sync_threads<Work::kMultiplyThreads>(1);
  if (group > 0) return;
#pragma unroll
  for (int other = 1; other < kGroups; ++other) {
    multiply.template add<Work::kGroupThreads>(sums + (other - 1) * kGroupSums);
  }
  multiply.store(p, tile, index > 0 ? kAllPairs : 0);
#else
  __trap();  // never chosen: see DeviceLimits::hopper_code
#endif
}

}  // namespace maskmm::cuda::sm90
