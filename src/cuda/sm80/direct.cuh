// float16, bfloat16 and float32 for small problems, where the time is latency: one launch, which reads the masks' bytes
// itself.
//
// Roles: a thread block has one tile. All its warps list the live k blocks. Then groups of warps take the stages of k
// in turn, each with all of the tile: all warps of a group load and all multiply, the copies of kAhead stages being
// under way while one is multiplied. The groups' sums are added in order. Small tiles and several groups fill the
// device. Memory: for each group kStages stages of a and b, as in load.cuh; the list. Limits: only bool masks, at most
// kMostDirectBlocks blocks along k, operands in aligned 16-byte vectors.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/sm80/direct.hpp"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

template <class Multiply, int kGroups_>
struct Direct {
  using Shape = typename Multiply::Shape;
  using Element = typename Multiply::Element;
  static constexpr int kGroups = kGroups_, kGroupThreads = 32 * Shape::kMultiplyWarps;
  static constexpr int kThreads = kGroups * kGroupThreads;
  static constexpr int kSize = sizeof(Element), kPerVector = 16 / kSize;
  static constexpr int kStageK = kStageKBytes / kSize, kLog2StageK = kSize == 2 ? 6 : 5;
  static constexpr int kBytesA = Shape::kRows * kStageKBytes, kBytesB = Shape::kColumns * kStageKBytes;
  static constexpr int kAhead = kGroups == 1 ? 5 : 2, kStages = kAhead + 1;
  static constexpr int kStageBytes = kBytesA + kBytesB, kRingBytes = kStages * kStageBytes;
  static constexpr int kSharedBytes = kGroups * kRingBytes;
  static constexpr int kRowBits = Shape::kRows / 16, kColumnBits = Shape::kColumns / 16;

  const MultiplyParams& params;
  const Tile& tile;
  const std::uint64_t* list;  // k block << 8 | columns << 4 | rows, in 16s: what is live and needed of each
  int length;
  int part_shift;   // log2 of the elements of k in a part of a stage
  int parts_shift;  // log2 of the parts of a block

  /// Part `index` of the walk: its first k, and its live lines. Parts past the end have none.
  __device__ std::int64_t part(int index, unsigned& live) const {
    const int at = index >> parts_shift;
    if (at >= length) {
      live = 0;
      return params.k;
    }
    live = static_cast<unsigned>(list[at]) & 0xffff;
    return (static_cast<std::int64_t>(list[at] >> 16) << params.block_k) +
           ((index - (at << parts_shift)) << part_shift);
  }

  __device__ int stages() const {
    const int per_stage = kStageK >> part_shift;
    return ((length << parts_shift) + per_stage - 1) >> (kLog2StageK - part_shift);
  }

  static __device__ int bytes_inside(std::int64_t left) {
    return left >= kPerVector ? 16 : left <= 0 ? 0 : int(left) * kSize;
  }

  /// This thread's copies of one operand. kFirstBit: where its live lines begin.
  template <int kLines, int kFirstBit>
  __device__ void load(const Source& source, const std::byte* base, int lines_left, int stage, std::uint32_t to) const {
    const int first_part = stage << (kLog2StageK - part_shift), thread = static_cast<int>(threadIdx.x % kGroupThreads);
    if (source.k_major) {  // one vector of k, in every kStep-th line
      constexpr int kStep = kGroupThreads / 8;
      const int k_in_stage = thread % 8 * kPerVector;
      unsigned live;
      const std::int64_t k =
          part(first_part + (k_in_stage >> part_shift), live) + (k_in_stage & ((1 << part_shift) - 1));
      live >>= kFirstBit;
      const int bytes = bytes_inside(params.k - k);
      const int first = thread / 8;
      const std::byte* from = base + k * kSize + first * source.line_stride;
      const std::int64_t step = kStep * source.line_stride;
      to += first * kStageKBytes + ((thread % 8 ^ swizzle<Element>(first)) << 4);
      static_assert(kStep % 8 == 0);
#pragma unroll
      for (int line = 0; line < kLines; line += kStep) {
        if (live >> ((line + first) / 16) & 1)
          ptx::copy_16(to + line * kStageKBytes, from, line + first < lines_left ? bytes : 0);
        from += step;
      }
    } else {  // one vector of lines, in every kStep-th k
      constexpr int kVectors = kLines / kPerVector, kStep = kGroupThreads / kVectors;
      const int vector = thread % kVectors, first = thread / kVectors;
      const int bytes = bytes_inside(lines_left - vector * kPerVector);
      base += vector * 16;
#pragma unroll
      for (int i = 0; i < kStageK; i += kStep) {
        const int k_in_stage = i + first;
        unsigned live;
        const std::int64_t k =
            part(first_part + (k_in_stage >> part_shift), live) + (k_in_stage & ((1 << part_shift) - 1));
        if (!(live >> (kFirstBit + vector * kPerVector / 16) & 1)) continue;
        const std::uint32_t place = k_in_stage * (kLines * kSize) + ((vector ^ (k_in_stage & (kVectors - 1))) << 4);
        ptx::copy_16(to + place, base + k * source.k_stride, k < params.k ? bytes : 0);
      }
    }
  }
};

/// Lists the live k blocks of a tile; the list's length. For the whole thread block.
template <class Work>
__device__ int list_live(const DirectParams& params, const Tile& tile, std::uint64_t* list, unsigned* pairs_of_tile) {
  constexpr int kThreads = Work::kThreads, kRowBits = Work::kRowBits, kColumnBits = Work::kColumnBits;
  __shared__ int warp_counts[kThreads / 32];
  const MultiplyParams& multiply = params.multiply;
  const auto start = [&](const MaskParams& mask) {
    return mask.data ? mask.data + batch_offset(multiply.batch, mask.batch, tile.batch) : nullptr;
  };
  const std::byte *out = start(params.mask_out), *lhs = start(params.mask_lhs), *rhs = start(params.mask_rhs);
  const auto block_row = [&](int i) { return (tile.row + 16 * i) >> multiply.block_m; };
  const auto block_column = [&](int j) { return (tile.column + 16 * j) >> multiply.block_n; };
  // Which squares of the tile mask_out keeps: bit i * kColumnBits + j.
  unsigned pairs = 0;
#pragma unroll
  for (int i = 0; i < kRowBits; ++i) {
#pragma unroll
    for (int j = 0; j < kColumnBits; ++j) {
      const bool inside = tile.row + 16 * i < multiply.m && tile.column + 16 * j < multiply.n;
      const bool live =
          inside &&
          (!out || out[block_row(i) * params.mask_out.row_stride + block_column(j) * params.mask_out.col_stride] !=
                       std::byte{0});
      pairs |= unsigned{live} << (i * kColumnBits + j);
    }
  }
  *pairs_of_tile = pairs;
  const auto k_blocks = static_cast<int>(multiply.k_blocks);
  int length = 0;
  for (int first = 0; first < k_blocks; first += kThreads) {
    const int k_block = first + static_cast<int>(threadIdx.x);
    unsigned rows = 0, columns = 0;
    if (k_block < k_blocks && pairs != 0) {
#pragma unroll
      for (int i = 0; i < kRowBits; ++i) {
        const bool live =
            !lhs ||
            (tile.row + 16 * i < multiply.m &&
             lhs[block_row(i) * params.mask_lhs.row_stride + k_block * params.mask_lhs.col_stride] != std::byte{0});
        rows |= unsigned{live} << i;
      }
#pragma unroll
      for (int j = 0; j < kColumnBits; ++j) {
        const bool live =
            !rhs ||
            (tile.column + 16 * j < multiply.n &&
             rhs[block_column(j) * params.mask_rhs.row_stride + k_block * params.mask_rhs.col_stride] != std::byte{0});
        columns |= unsigned{live} << j;
      }
    }
    unsigned needed_rows = 0, needed_columns = 0;
#pragma unroll
    for (int i = 0; i < kRowBits; ++i) {
      const unsigned partners = rows >> i & 1 ? pairs >> (i * kColumnBits) & ((1u << kColumnBits) - 1) & columns : 0;
      needed_rows |= unsigned{partners != 0} << i;
      needed_columns |= partners;
    }
    const unsigned ballot = __ballot_sync(kAllLanes, needed_rows != 0);
    if (threadIdx.x % 32 == 0) warp_counts[threadIdx.x / 32] = __popc(ballot);
    __syncthreads();
    int place = length + __popc(ballot & ((1u << threadIdx.x % 32) - 1));
    for (int warp = 0; warp < kThreads / 32; ++warp) {
      if (warp < static_cast<int>(threadIdx.x) / 32) place += warp_counts[warp];
      length += warp_counts[warp];
    }
    // A line is loaded where it is needed; a square is live where both its lines are, whoever else needs them.
    if (needed_rows) {
      list[place] =
          std::uint64_t(unsigned(k_block)) << 16 | columns << 12 | rows << 8 | needed_columns << 4 | needed_rows;
    }
    __syncthreads();
  }
  return length;
}

template <class Multiply, int kGroups>
__global__ void __launch_bounds__(Direct<Multiply, kGroups>::kThreads)
    direct_kernel_of(const __grid_constant__ DirectParams all) {
  using Work = Direct<Multiply, kGroups>;
  using Shape = typename Multiply::Shape;
  extern __shared__ __align__(1024) std::byte shared[];
  __shared__ std::uint64_t list[kMostDirectBlocks];
  __shared__ unsigned live_of[kGroups][Shape::kMultiplyWarps];
  const MultiplyParams& params = all.multiply;
  const Tile tile = tile_of_block(params.schedule, Shape::kRows, Shape::kColumns);
  unsigned kept;
  const int length = list_live<Work>(all, tile, list, &kept);
  const int part_shift = params.block_k < Work::kLog2StageK ? params.block_k : Work::kLog2StageK;
  const Work work{params, tile, list, length, part_shift, params.block_k - part_shift};

  const std::byte* a =
      params.a.data + batch_offset(params.batch, params.a.batch, tile.batch) + tile.row * params.a.line_stride;
  const std::byte* b =
      params.b.data + batch_offset(params.batch, params.b.batch, tile.batch) + tile.column * params.b.line_stride;
  const int rows_left = static_cast<int>(smaller(params.m - tile.row, Shape::kRows));
  const int columns_left = static_cast<int>(smaller(params.n - tile.column, Shape::kColumns));
  const int all_warps = __shfl_sync(kAllLanes, threadIdx.x / 32, 0);
  const int group = all_warps / Shape::kMultiplyWarps, warp = all_warps % Shape::kMultiplyWarps;
  std::byte* const own_ring = shared + group * Work::kRingBytes;
  const std::uint32_t ring = ptx::shared_address(own_ring);
  const int stages = work.stages();
  const auto issue = [&](int stage, int slot) {
    if (stage < stages) {
      const std::uint32_t to = ring + slot * Work::kStageBytes;
      work.template load<Shape::kRows, 0>(params.a, a, rows_left, stage, to);
      work.template load<Shape::kColumns, 4>(params.b, b, columns_left, stage, to + Work::kBytesA);
    }
    ptx::commit_copies();
  };
#pragma unroll 1
  for (int i = 0; i < Work::kAhead; ++i) issue(i * kGroups + group, i);

  const int warp_row = warp / Shape::kWarpsAcross * Shape::kWarpRows * 16;
  const int warp_column = warp % Shape::kWarpsAcross * Shape::kWarpColumns * 16;
  Multiply multiply(params, warp_row, warp_column);
  multiply.clear();
  const int lane = threadIdx.x % 32;
  const int row_bit = warp_row / 16 + lane / Shape::kWarpColumns % Shape::kWarpRows;
  const int column_bit = warp_column / 16 + lane % Shape::kWarpColumns;
  const bool answers =
      lane < Shape::kWarpRows * Shape::kWarpColumns && (kept >> (row_bit * Work::kColumnBits + column_bit) & 1);
  unsigned live = 0;
  int slot = 0, next_slot = Work::kAhead;
  const auto advance = [](int& at) { at = at + 1 == Work::kStages ? 0 : at + 1; };
#pragma unroll 1
  for (int stage = group; stage < stages; stage += kGroups) {
    ptx::wait_for_copies_but<Work::kAhead - 1>();
    ptx::sync_threads<Work::kGroupThreads>(1 + group);
    issue(stage + Work::kAhead * kGroups, next_slot);
    const std::uint32_t at = ring + slot * Work::kStageBytes;
    advance(slot), advance(next_slot);
#pragma unroll 1
    for (int part = 0; part << part_shift < Work::kStageK; ++part) {
      unsigned lines;
      work.part((stage << (Work::kLog2StageK - part_shift)) + part, lines);
      const unsigned pairs =
          __ballot_sync(kAllLanes, answers && (lines >> (8 + row_bit) & 1) && (lines >> (12 + column_bit) & 1));
      if (pairs == 0) continue;
      live |= pairs;
      multiply.part(params, {at, at + Work::kBytesA, part << part_shift, (part + 1) << part_shift, pairs, nullptr});
    }
  }
  if constexpr (kGroups > 1) {
    static_assert(Multiply::kSums * 4 * Work::kGroupThreads <= Work::kRingBytes);
    const int thread = static_cast<int>(threadIdx.x % Work::kGroupThreads);
    if (group > 0) {
      ptx::sync_threads<Work::kGroupThreads>(1 + group);  // no warp reads the ring any more
      multiply.template put<Work::kGroupThreads>(reinterpret_cast<float*>(own_ring) + thread);
      if (lane == 0) live_of[group][warp] = live;
    }
    __syncthreads();
    if (group > 0) return;
#pragma unroll
    for (int other = 1; other < kGroups; ++other) {
      multiply.template add<Work::kGroupThreads>(reinterpret_cast<float*>(shared + other * Work::kRingBytes) + thread);
      live |= live_of[other][warp];
    }
  }
  multiply.store(params, tile, live);
}

template <class Multiply, int kGroups>
Kernel direct_kernel_named(const char* name) {
  using Work = Direct<Multiply, kGroups>;
  using Shape = typename Multiply::Shape;
  Kernel kernel;
  kernel.function = reinterpret_cast<const void*>(&direct_kernel_of<Multiply, kGroups>);
  kernel.name = name;
  kernel.rows = Shape::kRows;
  kernel.columns = Shape::kColumns;
  kernel.threads = Work::kThreads;
  kernel.blocks_per_sm = 1;
  kernel.stage_bytes = Work::kSharedBytes;
  return kernel;
}

}  // namespace maskmm::cuda::sm80
