// AVX-512 BF16: products of pairs of bfloat16, added to a float one after the other, each sum rounded to nearest even.
// The instruction takes subnormal operands as zeros and writes zeros for subnormal sums, whatever the modes are.
#include <immintrin.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 64;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/packing.inl"

struct DotPairs {
  using Element = float;  // holds the bits of a pair
  using Vector = __m512;
  using Factor = __m512i;
  static constexpr int kRawRows = 2;
  static constexpr bool kPacksOnTheWay = false;
  static Factor load_b(const float* from) { return _mm512_loadu_si512(from); }
  static Factor broadcast_a(const float* from) {
    typedef int Bits __attribute__((may_alias));
    return _mm512_set1_epi32(*reinterpret_cast<const Bits*>(from));
  }
  static Vector add_product(Vector sum, Factor a, Factor b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
};

/// Up to 32 elements of a row of B, zeros behind them.
inline __m512i load_row(const void* from, std::int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(from);
  return count > 0 ? _mm512_maskz_loadu_epi16((1u << count) - 1, from) : _mm512_setzero_si512();
}

/// Two rows of bfloat16 -> one of pairs.
void copy_pairs(const PanelCopy<float>& copy) {
  alignas(64) short order[2][32];
  for (int i = 0; i < 32; ++i) {
    order[0][i] = static_cast<short>(i / 2 + (i % 2 != 0 ? 32 : 0));
    order[1][i] = static_cast<short>(order[0][i] + 16);
  }
  const __m512i low = _mm512_load_si512(order[0]), high = _mm512_load_si512(order[1]);
  const char* from = static_cast<const char*>(copy.from);
  float* to = copy.to;
  for (std::int64_t row = 0; row < copy.rows; row += 2, from += 2 * copy.ldf_bytes, to += copy.sliver) {
    for (std::int64_t ahead = row + kRowsAhead; ahead < row + kRowsAhead + 2 && ahead < copy.rows; ++ahead) {
      const char* line = from + (ahead - row) * copy.ldf_bytes;
      for (std::int64_t byte = 0; byte < 2 * copy.columns; byte += 64) __builtin_prefetch(line + byte, 0, 3);
    }
    const bool whole = row + 1 < copy.rows;
    float* sliver = to;
    for (std::int64_t j0 = 0; j0 < copy.columns; j0 += copy.sliver, sliver += copy.sliver_stride) {
      const std::int64_t end = j0 + copy.sliver < copy.columns ? j0 + copy.sliver : copy.columns;
      for (std::int64_t j = j0; j < end; j += 32) {
        const __m512i first = load_row(from + 2 * j, end - j);
        const __m512i second = whole ? load_row(from + copy.ldf_bytes + 2 * j, end - j) : _mm512_setzero_si512();
        _mm512_storeu_si512(sliver + (j - j0), _mm512_permutex2var_epi16(first, low, second));
        if (end - j > 16) _mm512_storeu_si512(sliver + (j - j0) + 16, _mm512_permutex2var_epi16(first, high, second));
      }
    }
  }
}

constexpr Kernels<float> make_kernels() {
  Kernels<float> kernels{};
  kernels.lanes = 16;
  kernels.vectors = 4;
  kernels.chunk = 128;
  fill_rows<DotPairs, 1, 8>(kernels);
  fill_rows<DotPairs, 2, 8>(kernels);
  fill_rows<DotPairs, 3, 6>(kernels);
  fill_rows<DotPairs, 4, 6>(kernels);
  kernels.copy_panel = copy_pairs;
  kernels.transpose = transpose<float>;
  return kernels;
}

}  // namespace

constexpr Kernels<float> kAvx512Bfloat16Kernels = make_kernels();

}  // namespace maskmm::cpu
