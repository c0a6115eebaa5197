// A micro-kernel of one vector, for blocks that are no wider. Included after packing.inl.
//
// Where each multiplication has an element of A of its own, loads are the limit: nine for eight multiplications of a
// tile of eight rows. So A is broadcast in pairs, the elements of k and k + 1 in neighbouring lanes, beside rows k and
// k + 1 of B interleaved as they are loaded: a sum for even k and one for odd k, which are added at the end. That is
// another order than wider micro-tiles have, so a call has either all of its micro-tiles from here or none.

using FloatVector = Simd<float>::Vector;
using FloatLanes = MakeLanes<Simd<float>::kLanes>::type;

/// Columns 0, 1, 4, 5, 8, ... of rows k and k + 1, in turn: one instruction, which stays within parts of 16 bytes.
template <int... J>
FloatVector interleave_low(FloatVector first, FloatVector second, Lanes<J...>) {
  return __builtin_shufflevector(first, second, (J / 4 * 4 + J % 4 / 2 + J % 2 * Simd<float>::kLanes)...);
}
/// Columns 2, 3, 6, 7, 10, ...
template <int... J>
FloatVector interleave_high(FloatVector first, FloatVector second, Lanes<J...>) {
  return __builtin_shufflevector(first, second, (J / 4 * 4 + 2 + J % 4 / 2 + J % 2 * Simd<float>::kLanes)...);
}
/// The sums of both -> one sum for each column, in order.
template <int... J>
FloatVector add_pairs(FloatVector low, FloatVector high, Lanes<J...>) {
  constexpr int kLanes = Simd<float>::kLanes;
  return __builtin_shufflevector(low, high, (J / 4 * 4 + J % 2 * 2 + J % 4 / 2 * kLanes)...) +
         __builtin_shufflevector(low, high, (J / 4 * 4 + J % 2 * 2 + 1 + J % 4 / 2 * kLanes)...);
}
template <int... J>
FloatVector even_lanes_of(FloatVector from, FloatVector others, Lanes<J...>) {
  return __builtin_shufflevector(from, others, (J % 2 == 0 ? J : Simd<float>::kLanes + J)...);
}
FloatVector broadcast_pair(const float* from) {
  typedef std::int64_t Pair __attribute__((aligned(4), may_alias));
  typedef std::int64_t Pairs __attribute__((vector_size(kVectorBytes)));
  return (FloatVector)(Pairs{} + *reinterpret_cast<const Pair*>(from));
}

template <int MR>
void narrow_kernel(const MicroCall<float>& call) {
  using T = float;
  using S = Simd<T>;
  using Vector = FloatVector;
  constexpr FloatLanes kAll{};
  Vector c[MR][2];
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) c[i][0] = c[i][1] = Vector{};
  prefetch_result(call);
  Prefetcher<MultiplyAdd<T>> prefetcher(call);
  const std::int64_t lda = call.lda;
  for (const Run<T>* run = call.runs; run != call.runs_end; ++run) {
    const T* a = run->a + call.a_offset;
    const auto walk = [&](auto load_row) MASKMM_INLINE_LAMBDA {
      const auto multiply_two = [&]() MASKMM_INLINE_LAMBDA {
        const Vector first = load_row(), second = load_row();
        const Vector b0 = interleave_low(first, second, kAll), b1 = interleave_high(first, second, kAll);
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) {
          const Vector pair = broadcast_pair(a + i * lda);
          c[i][0] += pair * b0;
          c[i][1] += pair * b1;
        }
        a += 2;
      };
      std::int64_t k = run->k;
      for (; k >= kStep<T>; k -= kStep<T>) {
        prefetcher.template step<MR, 1>(call);
#pragma GCC unroll 2
        for (int step = 0; step < kStep<T>; step += 2) multiply_two();
      }
      for (; k >= 2; k -= 2) multiply_two();
      if (k == 0) return;
      // The last k of an odd K, in even lanes only: beside a zero in B an Inf in A would give NaN.
      const Vector last = load_row();
      const Vector b0 = interleave_low(last, last, kAll), b1 = interleave_high(last, last, kAll);
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) {
        const Vector av = S::broadcast(a[i * lda]);
        c[i][0] = even_lanes_of(c[i][0] + av * b0, c[i][0], kAll);
        c[i][1] = even_lanes_of(c[i][1] + av * b1, c[i][1], kAll);
      }
    };
    T* packed = run->b + call.b_offsets[0];
    if (!call.reads_raw || run->raw_b == nullptr) {
      walk([&]() MASKMM_INLINE_LAMBDA {
        const Vector row = S::load(packed);
        packed += call.ldb;
        return row;
      });
      continue;
    }
    const char* raw = static_cast<const char*>(run->raw_b) + call.raw_offsets_bytes[0];
    walk([&]() MASKMM_INLINE_LAMBDA {
      const Vector row = S::load(reinterpret_cast<const T*>(raw));
      raw += call.raw_ldb_bytes;
      if (call.copy_ldb == 0) {
        prefetcher.template one_row<1>(call);
      } else {
        S::store(packed, row);
        packed += call.copy_ldb;
      }
      return row;
    });
  }
  const Vector scale = S::broadcast(call.scale), second = S::broadcast(call.scale_second);
  const Vector scale_out = S::broadcast(call.scale_out);
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) {
    Vector sum = add_pairs(c[i][0], c[i][1], kAll);
    if (call.scaled) sum = sum * scale * second;
    if (call.src != nullptr) sum += S::load(call.src + i * call.lds);
    if (call.scaled) sum *= scale_out;
    S::store(call.dst + i * call.ldd, sum);
  }
}

/// Fills narrow[1 .. MR].
template <int MR>
constexpr void fill_narrow(Kernels<float>& kernels) {
  kernels.narrow[MR] = narrow_kernel<MR>;
  if (kernels.narrow_rows < MR) kernels.narrow_rows = MR;
  if constexpr (MR > 1) fill_narrow<MR - 1>(kernels);
}
