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

/// Walks the runs that come next, a cache line of k at a time.
template <class T>
struct Prefetcher {
  const Run<T>* run;
  const Run<T>* end;
  const T* a = nullptr;
  const T* b = nullptr;
  std::int64_t ldb = 0;
  std::int64_t left = 0;

  explicit Prefetcher(const MicroCall<T>& call) : run(call.next), end(call.next_end) {
    if (run != end) open(call);
  }
  void open(const MicroCall<T>& call) {
    a = run->a + call.next_a_offset;
    b = run->raw_b != nullptr ? run->raw_b + call.next_raw_offset : run->b + call.next_b_offset;
    ldb = run->raw_b != nullptr ? call.next_raw_ldb : call.ldb;
    left = run->k;
  }
  template <int MR, int NV>
  void step(const MicroCall<T>& call) {
    for (int lines = call.next_lines; lines > 0 && run != end; --lines) line<MR, NV>(call);
  }
  template <int MR, int NV>
  void line(const MicroCall<T>& call) {
    if (call.next_a) {
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) __builtin_prefetch(a + i * call.next_lda, 0, 2);
    }
    for (std::int64_t row = call.next_b_row; row < call.next_b_end; ++row) {
      MASKMM_UNROLL
      for (int j = 0; j < NV * Simd<T>::kLanes; j += kStep<T>) __builtin_prefetch(b + row * ldb + j, 0, 2);
    }
    a += kStep<T>;
    b += kStep<T> * ldb;
    left -= kStep<T>;
    if (left <= 0 && ++run != end) open(call);
  }
};

template <class T, int MR, int NV>
void micro_kernel(const MicroCall<T>& call) {
  using S = Simd<T>;
  using Vector = typename S::Vector;
  Vector c[MR][NV];
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) c[i][j] = Vector{};
  }
  if (call.dst_far) {
    MASKMM_UNROLL
    for (int i = 0; i < MR; ++i) {
      MASKMM_UNROLL
      for (int j = 0; j < NV * S::kLanes; j += kStep<T>) __builtin_prefetch(call.dst + i * call.ldd + j, 1, 3);
    }
  }
  const std::int64_t lda = call.lda, ldb = call.ldb;
  Prefetcher<T> prefetcher(call);
  for (const Run<T>* run = call.runs; run != call.runs_end; ++run) {
    const T* a = run->a + call.a_offset;
    const T* b = run->b + call.b_offset;
    std::int64_t k = run->k;
    const auto multiply = [&] {
      Vector bv[NV];
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) bv[j] = S::load(b + j * S::kLanes);
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) {
        const Vector av = S::broadcast(a[i * lda]);
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) c[i][j] += av * bv[j];
      }
      ++a;
      b += ldb;
    };
    for (; k >= kStep<T>; k -= kStep<T>) {
      prefetcher.template step<MR, NV>(call);
#pragma GCC unroll 4
      for (int step = 0; step < kStep<T>; ++step) multiply();
    }
    for (; k > 0; --k) multiply();
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
template <class T, int NV, int MR>
constexpr void fill_rows(Kernels<T>& kernels) {
  kernels.micro[NV][MR] = micro_kernel<T, MR, NV>;
  if (kernels.rows[NV] < MR) kernels.rows[NV] = MR;
  if constexpr (MR > 1) fill_rows<T, NV, MR - 1>(kernels);
}
