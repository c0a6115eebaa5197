// Pairs of bfloat16 along k. They travel as 32 bits in arrays of float and are never computed with here.
#include <algorithm>
#include <cstring>

#include "core/block_grid.hpp"
#include "core/mask_value.hpp"
#include "cpu/pack.hpp"

namespace maskmm::cpu {
namespace {

using core::ceil_div;
using core::load_unaligned;

constexpr std::int64_t kSquare = 64;  // pairs of a square that is transposed through the first-level cache

Source transposed(const Source& from) {
  return {from.data, from.dtype, from.promoted, from.col_stride_bytes, from.row_stride_bytes};
}

/// Any strides: `k` elements along `k_stride_bytes` -> pairs, `to_stride` apart.
void pack_line(const std::byte* from, std::int64_t k_stride_bytes, std::int64_t k, float* to, std::int64_t to_stride) {
  for (std::int64_t i = 0; i < k; i += 2, to += to_stride) {
    std::uint16_t pair[2] = {load_unaligned<std::uint16_t>(from + i * k_stride_bytes), 0};
    if (i + 1 < k) pair[1] = load_unaligned<std::uint16_t>(from + (i + 1) * k_stride_bytes);
    std::memcpy(to, pair, sizeof pair);
  }
}

/// k is contiguous: rows are copied.
void copy_pairs(const Source& from, std::int64_t rows, std::int64_t columns, float* to, std::int64_t ldt) {
  const std::size_t whole = static_cast<std::size_t>(columns / 2);
  for (std::int64_t i = 0; i < rows; ++i, to += ldt) {
    const std::byte* row = from.data + i * from.row_stride_bytes;
    std::memcpy(to, row, whole * sizeof(float));
    if (columns % 2 != 0) {
      const std::uint16_t last[2] = {load_unaligned<std::uint16_t>(row + (columns - 1) * 2), 0};
      std::memcpy(to + whole, last, sizeof last);
    }
  }
}

/// Calls pack_square(i0, rows, j0, columns, square) for squares of pairs and transposes them into `to`.
template <class PackSquare>
void transpose_squares(const KernelSet& set, std::int64_t rows, std::int64_t columns, float* to, std::int64_t ldt,
                       PackSquare pack_square) {
  alignas(64) float square[kSquare * kSquare];
  for (std::int64_t j0 = 0; j0 < columns; j0 += kSquare) {
    const std::int64_t js = std::min(kSquare, columns - j0);
    for (std::int64_t i0 = 0; i0 < rows; i0 += kSquare) {
      const std::int64_t is = std::min(kSquare, rows - i0);
      pack_square(i0, is, j0, js, square);
      set.bfloat16_pairs->transpose(square, kSquare, js, is, to + i0 * ldt + j0, ldt);
    }
  }
}

}  // namespace

void pack_pairs_of_columns(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, float* to,
                           std::int64_t ldt) {
  if (from.col_stride_bytes == 2 || columns == 1) {
    copy_pairs(from, rows, columns, to, ldt);
  } else if (from.row_stride_bytes == 2) {
    transpose_squares(
        set, rows, ceil_div(columns, 2), to, ldt,
        [&](std::int64_t i0, std::int64_t is, std::int64_t j0, std::int64_t js, float* square) {
          const std::int64_t k = std::min(2 * js, columns - 2 * j0);
          set.bfloat16_pairs->copy_panel({from.at(i0, 2 * j0).data, from.col_stride_bytes, k, is, square, kSquare});
        });
  } else {
    for (std::int64_t i = 0; i < rows; ++i)
      pack_line(from.at(i, 0).data, from.col_stride_bytes, columns, to + i * ldt, 1);
  }
}

void pack_pairs_of_rows(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, float* to,
                        std::int64_t ldt, std::int64_t padded_columns) {
  const std::int64_t pairs = ceil_div(rows, 2);
  if (from.row_stride_bytes == 2 || rows == 1) {
    transpose_squares(set, pairs, columns, to, ldt,
                      [&](std::int64_t i0, std::int64_t is, std::int64_t j0, std::int64_t js, float* square) {
                        const std::int64_t k = std::min(2 * is, rows - 2 * i0);
                        copy_pairs(transposed(from.at(2 * i0, j0)), js, k, square, kSquare);
                      });
  } else {
    for (std::int64_t j = 0; j < columns; ++j) pack_line(from.at(0, j).data, from.row_stride_bytes, rows, to + j, ldt);
  }
  if (padded_columns > columns) {
    for (std::int64_t i = 0; i < pairs; ++i) std::fill(to + i * ldt + columns, to + i * ldt + padded_columns, 0.0F);
  }
}

}  // namespace maskmm::cpu
