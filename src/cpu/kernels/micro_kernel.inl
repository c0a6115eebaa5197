// The micro-kernel, one text for every instruction set and element type. A file that includes it defines before, in an
// unnamed namespace, kVectorBytes, and after it makes the table of instances.
//
// A micro-tile of MR rows and NV vectors stays in registers. Each step of one inner element loads NV vectors of packed
// B and multiplies them by MR elements of A, which are broadcast from where they are: A is never read as a vector, so
// nothing behind its last element is touched. Once every cache line the kernel prefetches lines of A and B that the
// next unit will read: live blocks are scattered, so the hardware's prefetchers miss them.

#define MASKMM_UNROLL _Pragma("GCC unroll 16")

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
  template <int NV>
  static void load_raw(const char* from, std::int64_t, Factor* row) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) row[j] = load_b(reinterpret_cast<const T*>(from) + j * Simd<T>::kLanes);
  }
  static void store_b(T* to, Factor value) { Simd<T>::store(to, value); }
  static Factor broadcast_a(const T* from) { return Simd<T>::broadcast(*from); }
  static Vector add_product(Vector sum, Factor a, Factor b) { return sum + a * b; }
};

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
    a = run->a + call.next_a_offset;
    raw = run->raw_b != nullptr;
    b = raw ? static_cast<const char*>(run->raw_b) + call.next_raw_offset_bytes
            : reinterpret_cast<const char*>(run->b + call.next_b_offset);
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
    constexpr int kRowBytes = NV * kVectorBytes / Math::kRawRows, kLine = 64;
    const char* line = b_row;
    MASKMM_UNROLL
    for (int part = 0; part < Math::kRawRows; ++part, line += call.raw_ldb_bytes) {
      MASKMM_UNROLL
      for (int j = 0; j < kRowBytes; j += kLine) __builtin_prefetch(line + j, 0, 2);
      if (b_tail) __builtin_prefetch(line + kRowBytes - 1, 0, 2);
    }
    b_row += ldb_bytes;
  }
  template <int MR, int NV>
  void line(const MicroCall<T>& call) {
    if (call.next_a) {
      if (is_first && a_ahead != 0) {
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) __builtin_prefetch(a + i * call.next_lda, 0, 2);
      }
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) __builtin_prefetch(a + a_ahead + i * call.next_lda, 0, 2);
    }
    is_first = false;
    b_row = b;
    constexpr int kRowBytes = NV * kVectorBytes, kLine = 64;
    for (std::int64_t row = call.next_b_row; row < call.next_b_end; ++row) {
      const char* line = b + row * ldb_bytes;
      if (Math::kRawRows > 1 && raw) {
        for (int part = 0; part < Math::kRawRows; ++part, line += call.raw_ldb_bytes) {
          MASKMM_UNROLL
          for (int j = 0; j < kRowBytes / Math::kRawRows; j += kLine) __builtin_prefetch(line + j, 0, 2);
        }
      } else {
        MASKMM_UNROLL
        for (int j = 0; j < kRowBytes; j += kLine) __builtin_prefetch(line + j, 0, 2);
        if (b_tail) __builtin_prefetch(line + kRowBytes - 1, 0, 2);
      }
    }
    a += kStep<T>;
    b += kStep<T> * ldb_bytes;
    left -= kStep<T>;
    if (left <= 0 && ++run != end) open(call);
  }
};

template <class T>
void prefetch_result(const MicroCall<T>& call) {
  if (call.result == nullptr) return;
  const char* row = static_cast<const char*>(call.result);
  for (int i = 0; i < call.rows; ++i, row += call.result_ld_bytes) {
    for (std::int64_t byte = 0; byte < call.result_bytes; byte += 64) __builtin_prefetch(row + byte, 1, 3);
    __builtin_prefetch(row + call.result_bytes - 1, 1, 3);  // where the row starts inside a line
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
  const std::int64_t lda = call.lda, ldb = call.ldb;
  Prefetcher<Math> prefetcher(call);
  for (const Run<T>* run = call.runs; run != call.runs_end; ++run) {
    const T* a = run->a + call.a_offset;
    const auto walk = [&](auto load_row) {
      const auto multiply = [&] {
        typename Math::Factor bv[NV];
        load_row(bv);
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) {
          const typename Math::Factor av = Math::broadcast_a(a + i * lda);
          MASKMM_UNROLL
          for (int j = 0; j < NV; ++j) c[i][j] = Math::add_product(c[i][j], av, bv[j]);
        }
        ++a;
      };
      std::int64_t k = run->k;
      for (; k >= kStep<T>; k -= kStep<T>) {
        prefetcher.template step<MR, NV>(call);
#pragma GCC unroll 4
        for (int step = 0; step < kStep<T>; ++step) multiply();
      }
      for (; k > 0; --k) multiply();
    };
    T* packed = run->b + call.b_offset;
    if (call.reads_raw && run->raw_b != nullptr) {
      const char* raw = static_cast<const char*>(run->raw_b) + call.raw_offset_bytes;
      if (call.copy_ldb == 0) {
        walk([&](typename Math::Factor* row) {
          Math::template load_raw<NV>(raw, call.raw_ldb_bytes, row);
          prefetcher.template one_row<NV>(call);
          raw += Math::kRawRows * call.raw_ldb_bytes;
        });
        continue;
      }
      walk([&](typename Math::Factor* row) {
        Math::template load_raw<NV>(raw, call.raw_ldb_bytes, row);
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) Math::store_b(packed + j * S::kLanes, row[j]);
        raw += Math::kRawRows * call.raw_ldb_bytes;
        packed += call.copy_ldb;
      });
      continue;
    }
    walk([&](typename Math::Factor* row) {
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) row[j] = Math::load_b(packed + j * S::kLanes);
      packed += ldb;
    });
  }
  const auto finish = [&](auto result) {
    MASKMM_UNROLL
    for (int i = 0; i < MR; ++i) {
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) {
        S::store(call.dst + i * call.ldd + j * S::kLanes, result(c[i][j], call.src + i * call.lds + j * S::kLanes));
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

/// Fills micro[First .. Last][1].
template <class Math, int First, int Last>
constexpr void fill_wide_rows(Kernels<typename Math::Element>& kernels) {
  fill_rows<Math, First, 1>(kernels);
  kernels.row_vectors = Last;
  if constexpr (First < Last) fill_wide_rows<Math, First + 1, Last>(kernels);
}
