// Sums out of the registers: mask_out, the result's type, edges and strides; or partial sums where k is split.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/schedule.cuh"

namespace maskmm::cuda {

__device__ inline void convert(float value, __half& to) { to = __float2half_rn(value); }
__device__ inline void convert(float value, __nv_bfloat16& to) { to = __float2bfloat16_rn(value); }
__device__ inline void convert(float value, float& to) { to = value; }
__device__ inline void convert(double value, double& to) { to = value; }
__device__ inline void convert(double value, float& to) { to = __double2float_rn(value); }
__device__ inline void convert(double value, __half& to) { to = __double2half(value); }
__device__ inline void convert(double value, __nv_bfloat16& to) { to = __double2bfloat16(value); }

/// Writes `kCount` neighbours of one row; those from `count` on lie outside the matrix.
template <class Element, int kCount>
__device__ inline void write_row(const Result& out, std::byte* at, const Element (&elements)[kCount], int count) {
  static_assert(kCount * sizeof(Element) <= 16);
  using Vector = std::conditional_t<kCount * sizeof(Element) == 16, uint4,
                                    std::conditional_t<kCount * sizeof(Element) == 8, uint2, unsigned>>;
  static_assert(sizeof(Vector) == sizeof elements);
  if (out.vectors && count >= kCount) {
    Vector vector;
    memcpy(&vector, elements, sizeof vector);
    *reinterpret_cast<Vector*>(at) = vector;
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    if (i >= count) break;
    if (out.aligned) {
      *reinterpret_cast<Element*>(at) = elements[i];
    } else {
      memcpy(at, &elements[i], sizeof(Element));
    }
    at += out.col_stride;
  }
}

/// Where one tile of sums goes. Rows and columns are those of the tile.
///
/// Split k: a square without a live triple is written as -0, which no sum of live products is (they start from +0), so
/// that the reduction can tell it from a sum that happens to be zero.
template <class Element, class Accumulator>
struct Epilogue {
  const MultiplyParams& params;
  std::byte* out;
  Accumulator* partial;
  const Accumulator* scales;  // of mask_out, row 0 of the matrix; null: 1
  std::int64_t row, column;   // of the tile in the matrix

  __device__ Epilogue(const MultiplyParams& params_, const Tile& tile)
      : params(params_), row(tile.row), column(tile.column) {
    out = params.out.data + batch_offset(params.batch, params.out.batch, tile.batch) + row * params.out.row_stride +
          column * params.out.col_stride;
    partial = static_cast<Accumulator*>(params.partial);
    if (partial) {
      partial += ((tile.split * params.batch_size + tile.batch) * params.m + row) * params.n + column;
    }
    scales = static_cast<const Accumulator*>(params.scale_out.values);
    if (scales) scales += tile.batch * params.scale_out.values_per_batch;
  }

  __device__ bool is_split() const { return partial != nullptr; }

  /// mask_out's value for the square at (i, j).
  __device__ Accumulator scale(int i, int j) const {
    if (scales == nullptr || row + i >= params.m || column + j >= params.n) return Accumulator(1);
    return scales[((row + i) >> params.block_m) * params.scale_out.values_per_row + ((column + j) >> params.block_n)];
  }

  __device__ Accumulator finish(Accumulator sum, bool live, Accumulator scale) const {
    if (is_split()) return live ? sum + Accumulator(0) : -Accumulator(0);
    return live ? (scales ? sum * scale : sum) : Accumulator(0);
  }

  /// Whether rows i to i + rows - 1 and columns j to j + columns - 1 need neither scales nor edges nor partial sums.
  __device__ bool is_plain(int i, int j, int rows, int columns) const {
    return !is_split() && scales == nullptr && params.out.vectors && row + i + rows <= params.m &&
           column + j + columns <= params.n;
  }

  __device__ int columns_left(int j) const {
    const std::int64_t left = params.n - column - j;
    return left > 16 ? 16 : left < 0 ? 0 : static_cast<int>(left);
  }

  __device__ bool has_row(int i) const { return row + i < params.m; }

  /// Finished values of row i from column j on.
  template <int kCount>
  __device__ void write(int i, int j, const Accumulator (&values)[kCount]) const {
    if (!has_row(i)) return;
    const int count = columns_left(j);
    if (is_split()) {
      Accumulator* to = partial + i * params.n + j;
#pragma unroll
      for (int c = 0; c < kCount; ++c) {
        if (c < count) to[c] = values[c];
      }
      return;
    }
    Element elements[kCount];
#pragma unroll
    for (int c = 0; c < kCount; ++c) convert(values[c], elements[c]);
    write_row(params.out, out + i * params.out.row_stride + j * params.out.col_stride, elements, count);
  }
};

/// A tile without a live triple, by the first kThreads threads of the block.
template <class Element, int kRows, int kColumns, int kThreads>
__device__ void write_zeros(const MultiplyParams& params, const Tile& tile) {
  const Result& to = params.out;
  std::byte* out = to.data + batch_offset(params.batch, to.batch, tile.batch) + tile.row * to.row_stride +
                   tile.column * to.col_stride;
  const int rows = static_cast<int>(smaller(params.m - tile.row, kRows));
  const int columns = static_cast<int>(smaller(params.n - tile.column, kColumns));
  if (to.vectors && columns == kColumns) {
    constexpr int kVectors = kColumns * int(sizeof(Element)) / 16;
    for (int i = threadIdx.x; i < rows * kVectors; i += kThreads) {
      *reinterpret_cast<uint4*>(out + i / kVectors * to.row_stride + i % kVectors * 16) = make_uint4(0, 0, 0, 0);
    }
    return;
  }
  const Element zero[1] = {Element(0.0f)};
  for (int i = threadIdx.x; i < rows * kColumns; i += kThreads) {
    const int row = i / kColumns, column = i % kColumns;
    if (column >= columns) continue;
    std::byte* at = out + row * to.row_stride + column * to.col_stride;
    if (to.aligned) {
      *reinterpret_cast<Element*>(at) = zero[0];
    } else {
      memcpy(at, zero, sizeof(Element));
    }
  }
}

}  // namespace maskmm::cuda
