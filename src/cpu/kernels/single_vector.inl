// A micro-kernel for blocks one vector wide, and for two neighbours with the same live k. Included after packing.inl.
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

template <int MR, int NV>
void narrow_kernel(const MicroCall<float>& call) {
  using T = float;
  using S = Simd<T>;
  using Vector = FloatVector;
  constexpr FloatLanes kAll{};
  Vector c[MR][NV][2];
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) c[i][j][0] = c[i][j][1] = Vector{};
  }
  prefetch_result(call);
  Prefetcher<MultiplyAdd<T>> prefetcher(call);
  const std::int64_t lda = call.lda, apart = call.apart && NV > 1 ? call.b_offsets[1] - call.b_offsets[0] : S::kLanes;
  for (const Run<T>* run = call.runs; run != call.runs_end; ++run) {
    const T* a = run->a + call.a_offset;
    const auto walk = [&](auto load_row) MASKMM_INLINE_LAMBDA {
      const auto multiply_two = [&]() MASKMM_INLINE_LAMBDA {
        Vector first[NV], second[NV];
        load_row(first);
        load_row(second);
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) {
          const Vector low = interleave_low(first[j], second[j], kAll);
          second[j] = interleave_high(first[j], second[j], kAll);
          first[j] = low;
        }
        MASKMM_UNROLL
        for (int i = 0; i < MR; ++i) {
          const Vector pair = broadcast_pair(a + i * lda);
          MASKMM_UNROLL
          for (int j = 0; j < NV; ++j) {
            c[i][j][0] += pair * first[j];
            c[i][j][1] += pair * second[j];
          }
        }
        a += 2;
      };
      std::int64_t k = run->k;
      for (; k >= kStep<T>; k -= kStep<T>) {
        prefetcher.template step<MR, NV>(call);
#pragma GCC unroll 2
        for (int step = 0; step < kStep<T>; step += 2) multiply_two();
      }
      for (; k >= 2; k -= 2) multiply_two();
      if (k == 0) return;
      // The last k of an odd K, in even lanes only: beside a zero in B an Inf in A would give NaN.
      Vector last[NV];
      load_row(last);
      MASKMM_UNROLL
      for (int i = 0; i < MR; ++i) {
        const Vector av = S::broadcast(a[i * lda]);
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) {
          Vector(&sums)[2] = c[i][j];
          sums[0] = even_lanes_of(sums[0] + av * interleave_low(last[j], last[j], kAll), sums[0], kAll);
          sums[1] = even_lanes_of(sums[1] + av * interleave_high(last[j], last[j], kAll), sums[1], kAll);
        }
      }
    };
    T* packed = run->b + call.b_offsets[0];
    if (!call.reads_raw || run->raw_b == nullptr) {
      walk([&](Vector* row) MASKMM_INLINE_LAMBDA {
        MASKMM_UNROLL
        for (int j = 0; j < NV; ++j) row[j] = S::load(packed + j * apart);
        packed += call.ldb;
      });
      continue;
    }
    const char* raw = static_cast<const char*>(run->raw_b) + call.raw_offsets_bytes[0];
    walk([&](Vector* row) MASKMM_INLINE_LAMBDA {
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) row[j] = S::load(reinterpret_cast<const T*>(raw) + j * S::kLanes);
      raw += call.raw_ldb_bytes;
      if (call.copy_ldb == 0) return prefetcher.template one_row<NV>(call);
      MASKMM_UNROLL
      for (int j = 0; j < NV; ++j) S::store(packed + j * apart, row[j]);
      packed += call.copy_ldb;
    });
  }
  const Vector scale = S::broadcast(call.scale), second = S::broadcast(call.scale_second);
  const Vector scale_out = S::broadcast(call.scale_out);
  MASKMM_UNROLL
  for (int i = 0; i < MR; ++i) {
    MASKMM_UNROLL
    for (int j = 0; j < NV; ++j) {
      Vector sum = add_pairs(c[i][j][0], c[i][j][1], kAll);
      if (call.scaled) sum = sum * scale * second;
      if (call.src != nullptr) sum += S::load(call.src + i * call.lds + j * S::kLanes);
      if (call.scaled) sum *= scale_out;
      S::store(call.dst + i * call.ldd + j * S::kLanes, sum);
    }
  }
}

/// Fills narrow[NV][1 .. MR].
template <int NV, int MR>
constexpr void fill_narrow(Kernels<float>& kernels) {
  kernels.narrow[NV][MR] = narrow_kernel<MR, NV>;
  if (kernels.narrow_rows[NV] < MR) kernels.narrow_rows[NV] = MR;
  if constexpr (MR > 1) fill_narrow<NV, MR - 1>(kernels);
}
