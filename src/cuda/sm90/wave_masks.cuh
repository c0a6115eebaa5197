// What a thread block of a wave kernel has to do: its tile, and the list of its live stages, read from the masks' bytes
// by all its warps.
#pragma once

#include "cuda/schedule.cuh"
#include "cuda/sm90/ptx.cuh"
#include "cuda/sm90/wave.hpp"

namespace maskmm::cuda::sm90 {

template <class Element_, Layout kA_, Layout kB_, int kRowBlocks_, int kColumnBlocks_, Skip kSkip_>
struct Wave {
  using Element = Element_;
  static constexpr Layout kA = kA_, kB = kB_;
  static constexpr int kRowBlocks = kRowBlocks_, kColumnBlocks = kColumnBlocks_;
  static constexpr Skip kSkip = kSkip_;
  static constexpr int kPairs = kRowBlocks * kColumnBlocks;
  static constexpr int kRows = kRowBlocks * kBlock, kColumns = kColumnBlocks * kBlock;
  static constexpr int kMultiplyThreads = 128 * kRowBlocks;
  static constexpr int kThreads = kMultiplyThreads + 32;
  static constexpr int kStageBytes = (kRowBlocks + kColumnBlocks) * kBlockBytes;
  static constexpr int kMostBytes = 224 << 10;
  static constexpr int kStages = kMostBytes / kStageBytes < 8 ? kMostBytes / kStageBytes : 8;
  static constexpr int kSharedBytes = kStages * (kStageBytes + 2 * int(sizeof(std::uint64_t)));
  static constexpr int kSums = 32 * kColumnBlocks;  // of a thread
  static constexpr unsigned kAllColumns = (1u << kColumnBlocks) - 1;

  static constexpr bool kSortsRows = kSkip == Skip::rows && kRowBlocks == 2;
  static_assert(kPairs <= 16 && kThreads >= kMostWaveStages && kStages % 4 == 0);
};

/// The tile of a thread block.
template <class Work>
struct WavePlace {
  int tile, tile_column;  // from the top, from the left
  int batch, split;

  __device__ int row(int row_block) const { return tile * Work::kRows + row_block * kBlock; }  // its first element
  __device__ int column(int column_block) const { return tile_column * Work::kColumns + column_block * kBlock; }
};

/// Rows of blocks by their weight, so that each tile gets a heavy one and a light one: of one wave, the longest list of
/// stages decides. For a mask whose rows are vectors of 32 bytes, a byte for each row of blocks and stage.
template <class Work>
struct WaveRows {
  static constexpr int kMost = 128, kWords = kMostWaveStages / 32;
  unsigned live[kMost][kWords];  // stages
  std::uint16_t weights[kMost], order[kMost];

  /// By all threads; all loads first.
  __device__ void sort(const std::byte* mask, std::int64_t row_stride, int count, int words) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = thread; i < count * words; i += Work::kThreads) {
      const int row = i / words, word = i - row * words;
      const auto* from = reinterpret_cast<const uint4*>(mask + row * row_stride + word * 32);
      const uint4 left = from[0], right = from[1];
      live[row][word] = bits_of(left) | bits_of(right) << 16;
    }
    __syncthreads();
    int weight = 0;
    if (thread < count) {
      for (int word = 0; word < words; ++word) weight += __popc(live[thread][word]);
      weights[thread] = static_cast<std::uint16_t>(weight);
    }
    __syncthreads();
    if (thread < count) {
      int rank = 0;
#pragma unroll 8
      for (int other = 0; other < count; ++other) {
        const int its = weights[other];
        rank += its > weight || (its == weight && other < thread);
      }
      order[rank] = static_cast<std::uint16_t>(thread);
    }
    __syncthreads();
  }

  /// The i-th row of blocks of a tile, of `count` in all; `count` where there is none.
  __device__ int row_of(int tile, int i, int count) const {
    const int at = i == 0 ? tile : (count + 1) / 2 * 2 - 1 - tile;
    return at < count ? order[at] : count;
  }

 private:
  static __device__ unsigned bits_of(uint4 bytes) {
    return bits_of(bytes.x) | bits_of(bytes.y) << 4 | bits_of(bytes.z) << 8 | bits_of(bytes.w) << 12;
  }
  static __device__ unsigned bits_of(unsigned bytes) {
    const unsigned ones = __vcmpne4(bytes, 0) & 0x01010101;
    return (ones | ones >> 7 | ones >> 14 | ones >> 21) & 0xf;
  }
};

struct NoWaveRows {};

/// What the masks say of a tile, in a part of k.
template <class Work>
struct WaveMasks {
  /// The live stages in order: their number, then from bit kFirstPair on the pairs that are multiplied (kColumnBlocks
  /// bits a row).
  static constexpr int kFirstPair = 8;
  unsigned list[kMostWaveStages];
  unsigned found[kMostWaveStages / 32];
  unsigned kept;                                             // pairs that mask_out keeps, kColumnBlocks bits a row
  int rows[Work::kRowBlocks], columns[Work::kColumnBlocks];  // first element of each row and column of blocks
  std::conditional_t<Work::kSortsRows, WaveRows<Work>, NoWaveRows> sorted;

  __device__ int count() const {
    int total = 0;
#pragma unroll
    for (const unsigned word : found) total += __popc(word);
    return total;
  }

  /// By all threads of the block; `first` and `end` are the part's stages.
  __device__ void read(const SmallParams& params, const WavePlace<Work>& place, int first, int end) {
    const MultiplyParams& p = params.direct.multiply;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const MaskParams &out = params.direct.mask_out, &lhs = params.direct.mask_lhs, &rhs = params.direct.mask_rhs;
    const auto start = [&](const MaskParams& mask) {
      return mask.data ? mask.data + batch_offset(p.batch, mask.batch, place.batch) : nullptr;
    };
    const auto live = [](const std::byte* mask, const MaskParams& of, int row, int column) {
      return !mask || mask[row * of.row_stride + column * of.col_stride] != std::byte{0};
    };
    const std::byte* of_pairs = start(out);
    const auto keeps = [&](int row, int column) {
      return row < p.m && column < p.n && live(of_pairs, out, row >> p.block_m, column >> p.block_n);
    };
    if constexpr (Work::kSortsRows) {
      if (params.sorts) return read_sorted(params, place, start(lhs), end);
    }
    if (thread < Work::kRowBlocks) rows[thread] = place.row(thread);
    if (thread < Work::kColumnBlocks) columns[thread] = place.column(thread);
    unsigned pairs = 0, word = 0;
    if (thread < kMostWaveStages) {
      const int row_block = lane / Work::kColumnBlocks, column_block = lane % Work::kColumnBlocks;
      const unsigned kept_pairs =
          __ballot_sync(kAllLanes, lane < Work::kPairs && keeps(place.row(row_block), place.column(column_block)));
      if (first + thread < end) {
        const std::byte *of_rows = start(lhs), *of_columns = start(rhs);
        const int k = ((first + thread) * kBlock) >> p.block_k;
        unsigned rows_live = 0, columns_live = 0;
#pragma unroll
        for (int i = 0; i < Work::kRowBlocks; ++i) {
          const int row = place.row(i);
          rows_live |= unsigned{row < p.m && live(of_rows, lhs, row >> p.block_m, k)} << i;
        }
#pragma unroll
        for (int j = 0; j < Work::kColumnBlocks; ++j) {
          const int column = place.column(j);
          columns_live |= unsigned{column < p.n && live(of_columns, rhs, column >> p.block_n, k)} << j;
        }
#pragma unroll
        for (int i = 0; i < Work::kRowBlocks; ++i) {
          if (rows_live >> i & 1) pairs |= columns_live << (i * Work::kColumnBlocks);
        }
        pairs &= kept_pairs;
      }
      word = __ballot_sync(kAllLanes, pairs != 0);
      if (lane == 0) found[thread / 32] = word;
      if (thread == 0) kept = kept_pairs;
    }
    __syncthreads();
    write_list(pairs, word);
  }

 private:
  /// Of a thread's stage: its pairs, and which of the warp's stages have any.
  __device__ void write_list(unsigned pairs, unsigned word) {
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    if (pairs != 0) {
      int position = __popc(word & ((1u << lane) - 1));
      for (int before = 0; before < thread / 32; ++before) position += __popc(found[before]);
      list[position] = static_cast<unsigned>(thread) | pairs << kFirstPair;
    }
    __syncthreads();
  }

  __device__ void read_sorted(const SmallParams& params, const WavePlace<Work>& place, const std::byte* mask,
                              int stages) {
    const MultiplyParams& p = params.direct.multiply;
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    const int count = static_cast<int>((p.m + kBlock - 1) / kBlock);
    sorted.sort(mask, params.direct.mask_lhs.row_stride, count, stages / 32);
    if (thread < Work::kRowBlocks) rows[thread] = sorted.row_of(place.tile, thread, count) * kBlock;
    if (thread < Work::kColumnBlocks) columns[thread] = place.column(thread);
    unsigned pairs = 0, word = 0;
    if (thread < kMostWaveStages) {
      unsigned inside = 0;
#pragma unroll
      for (int j = 0; j < Work::kColumnBlocks; ++j) inside |= unsigned{place.column(j) < p.n} << j;
#pragma unroll
      for (int i = 0; i < Work::kRowBlocks; ++i) {
        const int row = sorted.row_of(place.tile, i, count);
        if (thread < stages && row < count && sorted.live[row][thread / 32] >> lane & 1)
          pairs |= inside << (i * Work::kColumnBlocks);
      }
      word = __ballot_sync(kAllLanes, pairs != 0);
      if (lane == 0) found[thread / 32] = word;
    }
    __syncthreads();
    write_list(pairs, word);
  }
};

}  // namespace maskmm::cuda::sm90
