// Elements of any type and stride <-> rows of the type that the sums run in.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/kernels/kernel_set.hpp"
#include "maskmm/dtype.hpp"

namespace maskmm::cpu {

/// Those of a kernel set that sum in T.
template <class T>
const Kernels<T>& kernels_of(const KernelSet& set) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return set.f32;
  } else {
    return set.f64;
  }
}

/// A rectangle of an operand.
struct Source {
  const std::byte* data;  // element (0, 0)
  Dtype dtype;
  Dtype promoted;  // integers are rounded to this type first
  std::int64_t row_stride_bytes;
  std::int64_t col_stride_bytes;

  Source at(std::int64_t row, std::int64_t column) const {
    return {data + row * row_stride_bytes + column * col_stride_bytes, dtype, promoted, row_stride_bytes,
            col_stride_bytes};
  }
};

/// to[i * ldt + j] = element (i, j) as T for i < rows, j < columns; zero for columns <= j < padded_columns.
template <class T>
void pack(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, T* to, std::int64_t ldt,
          std::int64_t padded_columns);

/// Pairs of bfloat16, for the sets that multiply them: to[i * ldt + j] = elements (i, 2 j) and (i, 2 j + 1), the first
/// in the low half, for i < rows, 2 j < columns; zero in place of what is outside.
void pack_pairs_of_columns(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, float* to,
                           std::int64_t ldt);

/// to[i * ldt + j] = elements (2 i, j) and (2 i + 1, j) for 2 i < rows, j < columns; zero up to padded_columns.
void pack_pairs_of_rows(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, float* to,
                        std::int64_t ldt, std::int64_t padded_columns);

/// Where results go: an operand that is written.
struct Target {
  std::byte* data;
  Dtype dtype;
  std::int64_t row_stride_bytes;
  std::int64_t col_stride_bytes;
};

/// element (i, j) = from[i * ldf + j], rounded once to the type of the target.
template <class T>
void unpack(const KernelSet& set, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns,
            const Target& to);

/// Whether what is written stays in the caches, or goes to memory past them, unordered until `order_stores`.
enum class Store { cached, streamed };

/// element (i, j) = +0.
void clear(const Target& to, std::int64_t rows, std::int64_t columns, Store store);

/// Streamed stores of this thread become visible before what it writes afterwards.
void order_stores();

}  // namespace maskmm::cpu
