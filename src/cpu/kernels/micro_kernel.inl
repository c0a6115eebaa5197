// The micro-kernel, one text for every instruction set and element type. A file that includes it defines before, in an
// unnamed namespace, kVectorBytes, and after it makes the table of instances.
//
// A micro-tile of MR rows and NV vectors stays in registers. Each step of one inner element loads NV vectors of packed
// B and multiplies them by MR elements of A, which are broadcast from where they are: A is never read as a vector, so
// nothing behind its last element is touched. Once every cache line the kernel prefetches lines of A and B that the
// next unit will read: live blocks are scattered, so the hardware's prefetchers miss them.

#define MASKMM_UNROLL _Pragma("GCC unroll 16")
// GCC drops calls of a function that only prefetches, as one without effects.
#define MASKMM_INLINE __attribute__((always_inline)) inline
// Sums that a lambda captures stay in registers only where it is inlined.
#define MASKMM_INLINE_LAMBDA __attribute__((always_inline))

template <class T>
struct Simd {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
  static constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));
  static Vector load(const T* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static void store(T* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }
  static Vector broadcast(T value) { return value - Vector{}; }  // x - 0 is x, -0 included
};

/// How a step multiplies: a vector of B by an element of A, which is in all lanes, added to the sums.
template <class T>
struct MultiplyAdd {
  using Element = T;
  using Vector = typename Simd<T>::Vector;
  using Factor = Vector;
  static constexpr int kRawRows = 1;  // of B before packing, in one of packed B
  static Factor load_b(const T* from) { return Simd<T>::load(from); }
  /// at(j): where vector j begins.
  template <int NV, class At>
  static void load_raw(At at, std::int64_t, Factor* row) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) row[j] = load_b(reinterpret_cast<const T*>(at(j)));
  }
  static void store_b(T* to, Factor value) { Simd<T>::store(to, value); }
  static Factor broadcast_a(const T* from) { return Simd<T>::broadcast(*from); }
  static Vector add_product(Vector sum, Factor a, Factor b) { return sum + a * b; }
};

/// The same where neighbours in a column of A are neighbours in memory, not those in a row.
template <class Math>
struct DownColumns : Math {};
template <class Math>
inline constexpr bool kDownColumns = false;
template <class Math>
inline constexpr bool kDownColumns<DownColumns<Math>> = true;

/// Whether the vectors of a micro-tile may be apart in packed B: where each is a cache line, slivers are one vector
/// wide, lest narrow blocks use a part of the caches' sets only.
template <class Math, int NV>
constexpr bool vectors_apart() {
  return kVectorBytes == 64 && NV <= kMaxPacked && !kDownColumns<Math>;
}

/// Walks the runs that come next, a cache line of k at a time.
template <class Math>
struct Prefetcher {
  using T = typename Math::Element;
  const Run<T>* run;
  const Run<T>* end;
  const T* a = nullptr;
  const char* b = nullptr;
  std::int64_t ldb_bytes = 0;
  std::int64_t left = 0;
  bool raw = false;
  // Rows that start inside a cache line reach into one more than their length says.
  int a_ahead = 0;  // from where the line is that a stretch of kStep elements of A ends in
  bool is_first = false;
  bool b_tail = false;
  const char* b_row = nullptr;  // the next row for one_row

  explicit Prefetcher(const MicroCall<T>& call) : run(call.next), end(call.next_end) {
    if (run != end) open(call);
  }
  void open(const MicroCall<T>& call) {
    a = run->a + (kDownColumns<Math> ? 0 : call.next_a_offset);
    raw = run->raw_b != nullptr;
    b = raw ? static_cast<const char*>(run->raw_b) + call.next_raw_offsets_bytes[0]
            : reinterpret_cast<const char*>(run->b + call.next_b_offsets[0]);
    ldb_bytes = raw ? call.raw_ldb_bytes * Math::kRawRows : call.ldb * static_cast<std::int64_t>(sizeof(T));
    left = run->k;
    constexpr std::uintptr_t kLine = 64;
    a_ahead = reinterpret_cast<std::uintptr_t>(a) % kLine != 0 ? kStep<T> - 1 : 0;
    b_tail = reinterpret_cast<std::uintptr_t>(b) % kLine != 0;
    is_first = true;
  }
  template <int MR, int NV>
  void step(const MicroCall<T>& call) {
    for (int lines = call.next_lines; lines > 0 && run != end; --lines) line<MR, NV>(call);
  }
  /// One of the rows of B that the last step went past: for kernels so short that a step of them is a burst, which
  /// holds up the loads behind it.
  template <int NV>
  void one_row(const MicroCall<T>& call) {
    if (b_row == nullptr) return;
    if (call.into_first_level) {
      lines_of_row<NV, 3>(call);
    } else {
      lines_of_row<NV, 2>(call);
    }
    b_row += ldb_bytes;
  }
  template <int NV, int Locality>
  MASKMM_INLINE void lines_of_row(const MicroCall<T>& call) {
    constexpr int kRowBytes = NV * kVectorBytes / Math::kRawRows, kLine = 64;
    const char* line = b_row;
    MASKMM_UNROLL
    for (int part = 0; part < Math::kRawRows; ++part, line += call.raw_ldb_bytes) {
      MASKMM_UNROLL
      for (int j = 0; j < kRowBytes; j += kLine) __builtin_prefetch(line + j, 0, Locality);
      if (b_tail) __builtin_prefetch(line + kRowBytes - 1, 0, Locality);
    }
  }
  template <int MR, int NV>
  void line(const MicroCall<T>& call) {
    if constexpr (kDownColumns<Math>) {
      // Columns of all rows of the unit: micro-tiles share them as they share the rows of B.
      for (std::int64_t k = call.next_b_row; call.next_a && run->fresh_a && k < call.next_b_end; ++k) {
        const char* column = reinterpret_cast<const char*>(a + k * call.a_step);
        for (std::int64_t byte = 0; byte < call.next_a_bytes; byte += 64) __builtin_prefetch(column + byte, 0, 2);
        __builtin_prefetch(column + call.next_a_bytes - 1, 0, 2);
      }
    } else if (call.next_a && run->fresh_a) {
      if (is_first && a_ahead != 0) {
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) __builtin_prefetch(a + i * call.next_lda, 0, 2);
      }
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) __builtin_prefetch(a + a_ahead + i * call.next_lda, 0, 2);
    }
    is_first = false;
    b_row = b;
    for (std::int64_t row = call.next_b_row; row < call.next_b_end; ++row) {
      const char* from = b + row * ldb_bytes;
      if (!raw) {
        packed_row<NV>(from, call);
      } else {
        for (int part = 0; part < Math::kRawRows; ++part, from += call.raw_ldb_bytes) raw_row<NV>(from, call);
      }
    }
    a += kDownColumns<Math> ? kStep<T> * call.a_step : kStep<T>;
    b += kStep<T> * ldb_bytes;
    left -= kStep<T>;
    if (left <= 0 && ++run != end) open(call);
  }
  template <int NV>
  MASKMM_INLINE void packed_row(const char* from, const MicroCall<T>& call) {
    if (vectors_apart<Math, NV>() && call.apart) {
      MASKMM_UNROLL
      for (int j = 0; j < NV && j < kMaxPacked; ++j) {
        __builtin_prefetch(reinterpret_cast<const T*>(from) + (call.next_b_offsets[j] - call.next_b_offsets[0]), 0, 2);
      }
    } else {
      MASKMM_UNROLL
      for (int byte = 0; byte < NV * kVectorBytes; byte += 64) __builtin_prefetch(from + byte, 0, 2);
    }
  }
  template <int NV>
  MASKMM_INLINE void raw_row(const char* from, const MicroCall<T>& call) {
    constexpr int kBytes = kVectorBytes / Math::kRawRows;
    if (!vectors_apart<Math, NV>() || call.next_side_by_side) {
      MASKMM_UNROLL
      for (int byte = 0; byte < NV * kBytes; byte += 64) __builtin_prefetch(from + byte, 0, 2);
      if (b_tail) __builtin_prefetch(from + NV * kBytes - 1, 0, 2);
    } else {
      MASKMM_UNROLL
      for (int j = 0; j < NV && j < kMaxPacked; ++j) {
        const char* vector = from + (call.next_raw_offsets_bytes[j] - call.next_raw_offsets_bytes[0]);
        __builtin_prefetch(vector, 0, 2);
        if (b_tail) __builtin_prefetch(vector + kBytes - 1, 0, 2);
      }
    }
  }
};

template <class T>
MASKMM_INLINE void prefetch_result(const MicroCall<T>& call) {
  if (call.result == nullptr) return;
  for (int stretch = 0; stretch < call.result_stretches; ++stretch) {
    const char* row = static_cast<const char*>(call.result) + call.result_offsets_bytes[stretch];
    const std::int64_t bytes = call.result_bytes[stretch];
    for (int i = 0; i < call.rows; ++i, row += call.result_ld_bytes) {
      for (std::int64_t byte = 0; byte < bytes; byte += 64) __builtin_prefetch(row + byte, 1, 3);
      __builtin_prefetch(row + bytes - 1, 1, 3);  // where the row starts inside a line
    }
  }
}

template <class Math, int MR, int NV>
void micro_kernel(const MicroCall<typename Math::Element>& call) {
  using T = typename Math::Element;
  using S = Simd<T>;
  using Vector = typename S::Vector;
  Vector c[MR][NV];
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) c[i][j] = Vector{};
  }
  prefetch_result(call);
  const std::int64_t lda = call.lda, a_step = kDownColumns<Math> ? call.a_step : 1;
  constexpr int kRawBytes = kVectorBytes / Math::kRawRows;
  Prefetcher<Math> prefetcher(call);
  for (const Run<T>* run = call.runs; run != call.runs_end; ++run) {
    const T* a = run->a + call.a_offset;
    const auto walk = [&](auto load_row) MASKMM_INLINE_LAMBDA {
      const auto multiply = [&]() MASKMM_INLINE_LAMBDA {
        typename Math::Factor bv[NV];
        load_row(bv);
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) {
          const typename Math::Factor av = Math::broadcast_a(a + i * lda);
          MASKMM_UNROLL
          for (int j = 0; j < NV; ++j) c[i][j] = Math::add_product(c[i][j], av, bv[j]);
        }
        a += a_step;
      };
      std::int64_t k = run->k;
      for (; k >= kStep<T>; k -= kStep<T>) {
        prefetcher.template step<MR, NV>(call);
#pragma GCC unroll 4
        for (int step = 0; step < kStep<T>; ++step) multiply();
      }
      for (; k > 0; --k) multiply();
    };
    // b_at(j), raw_at(j): from the first vector of a row to vector j.
    const auto multiply_run = [&](auto b_at, auto raw_at, std::int64_t ldb,
                                  std::int64_t copy_ldb) MASKMM_INLINE_LAMBDA {
      T* packed = run->b + call.b_offsets[0];
      if (call.reads_raw && run->raw_b != nullptr) {
        const char* raw = static_cast<const char*>(run->raw_b) + call.raw_offsets_bytes[0];
        const auto load_raw = [&](typename Math::Factor* row) {
          Math::template load_raw<NV>([&](int j) { return raw + raw_at(j); }, call.raw_ldb_bytes, row);
          raw += Math::kRawRows * call.raw_ldb_bytes;
        };
        if (copy_ldb == 0) {
          walk([&](typename Math::Factor* row) {
            load_raw(row);
            prefetcher.template one_row<NV>(call);
          });
          return;
        }
        walk([&](typename Math::Factor* row) {
          load_raw(row);
          MASKMM_UNROLL
          for (int j = 0; j < NV; ++j) Math::store_b(packed + b_at(j), row[j]);
          packed += copy_ldb;
        });
        return;
      }
      walk([&](typename Math::Factor* row) {
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) row[j] = Math::load_b(packed + b_at(j));
        packed += ldb;
      });
    };
    if (!vectors_apart<Math, NV>() || !call.apart) {
      multiply_run([](int j) { return j * S::kLanes; }, [](int j) { return j * kRawBytes; }, call.ldb, call.copy_ldb);
    } else if constexpr (vectors_apart<Math, NV>()) {
      std::int64_t b_apart[NV], raw_apart[NV];
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) {
        b_apart[j] = call.b_offsets[j] - call.b_offsets[0];
        raw_apart[j] = call.raw_offsets_bytes[j] - call.raw_offsets_bytes[0];
      }
      multiply_run([&](int j) { return b_apart[j]; }, [&](int j) { return raw_apart[j]; }, S::kLanes, S::kLanes);
    }
  }
  const auto finish = [&](auto result) {
    MASKMM_UNROLL
    for (int i = 0; i < MR; ++i) {
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) {
        const std::int64_t apart = vectors_apart<Math, NV>() ? call.dst_offsets[j % kMaxPacked] : j * S::kLanes;
        S::store(call.dst + i * call.ldd + apart, result(c[i][j], call.src + i * call.lds + j * S::kLanes));
      }
    }
  };
  if (call.scaled) {
    const Vector scale = S::broadcast(call.scale), second = S::broadcast(call.scale_second);
    const Vector scale_out = S::broadcast(call.scale_out);
    if (call.src != nullptr) {
      finish([&](Vector sum, const T* src) { return (sum * scale * second + S::load(src)) * scale_out; });
    } else {
      finish([&](Vector sum, const T*) { return sum * scale * second * scale_out; });
    }
  } else if (call.src != nullptr) {
    finish([&](Vector sum, const T* src) { return sum + S::load(src); });
  } else {
    finish([&](Vector sum, const T*) { return sum; });
  }
}

/// Fills micro[NV][1 .. MR].
template <class Math, int NV, int MR>
constexpr void fill_rows(Kernels<typename Math::Element>& kernels) {
  kernels.micro[NV][MR] = micro_kernel<Math, MR, NV>;
  if (kernels.rows[NV] < MR) kernels.rows[NV] = MR;
  if constexpr (MR > 1) fill_rows<Math, NV, MR - 1>(kernels);
}

/// Fills micro_down[NV][1 .. MR].
template <class Math, int NV, int MR>
constexpr void fill_rows_down(Kernels<typename Math::Element>& kernels) {
  kernels.micro_down[NV][MR] = micro_kernel<DownColumns<Math>, MR, NV>;
  if constexpr (MR > 1) fill_rows_down<Math, NV, MR - 1>(kernels);
}

/// Fills micro[First .. Last][1].
template <class Math, int First, int Last>
constexpr void fill_wide_rows(Kernels<typename Math::Element>& kernels) {
  fill_rows<Math, First, 1>(kernels);
  kernels.row_vectors = Last;
  if constexpr (First < Last) fill_wide_rows<Math, First + 1, Last>(kernels);
}
