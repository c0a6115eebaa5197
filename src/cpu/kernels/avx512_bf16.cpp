// AVX-512 BF16: products of pairs of bfloat16, added to a float one after the other, each sum rounded to nearest even.
// The instruction takes subnormal operands as zeros and writes zeros for subnormal sums, whatever the modes are.
#include <immintrin.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 64;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/packing_pairs.inl"

struct DotPairs {
  using Element = float;  // holds the bits of a pair
  using Vector = __m512;
  using Factor = __m512i;
  static constexpr int kRawRows = 2;
  static Factor load_b(const float* from) { return _mm512_loadu_si512(from); }
  /// Vectors 2 j and 2 j + 1 are neighbours.
  template <int NV, class At>
  static void load_raw(At at, std::int64_t ld_bytes, Factor* row) {
    MASKMM_UNROLL
    for (int j = 0; j + 1 < NV; j += 2) {
      const __m512i first = _mm512_loadu_si512(at(j)), second = _mm512_loadu_si512(at(j) + ld_bytes);
      row[j] = join_low(first, second);
      row[j + 1] = join_high(first, second);
    }
    if constexpr (NV % 2 != 0) {
      const auto half = [](const char* from) {
        return _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
      };
      row[NV - 1] = join_low(half(at(NV - 1)), half(at(NV - 1) + ld_bytes));
    }
  }
  static void store_b(float* to, Factor value) { _mm512_storeu_si512(to, value); }
  static Factor broadcast_a(const float* from) {
    typedef int Bits __attribute__((may_alias));
    return _mm512_set1_epi32(*reinterpret_cast<const Bits*>(from));
  }
  static Vector add_product(Vector sum, Factor a, Factor b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
};

/// Up to 32 elements. The conversion instructions write zeros for subnormals, so those few go another way.
inline void narrow_vectors(const float* from, std::int64_t count, char* to) {
  const auto lanes = [&](std::int64_t first) {
    const std::int64_t left = count - first;
    return left >= 16 ? 0xffff : left > 0 ? static_cast<__mmask16>((1u << left) - 1) : __mmask16{0};
  };
  const __m512 first = _mm512_maskz_loadu_ps(lanes(0), from), second = _mm512_maskz_loadu_ps(lanes(16), from + 16);
  constexpr int kSubnormal = 0x20;
  if (_mm512_fpclass_ps_mask(first, kSubnormal) | _mm512_fpclass_ps_mask(second, kSubnormal)) {
    narrow_bfloat16_row(from, count, to);
    return;
  }
  const __mmask32 all = static_cast<__mmask32>(lanes(0)) | static_cast<__mmask32>(lanes(16)) << 16;
  _mm512_mask_storeu_epi16(to, all, (__m512i)_mm512_cvtne2ps_pbh(second, first));
}

inline void narrow_row(const float* from, std::int64_t count, void* to) {
  char* bytes = static_cast<char*>(to);
  std::int64_t i = 0;
  for (; i + 32 <= count; i += 32) narrow_vectors(from + i, 32, bytes + 2 * i);
  if (i < count) narrow_vectors(from + i, count - i, bytes + 2 * i);
}

constexpr Kernels<float> make_kernels() {
  Kernels<float> kernels{};
  kernels.lanes = 16;
  kernels.vectors = 4;
  kernels.sliver_vectors = 1;
  kernels.chunk = 128;
  kernels.long_chunk = 512;
  fill_rows<DotPairs, 1, 8>(kernels);
  fill_rows<DotPairs, 2, 8>(kernels);
  fill_rows<DotPairs, 3, 6>(kernels);
  fill_rows<DotPairs, 4, 6>(kernels);
  kernels.copy_panel = copy_pairs;
  kernels.transpose = transpose<float>;
  return kernels;
}

}  // namespace

void narrow_bfloat16_avx512_bf16(const float* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, void* to,
                                 std::int64_t stride_bytes) {
  narrow_rows<narrow_row>(from, ldf, rows, columns, to, stride_bytes);
}

constexpr Kernels<float> kAvx512Bfloat16Kernels = make_kernels();

}  // namespace maskmm::cpu
