#include "cpu/pack.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "core/mask_value.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace maskmm::cpu {
namespace {

using core::load_unaligned;

/// Rows of neighbouring elements -> T, where a kernel set has fast code for the type. False: it has none.
template <class T>
bool widen_rows(const KernelSet& set, Dtype dtype, const std::byte* from, std::int64_t stride_bytes, std::int64_t rows,
                std::int64_t columns, T* to, std::int64_t ldt) {
  if (dtype == dtype_of<T>) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(to + i * ldt, from + i * stride_bytes, static_cast<std::size_t>(columns) * sizeof(T));
    }
    return true;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (dtype == Dtype::float16) {
      set.widen_float16(from, stride_bytes, rows, columns, to, ldt);
      return true;
    }
    if (dtype == Dtype::bfloat16) {
      set.widen_bfloat16(from, stride_bytes, rows, columns, to, ldt);
      return true;
    }
  }
  return false;
}

/// Calls f with a value of the C++ type that stores `dtype`.
template <class F>
void with_storage(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::bool_:
      return f(bool{});
    case Dtype::uint8:
      return f(std::uint8_t{});
    case Dtype::int8:
      return f(std::int8_t{});
    case Dtype::uint16:
      return f(std::uint16_t{});
    case Dtype::int16:
      return f(std::int16_t{});
    case Dtype::uint32:
      return f(std::uint32_t{});
    case Dtype::int32:
      return f(std::int32_t{});
    case Dtype::uint64:
      return f(std::uint64_t{});
    case Dtype::int64:
      return f(std::int64_t{});
    case Dtype::float16:
      return f(float16_t{});
    case Dtype::bfloat16:
      return f(bfloat16_t{});
    case Dtype::float32:
      return f(float{});
    default:
      return f(double{});
  }
}

template <class T, class Stored>
T value_at(const std::byte* from, Dtype promoted) {
  if constexpr (std::is_same_v<Stored, float16_t> || std::is_same_v<Stored, bfloat16_t>) {
    return static_cast<T>(static_cast<float>(load_unaligned<Stored>(from)));
  } else if constexpr (std::is_floating_point_v<Stored>) {
    return static_cast<T>(load_unaligned<Stored>(from));
  } else {
    T value;
    if constexpr (std::is_same_v<Stored, bool>) {
      value = load_unaligned<std::uint8_t>(from) != 0 ? T(1) : T(0);
    } else {
      value = static_cast<T>(load_unaligned<Stored>(from));
    }
    if (promoted == Dtype::float16) return static_cast<T>(static_cast<float>(float16_t(static_cast<float>(value))));
    if (promoted == Dtype::bfloat16) return static_cast<T>(static_cast<float>(bfloat16_t(static_cast<float>(value))));
    return value;
  }
}

/// Any type, any strides.
template <class T>
void pack_strided(const Source& from, std::int64_t rows, std::int64_t columns, T* to, std::int64_t ldt) {
  with_storage(from.dtype, [&](auto stored) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const std::byte* element = from.data + i * from.row_stride_bytes;
      for (std::int64_t j = 0; j < columns; ++j, element += from.col_stride_bytes) {
        to[i * ldt + j] = value_at<T, decltype(stored)>(element, from.promoted);
      }
    }
  });
}

/// Columns are contiguous: widens squares column by column, then transposes. False: no fast code for the type.
template <class T>
bool pack_transposed(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, T* to,
                     std::int64_t ldt) {
  const auto transpose = kernels_of<T>(set).transpose;
  const std::uintptr_t misaligned = reinterpret_cast<std::uintptr_t>(from.data) % alignof(T);
  if (from.dtype == dtype_of<T> && misaligned == 0 &&
      from.col_stride_bytes % static_cast<std::int64_t>(sizeof(T)) == 0) {
    transpose(reinterpret_cast<const T*>(from.data), from.col_stride_bytes / static_cast<std::int64_t>(sizeof(T)),
              columns, rows, to, ldt);
    return true;
  }
  constexpr std::int64_t kSquare = 64;
  alignas(64) T square[kSquare * kSquare];
  for (std::int64_t j0 = 0; j0 < columns; j0 += kSquare) {
    const std::int64_t js = std::min(kSquare, columns - j0);
    for (std::int64_t i0 = 0; i0 < rows; i0 += kSquare) {
      const std::int64_t is = std::min(kSquare, rows - i0);
      if (!widen_rows<T>(set, from.dtype, from.at(i0, j0).data, from.col_stride_bytes, js, is, square, kSquare)) {
        return false;
      }
      transpose(square, kSquare, js, is, to + i0 * ldt + j0, ldt);
    }
  }
  return true;
}

/// Rows of T -> 16-bit elements, or a copy. False: another type.
template <class T>
bool narrow_rows(const KernelSet& set, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns,
                 std::byte* to, Dtype dtype, std::int64_t stride_bytes) {
  if (dtype == dtype_of<T>) {
    for (std::int64_t i = 0; i < rows; ++i) {
      std::memcpy(to + i * stride_bytes, from + i * ldf, static_cast<std::size_t>(columns) * sizeof(T));
    }
    return true;
  }
  if constexpr (std::is_same_v<T, float>) {
    if (dtype == Dtype::float16 || dtype == Dtype::bfloat16) {
      const auto narrow = dtype == Dtype::float16 ? set.narrow_float16 : set.narrow_bfloat16;
      narrow(from, ldf, rows, columns, to, stride_bytes);
      return true;
    }
  }
  return false;
}

/// Rows of the target are contiguous downwards: squares are transposed. False: no fast code for the type.
template <class T>
bool unpack_transposed(const KernelSet& set, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns,
                       const Target& to) {
  constexpr std::int64_t kSquare = 64;
  alignas(64) T square[kSquare * kSquare];
  for (std::int64_t i0 = 0; i0 < rows; i0 += kSquare) {
    const std::int64_t is = std::min(kSquare, rows - i0);
    for (std::int64_t j0 = 0; j0 < columns; j0 += kSquare) {
      const std::int64_t js = std::min(kSquare, columns - j0);
      kernels_of<T>(set).transpose(from + i0 * ldf + j0, ldf, is, js, square, kSquare);
      std::byte* at = to.data + i0 * to.row_stride_bytes + j0 * to.col_stride_bytes;
      if (!narrow_rows(set, square, kSquare, js, is, at, to.dtype, to.col_stride_bytes)) return false;
    }
  }
  return true;
}

template <class Stored, class T>
Stored round_to(T value) {
  if constexpr (std::is_same_v<Stored, float16_t> || std::is_same_v<Stored, bfloat16_t>) {
    return Stored(static_cast<float>(value));
  } else {
    return static_cast<Stored>(value);
  }
}

}  // namespace

template <class T>
void pack(const KernelSet& set, const Source& from, std::int64_t rows, std::int64_t columns, T* to, std::int64_t ldt,
          std::int64_t padded_columns) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(from.dtype));
  bool done = false;
  if (from.col_stride_bytes == size || columns == 1) {
    done = widen_rows<T>(set, from.dtype, from.data, from.row_stride_bytes, rows, columns, to, ldt);
  } else if (from.row_stride_bytes == size) {
    done = pack_transposed<T>(set, from, rows, columns, to, ldt);
  }
  if (!done) pack_strided<T>(from, rows, columns, to, ldt);
  if (padded_columns > columns) {
    for (std::int64_t i = 0; i < rows; ++i) std::fill(to + i * ldt + columns, to + i * ldt + padded_columns, T(0));
  }
}

template <class T>
void unpack(const KernelSet& set, const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns,
            const Target& to) {
  const std::int64_t size = static_cast<std::int64_t>(size_of(to.dtype));
  if (to.col_stride_bytes == size) {
    if (narrow_rows(set, from, ldf, rows, columns, to.data, to.dtype, to.row_stride_bytes)) return;
  } else if (to.row_stride_bytes == size) {
    if (unpack_transposed(set, from, ldf, rows, columns, to)) return;
  }
  for (std::int64_t i = 0; i < rows; ++i, from += ldf) {
    std::byte* row = to.data + i * to.row_stride_bytes;
    with_storage(to.dtype, [&](auto stored) {
      using Stored = decltype(stored);
      if constexpr (!std::is_integral_v<Stored>) {
        for (std::int64_t j = 0; j < columns; ++j) {
          const Stored value = round_to<Stored>(from[j]);
          std::memcpy(row + j * to.col_stride_bytes, &value, sizeof value);
        }
      }
    });
  }
}

namespace {

void clear_bytes(std::byte* to, std::size_t bytes, Store store) {
#if defined(__SSE2__)
  constexpr std::size_t kLine = 64;
  constexpr std::size_t kShortest = 8 * kLine;
  if (store == Store::streamed && bytes >= kShortest) {
    // Whole lines only: a part of one would be read first.
    const std::size_t head = -reinterpret_cast<std::uintptr_t>(to) % kLine, lines = (bytes - head) / kLine;
    std::memset(to, 0, head);
    __m128i* vector = reinterpret_cast<__m128i*>(to + head);
    for (std::size_t line = 0; line < lines; ++line, vector += 4) {
      for (int part = 0; part < 4; ++part) _mm_stream_si128(vector + part, _mm_setzero_si128());
    }
    to += head + lines * kLine;
    bytes -= head + lines * kLine;
  }
#else
  static_cast<void>(store);
#endif
  std::memset(to, 0, bytes);
}

}  // namespace

void clear(const Target& to, std::int64_t rows, std::int64_t columns, Store store) {
  const std::size_t size = size_of(to.dtype);
  if (to.row_stride_bytes == static_cast<std::int64_t>(size) && to.col_stride_bytes != to.row_stride_bytes) {
    for (std::int64_t j = 0; j < columns; ++j) {
      clear_bytes(to.data + j * to.col_stride_bytes, static_cast<std::size_t>(rows) * size, store);
    }
    return;
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    std::byte* row = to.data + i * to.row_stride_bytes;
    if (to.col_stride_bytes == static_cast<std::int64_t>(size)) {
      clear_bytes(row, static_cast<std::size_t>(columns) * size, store);
    } else {
      for (std::int64_t j = 0; j < columns; ++j) std::memset(row + j * to.col_stride_bytes, 0, size);
    }
  }
}

void order_stores() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

template void pack<float>(const KernelSet&, const Source&, std::int64_t, std::int64_t, float*, std::int64_t,
                          std::int64_t);
template void pack<double>(const KernelSet&, const Source&, std::int64_t, std::int64_t, double*, std::int64_t,
                           std::int64_t);
template void unpack<float>(const KernelSet&, const float*, std::int64_t, std::int64_t, std::int64_t, const Target&);
template void unpack<double>(const KernelSet&, const double*, std::int64_t, std::int64_t, std::int64_t, const Target&);

}  // namespace maskmm::cpu
