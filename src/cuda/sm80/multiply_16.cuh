// float16 and bfloat16 on tensor cores, m16n8k16, float32 sums. A square of 16 x 16 of the result by 16 of k is the least
// that is multiplied or skipped, so blocks from 16 up are exact.
#pragma once

#include "cuda/kernel.cuh"
#include "cuda/scale.cuh"
#include "cuda/sm80/ptx.cuh"

namespace maskmm::cuda::sm80 {

/// Where a warp's fragments of one operand lie in a stage. Only bits 4 to 6 of an address are swizzled, and stages are
/// aligned, so the exclusive or may come after the sum: all but `first` is the same in every lane.
struct FragmentPlace {
  std::uint32_t first;
  bool k_major;
  int pitch;

  /// Bits of the lane's number say which half of the 16 lines and which half of the 16 k its row address is in.
  __device__ FragmentPlace(bool k_major_, int kLines, int first_line, int line_half, int k_half)
      : k_major(k_major_), pitch(kLines * 2) {
    const int rest = threadIdx.x % 8;
    first = k_major ? (first_line + 8 * line_half + rest) * kStageKBytes + ((k_half ^ rest) << 4)
                    : (8 * k_half + rest) * pitch + ((first_line / 8 + line_half ^ rest) << 4);
  }
  /// Fragment i (16 lines) of slice s (16 of k).
  __device__ std::uint32_t at(std::uint32_t stage, int i, int s) const {
    const int swizzled = k_major ? s : i;
    return (stage + first ^ swizzled * 32) + (k_major ? i * 16 * kStageKBytes : s * 16 * pitch);
  }
};

template <class Element_, class Shape_, Masks kMasks_>
struct Multiply16 {
  using Element = Element_;
  using Shape = Shape_;
  using Accumulator = float;
  static constexpr Masks kMasks = kMasks_;
  static constexpr int kI = Shape::kWarpRows, kJ = Shape::kWarpColumns;
  static constexpr int kSlices = kStageKBytes / 2 / 16;
  static constexpr unsigned kFullSlice = (1u << (kI * kJ)) - 1;
  using Sums = float[kI][2 * kJ][4];

  __device__ Multiply16(const MultiplyParams& params, int warp_row, int warp_column)
      : warp_row_(warp_row),
        warp_column_(warp_column),
        a_(params.a.k_major, Shape::kRows, warp_row, threadIdx.x / 8 % 2,
           threadIdx.x / 16 % 2),
        b_(params.b.k_major, Shape::kColumns, warp_column, threadIdx.x / 16 % 2, threadIdx.x / 8 % 2) {}

  __device__ void clear() {
    clear(sums_);
    if constexpr (kMasks == Masks::scaling) clear(block_sums_);
  }

  __device__ void stage(const MultiplyParams& params, const StageView& stage) {
#pragma unroll 1
    for (int s = 0; s < kSlices; ++s) {
      const unsigned pairs = static_cast<unsigned>(stage.pairs >> (16 * s)) & 0xffffu;
      if (pairs == 0) continue;
      if constexpr (kMasks == Masks::choosing) {
        slice(stage, s, pairs, sums_);
      } else {
        slice(stage, s, pairs, block_sums_);
        if (ends_part(params, s)) flush(params, stage, s, pairs);
      }
    }
  }

  __device__ void store(const MultiplyParams& params, const Tile& tile, unsigned live) const {
    const Epilogue<Element, float> epilogue(params, tile);
    const int row = warp_row_ + threadIdx.x % 32 / 4;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int pair = 0; pair < kJ; pair += 2) {
        const int column = warp_column_ + pair * 16;
        const bool live0 = (live >> (i * kJ + pair)) & 1, live1 = (live >> (i * kJ + pair + 1)) & 1;
        const float scale0 = epilogue.scale(warp_row_ + i * 16, column);
        const float scale1 = epilogue.scale(warp_row_ + i * 16, column + 16);
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          float values[4][2];
#pragma unroll
          for (int f = 0; f < 4; ++f) {
#pragma unroll
            for (int c = 0; c < 2; ++c) {
              values[f][c] = epilogue.finish(sums_[i][2 * pair + f][2 * half + c], f < 2 ? live0 : live1,
                                             f < 2 ? scale0 : scale1);
            }
          }
          store_32_columns(epilogue, row + i * 16 + half * 8, column, values);
        }
      }
    }
  }

 private:
  static_assert(kJ % 2 == 0, "a row is stored 32 columns at a time");

  static __device__ void clear(Sums& sums) {
#pragma unroll
    for (auto& row : sums) {
#pragma unroll
      for (auto& fragment : row) {
#pragma unroll
        for (float& sum : fragment) sum = 0;
      }
    }
  }

  static __device__ bool ends_part(const MultiplyParams& params, int s) {
    return ((s + 1) * 16 & ((1 << params.block_k) - 1)) == 0 || s == kSlices - 1;
  }

  /// 16 elements of k.
  __device__ void slice(const StageView& stage, int s, unsigned pairs, Sums& sums) const {
    unsigned a[kI][4], b[kJ][4];
#pragma unroll
    for (int i = 0; i < kI; ++i) ptx::load_matrices(a[i], a_.at(stage.a, i, s), !a_.k_major);
#pragma unroll
    for (int j = 0; j < kJ; ++j) ptx::load_matrices(b[j], b_.at(stage.b, j, s), !b_.k_major);
    if (pairs == kFullSlice) {
#pragma unroll
      for (int i = 0; i < kI; ++i) {
#pragma unroll
        for (int j = 0; j < kJ; ++j) square(sums, a[i], b[j], i, j, 1);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kI; ++i) {
#pragma unroll
        for (int j = 0; j < kJ; ++j) square(sums, a[i], b[j], i, j, pairs & 1u << (i * kJ + j));
      }
    }
  }

  static __device__ void square(Sums& sums, const unsigned (&a)[4], const unsigned (&b)[4], int i, int j,
                                unsigned live) {
    ptx::multiply_16x8x16<Element>(sums[i][2 * j], a, b[0], b[1], live);
    ptx::multiply_16x8x16<Element>(sums[i][2 * j + 1], a, b[2], b[3], live);
  }

  __device__ void flush(const MultiplyParams& params, const StageView& stage, int s, unsigned pairs) {
    const int part = s * 16 >> params.block_k;
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        if (!(pairs >> (i * kJ + j) & 1)) continue;
        const PairScale<float> scale(params, stage.scales, part, (warp_row_ + i * 16) >> params.block_m,
                                     (warp_column_ + j * 16) >> params.block_n);
        const bool plain = scale.is_plain();
#pragma unroll
        for (int f = 2 * j; f < 2 * j + 2; ++f) {
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            scale.add(sums_[i][f][c], block_sums_[i][f][c], plain);
            block_sums_[i][f][c] = 0;
          }
        }
      }
    }
  }

  /// Four fragments of a row. The four lanes of a row change pairs of columns for 8 neighbouring columns each.
  __device__ void store_32_columns(const Epilogue<Element, float>& epilogue, int row, int column,
                                   const float (&values)[4][2]) const {
    const int t = threadIdx.x % 4;
    if (epilogue.is_split()) {
#pragma unroll
      for (int f = 0; f < 4; ++f) epilogue.write(row, column + f * 8 + t * 2, values[f]);
      return;
    }
    unsigned words[4];
#pragma unroll
    for (int f = 0; f < 4; ++f) {
      Element pair[2];
      convert(values[f][0], pair[0]);
      convert(values[f][1], pair[1]);
      memcpy(&words[f], pair, 4);
    }
    exchange(words[0], words[1], 1);
    exchange(words[2], words[3], 1);
    exchange(words[0], words[2], 2);
    exchange(words[1], words[3], 2);
    Element elements[8];
    memcpy(elements, words, 16);
    if (!epilogue.has_row(row)) return;
    const int first = column + t * 8;
    write_row(epilogue.params.out,
              epilogue.out + row * epilogue.params.out.row_stride + first * epilogue.params.out.col_stride, elements,
              epilogue.columns_left(first));
  }

  /// Lanes that differ in `bit`: the lower one's `high` changes places with the upper one's `low`.
  static __device__ void exchange(unsigned& low, unsigned& high, int bit) {
    const bool upper = threadIdx.x & bit;
    const unsigned received = __shfl_xor_sync(kAllLanes, upper ? low : high, bit);
    (upper ? low : high) = received;
  }

  int warp_row_, warp_column_;
  FragmentPlace a_, b_;
  Sums sums_;
  std::conditional_t<kMasks == Masks::scaling, Sums, char> block_sums_;
};

}  // namespace maskmm::cuda::sm80
