// Packing and conversions, one text for every instruction set. Included after micro_kernel.inl.

/// Rows that packing prefetches ahead: scattered pieces of memory, which the hardware does not foresee.
constexpr std::int64_t kRowsAhead = 16;

template <class T>
MASKMM_INLINE void prefetch_row(const T* row, std::int64_t columns) {
  for (std::int64_t j = 0; j < columns; j += kStep<T>) __builtin_prefetch(row + j, 0, 3);
}

template <class T>
void copy_panel(const PanelCopy<T>& copy) {
  using S = Simd<T>;
  const T* source = static_cast<const T*>(copy.from);
  const std::int64_t ldf = copy.ldf_bytes / static_cast<std::int64_t>(sizeof(T));
  for (std::int64_t row = 0; row < copy.rows; ++row) {
    if (row + kRowsAhead < copy.rows) prefetch_row(source + (row + kRowsAhead) * ldf, copy.columns);
    const T* from = source + row * ldf;
    T* to = copy.to + row * copy.ldt;
    std::int64_t j = 0;
    for (; j + S::kLanes <= copy.columns; j += S::kLanes) S::store(to + j, S::load(from + j));
    if (j < copy.columns) {
      for (; j < copy.columns; ++j) to[j] = from[j];
      for (; j % S::kLanes != 0; ++j) to[j] = T(0);
    }
  }
}

template <int... J>
struct Lanes {};
template <int Count, int... J>
struct MakeLanes : MakeLanes<Count - 1, Count - 1, J...> {};
template <int... J>
struct MakeLanes<0, J...> {
  using type = Lanes<J...>;
};

/// One of log2(lanes) steps of transposing a square of vectors: swaps its off-diagonal parts of `Width` elements.
template <class T, int Width, int... J>
void swap_parts(typename Simd<T>::Vector* rows, Lanes<J...> lanes) {
  constexpr int kLanes = Simd<T>::kLanes;
  MASKMM_UNROLL
  for (int i = 0; i < kLanes; ++i) {
    if (i & Width) continue;
    const auto upper = rows[i], lower = rows[i + Width];
    rows[i] = __builtin_shufflevector(upper, lower, (J & Width ? kLanes + J - Width : J)...);
    rows[i + Width] = __builtin_shufflevector(upper, lower, (J & Width ? kLanes + J : J + Width)...);
  }
  if constexpr (Width > 1) swap_parts<T, Width / 2>(rows, lanes);
}

template <class T>
void transpose(const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, T* to, std::int64_t ldt) {
  using S = Simd<T>;
  constexpr std::int64_t kLanes = S::kLanes;
  for (std::int64_t i0 = 0; i0 < rows; i0 += kLanes) {
    const std::int64_t i1 = i0 + kLanes < rows ? i0 + kLanes : rows;
    for (std::int64_t i = i1; i < i1 + kLanes && i < rows; ++i) prefetch_row(from + i * ldf, columns);
    std::int64_t j = 0;
    if (i1 - i0 == kLanes) {
      for (; j + kLanes <= columns; j += kLanes) {
        typename S::Vector square[kLanes];
        MASKMM_UNROLL
        for (int i = 0; i < kLanes; ++i) square[i] = S::load(from + (i0 + i) * ldf + j);
        swap_parts<T, kLanes / 2>(square, typename MakeLanes<kLanes>::type());
        MASKMM_UNROLL
        for (int i = 0; i < kLanes; ++i) S::store(to + (j + i) * ldt + i0, square[i]);
      }
    }
    for (; j < columns; ++j) {
      for (std::int64_t i = i0; i < i1; ++i) to[j * ldt + i] = from[i * ldf + j];
    }
  }
}

struct Bits16 {
  typedef std::uint16_t type __attribute__((aligned(1), may_alias));
};

/// Widens rows of 16-bit elements, `stride_bytes` apart, with code for one row.
template <void (*WidenRow)(const void*, std::int64_t, float*)>
void widen_rows(const void* from, std::int64_t stride_bytes, std::int64_t rows, std::int64_t columns, float* to,
                std::int64_t ldt) {
  const char* row = static_cast<const char*>(from);
  for (std::int64_t i = 0; i < rows; ++i, row += stride_bytes, to += ldt) {
    if (i + kRowsAhead < rows) {
      for (std::int64_t byte = 0; byte < 2 * columns; byte += 64) {
        __builtin_prefetch(row + kRowsAhead * stride_bytes + byte, 0, 3);
      }
    }
    WidenRow(row, columns, to);
  }
}

inline void widen_bfloat16_row(const void* from, std::int64_t count, float* to) {
  const Bits16::type* bits = static_cast<const Bits16::type*>(from);
  for (std::int64_t i = 0; i < count; ++i) to[i] = __builtin_bit_cast(float, static_cast<std::uint32_t>(bits[i]) << 16);
}

/// Rounds rows of 16-bit elements, `stride_bytes` apart, with code for one row.
template <void (*NarrowRow)(const float*, std::int64_t, void*)>
void narrow_rows(const float* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, void* to,
                 std::int64_t stride_bytes) {
  char* row = static_cast<char*>(to);
  for (std::int64_t i = 0; i < rows; ++i, row += stride_bytes, from += ldf) NarrowRow(from, columns, row);
}

inline void narrow_bfloat16_row(const float* from, std::int64_t count, void* to) {
  Bits16::type* bits = static_cast<Bits16::type*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t value = __builtin_bit_cast(std::uint32_t, from[i]);
    const std::uint32_t rounded = (value + 0x7fff + ((value >> 16) & 1)) >> 16;
    const bool nan = (value & 0x7fffffff) > 0x7f800000;
    bits[i] = static_cast<std::uint16_t>(nan ? (value >> 16) | 0x40 : rounded);
  }
}
