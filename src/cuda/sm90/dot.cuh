// What becomes of a tile's sums in a block_masked_dot: times x, one number for each square of 16 x 16, as cuda/dot.cuh
// has them. x comes through the ring behind the tile's operands: half of a tile is a stage.
#pragma once

#include "cuda/epilogue.cuh"
#include "cuda/sm90/config.hpp"
#include "cuda/sm90/ptx.cuh"
#include "cuda/sm90/stage.cuh"

namespace maskmm::cuda::sm90 {

/// A warpgroup's 64 rows by 256 columns. Which sums a thread holds: see Writer in store.cuh.
template <class Config>
struct Dot {
  using Element = typename Config::Element;
  static constexpr int kSquares = 8;  // of a warp in half a tile, side by side

  const MultiplyParams& params;
  const int group;
  const int row, column, matrix;  // of the warpgroup's part: as in StageState

  /// A stage of x: half of the tile. `started`: the columns of blocks that hold sums.
  __device__ void multiply(const float (&sums)[128], std::uint32_t slice, unsigned started, bool right) const {
    if (right) {
      half<1>(sums, slice, started);
    } else {
      half<0>(sums, slice, started);
    }
  }

  /// Where no block is live.
  __device__ void write_dead() const { write(lane(), lane() < 2 * kSquares, -0.f); }

 private:
  static __device__ int lane() { return static_cast<int>(threadIdx.x) % 32; }
  static __device__ int warp() { return static_cast<int>(threadIdx.x) % 128 / 32; }

  template <int kHalf>
  __device__ void half(const float (&sums)[128], std::uint32_t slice, unsigned started) const {
    const unsigned meant[2] = {eights(0, started), eights(1, started)};
    float squares[kSquares];
    if (params.x.col_stride == sizeof(Element)) {
      products<kHalf, Layout::k_major>(sums, slice, meant, squares);
    } else {
      products<kHalf, Layout::line_major>(sums, slice, meant, squares);
    }
    const float sum = sum_over_warp(squares);
    const int square = kHalf * kSquares + lane() / 4;
    write(square, lane() % 4 == 0, started >> (square / 4) & 1 ? sum + 0.f : -0.f);
  }

  /// The eights of columns, as bits, in which eight rows of this warp are live and lie in the matrix, which ends with
  /// whole eights.
  __device__ unsigned eights(int row_eight, unsigned started) const {
    const int left = max(static_cast<int>(params.n) - column, 0) / 8;
    unsigned live = 0;
#pragma unroll
    for (int c = 0; c < kColumnBlocks; ++c) live |= started >> c & 1 ? 0xffu << (8 * c) : 0;
    if (row + 16 * warp() + 8 * row_eight >= params.m) live = 0;
    return left < 32 ? live & ((1u << left) - 1) : live;
  }

  /// Two elements of x times their sums. A sum that is not meant may be a NaN.
  static __device__ float product(unsigned x, float low, float high, unsigned meant) {
    Element pair[2];
    memcpy(pair, &x, sizeof pair);
    const float sum = static_cast<float>(pair[0]) * low + static_cast<float>(pair[1]) * high;
    return meant & 1 ? sum : 0.f;
  }

  /// A lane has four pairs of elements of each square: h + 2 o is rows 8 h, columns 8 o.
  template <int kHalf, Layout kX>
  __device__ void products(const float (&sums)[128], std::uint32_t slice, const unsigned (&meant)[2],
                           float (&squares)[kSquares]) const {
    const int h = lane() / 8 % 2, o = lane() / 16,
              line = lane() % 8;  // of the eight that this lane gives the address of
#pragma unroll
    for (int i = 0; i < kSquares; ++i) {
      const int c = 2 * kHalf + i / 4, s = i % 4;
      const std::uint32_t block = Ring<Config>::x(slice, group, c);
      const int row_of_block = kX == Layout::k_major ? 16 * warp() + 8 * h : 16 * s + 8 * o;
      const int chunk = kX == Layout::k_major ? 2 * s + o : 2 * warp() + h;
      unsigned words[4];
      ptx::load_matrices<kX>(words, block + (row_of_block + line) * 128 + ((chunk ^ line) << 4));
      float sum = 0;
#pragma unroll
      for (int w = 0; w < 4; ++w) {
        const int at = 32 * c + 8 * s + 2 * w;
        sum += product(words[w], sums[at], sums[at + 1], meant[w % 2] >> (8 * c + 2 * s + w / 2));
      }
      squares[i] = sum;
    }
  }

  /// Each lane gets the sum of square lane / 4.
  static __device__ float sum_over_warp(float (&squares)[kSquares]) {
#pragma unroll
    for (int count = kSquares / 2, bit = 16; count > 0; count /= 2, bit /= 2) {
      const bool upper = lane() & bit;
#pragma unroll
      for (int i = 0; i < count; ++i) {
        const float given = upper ? squares[i] : squares[i + count], kept = upper ? squares[i + count] : squares[i];
        squares[i] = kept + __shfl_xor_sync(kAllLanes, given, bit);
      }
    }
    squares[0] += __shfl_xor_sync(kAllLanes, squares[0], 2);
    return squares[0] + __shfl_xor_sync(kAllLanes, squares[0], 1);
  }

  /// A dead square is -0: see cuda/dot.cuh.
  __device__ void write(int square, bool writes, float sum) const {
    const int at_row = row + 16 * warp(), at_column = column + 16 * square;
    if (!writes || at_row >= params.m || at_column >= params.n) return;
    const std::int64_t across = (params.n + 15) / 16, down = (params.m + 15) / 16;
    const int splits = static_cast<int>(params.schedule.splits), batch = matrix / splits;
    auto* to = static_cast<float*>(params.partial) +
               (std::int64_t{matrix - batch * splits} * params.batch_size + batch) * down * across;
    to[at_row / 16 * across + at_column / 16] = sum;
  }
};

}  // namespace maskmm::cuda::sm90
