// The end of a tile of a block_masked_dot: the sums of each live square of 16 x 16, times x, become one number. No
// square is shared by two tiles, so nothing is added up in memory: reduce_squares (live.cu) sums each block's squares,
// and the parts of a split k, in their order.
//
// A Multiply says which of a warp's sums a lane holds: kPerSquare of each square, sum(i, j, e) in row(i, e) and
// column(j, e) of the tile.
#pragma once

#include "cuda/load.cuh"
#include "cuda/schedule.cuh"

namespace maskmm::cuda {

template <class Multiply>
struct DotEpilogue {
  using Element = typename Multiply::Element;
  using Accumulator = typename Multiply::Accumulator;
  static constexpr int kI = Multiply::kI, kJ = Multiply::kJ, kPerSquare = Multiply::kPerSquare;

  __device__ static void store(const Multiply& multiply, const MultiplyParams& params, const Tile& tile,
                               unsigned live) {
    const DotEpilogue epilogue(params, tile);
    if (params.x.reading == DotX::Reading::accumulator) {
      epilogue.template plain<Accumulator>(multiply, live);
    } else if (params.x.reading == DotX::Reading::element) {
      epilogue.template plain<Element>(multiply, live);
    } else {
      epilogue.any(multiply, live);
    }
  }

 private:
  __device__ DotEpilogue(const MultiplyParams& params, const Tile& tile)
      : params_(params),
        rows_left_(params.m - tile.row),
        columns_left_(params.n - tile.column),
        x_(params.x.data + batch_offset(params.batch, params.x.batch, tile.batch) + tile.row * params.x.row_stride +
           tile.column * params.x.col_stride) {
    const std::int64_t squares_down = (params.m + 15) / 16;
    squares_across_ = (params.n + 15) / 16;
    squares_ = static_cast<Accumulator*>(params.partial) +
               ((tile.split * params.batch_size + tile.batch) * squares_down + tile.row / 16) * squares_across_ +
               tile.column / 16;
  }

  /// Neighbours in a row of x are neighbours in memory, and aligned.
  template <class X>
  __device__ void plain(const Multiply& multiply, unsigned live) const {
#pragma unroll
    for (int i = 0; i < kI; ++i) {
#pragma unroll
      for (int j = 0; j < kJ; ++j) {
        const bool is_live = live >> (i * kJ + j) & 1;
        Accumulator part = 0;
        if (is_live) {
#pragma unroll
          for (int e = 0; e < kPerSquare; ++e) {
            const int row = multiply.row(i, e), column = multiply.column(j, e);
            if (row >= rows_left_ || column >= columns_left_) continue;
            const X* const x = reinterpret_cast<const X*>(x_ + row * params_.x.row_stride) + column;
            part += static_cast<Accumulator>(*x) * multiply.sum(i, j, e);
          }
        }
        write(multiply, i, j, part, is_live);
      }
    }
  }

  /// Any type and strides: one place that converts, so sums are picked out of the registers by comparing.
  __device__ void any(const Multiply& multiply, unsigned live) const {
#pragma unroll 1
    for (int square = 0; square < kI * kJ; ++square) {
      const int i = square / kJ, j = square % kJ;
      const bool is_live = live >> square & 1;
      Accumulator part = 0;
#pragma unroll 1
      for (int e = 0; is_live && e < kPerSquare; ++e) {
        const int row = multiply.row(i, e), column = multiply.column(j, e);
        if (row >= rows_left_ || column >= columns_left_) continue;
        Accumulator sum = 0;
#pragma unroll
        for (int other = 0; other < kI * kJ * kPerSquare; ++other) {
          if (other == square * kPerSquare + e) {
            sum = multiply.sum(other / kPerSquare / kJ, other / kPerSquare % kJ, other % kPerSquare);
          }
        }
        part += convert_x(x_ + row * params_.x.row_stride + column * params_.x.col_stride) * sum;
      }
      write(multiply, i, j, part, is_live);
    }
  }

  /// Integers become the operands' type first.
  __device__ Accumulator convert_x(const std::byte* x) const {
    const bool floats = params_.x.dtype >= Dtype::float16;
    if (floats) return core::element_as<Accumulator>(x, params_.x.dtype);
    return static_cast<Accumulator>(load_element<Element>(x, params_.x.dtype));
  }

  /// Sums over the warp. A dead square is -0, which no live one is, so that a dead block can be told from a zero.
  __device__ void write(const Multiply& multiply, int i, int j, Accumulator part, bool is_live) const {
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) part += __shfl_xor_sync(kAllLanes, part, lanes);
    const int row = multiply.square_row(i), column = multiply.square_column(j);
    if (threadIdx.x % 32 != 0 || row >= rows_left_ || column >= columns_left_) return;
    squares_[row / 16 * squares_across_ + column / 16] = is_live ? part + Accumulator(0) : -Accumulator(0);
  }

  const MultiplyParams& params_;
  std::int64_t rows_left_, columns_left_, squares_across_;
  const std::byte* x_;
  Accumulator* squares_;
};

}  // namespace maskmm::cuda
