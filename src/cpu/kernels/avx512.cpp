// AVX-512: 32 registers of 64 bytes.
#include <immintrin.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 64;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/one_row.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/reduction.inl"
#include "cpu/kernels/single_vector.inl"

inline void widen_float16_row(const void* from, std::int64_t count, float* to) {
  const char* bytes = static_cast<const char*>(from);
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    _mm512_storeu_ps(to + i, _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes + 2 * i))));
  }
  if (i < count) {
    const __mmask16 tail = static_cast<__mmask16>((1u << (count - i)) - 1);
    _mm512_mask_storeu_ps(to + i, tail, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(tail, bytes + 2 * i)));
  }
}

inline void narrow_float16_row(const float* from, std::int64_t count, void* to) {
  char* bytes = static_cast<char*>(to);
  for (std::int64_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = count - i >= 16 ? 0xffff : static_cast<__mmask16>((1u << (count - i)) - 1);
    const __m256i half = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes, from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm256_mask_storeu_epi16(bytes + 2 * i, lanes, half);
  }
}

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> kernels{};
  kernels.lanes = Simd<T>::kLanes;
  kernels.vectors = 4;
  kernels.sliver_vectors = 1;
  kernels.chunk = 128;
  kernels.long_chunk = 2048 / sizeof(T);
  fill_rows<MultiplyAdd<T>, 1, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 2, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 3, 6>(kernels);
  fill_rows<MultiplyAdd<T>, 4, 6>(kernels);
  fill_rows_down<MultiplyAdd<T>, 1, 8>(kernels);
  fill_rows_down<MultiplyAdd<T>, 2, 8>(kernels);
  fill_rows_down<MultiplyAdd<T>, 3, 6>(kernels);
  fill_rows_down<MultiplyAdd<T>, 4, 6>(kernels);
  fill_wide_rows<MultiplyAdd<T>, 5, 16>(kernels);
  if constexpr (sizeof(T) == sizeof(float)) {
    fill_narrow<1, 8>(kernels);
    fill_narrow<2, 6>(kernels);
  }
  kernels.copy_panel = copy_panel<T>;
  kernels.transpose = transpose<T>;
  kernels.add_row = add_row<T>;
  kernels.sum_products = sum_products<T>;
  return kernels;
}

}  // namespace

constexpr KernelSet kAvx512Kernels{"avx512",
                                   "AVX-512 F, BW, DQ and VL",
                                   make_kernels<float>(),
                                   make_kernels<double>(),
                                   nullptr,
                                   nullptr,
                                   widen_rows<widen_float16_row>,
                                   widen_rows<widen_bfloat16_row>,
                                   narrow_rows<narrow_float16_row>,
                                   narrow_rows<narrow_bfloat16_row>};

}  // namespace maskmm::cpu
