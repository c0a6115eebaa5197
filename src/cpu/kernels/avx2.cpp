// AVX2 with FMA and F16C: 16 registers of 32 bytes.
#include <immintrin.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 32;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/one_row.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/reduction.inl"

inline void widen_float16_row(const void* from, std::int64_t count, float* to) {
  const char* bytes = static_cast<const char*>(from);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    _mm256_storeu_ps(to + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes + 2 * i))));
  }
  const Bits16::type* bits = static_cast<const Bits16::type*>(from);
  for (; i < count; ++i) to[i] = _cvtsh_ss(bits[i]);
}

inline void narrow_float16_row(const float* from, std::int64_t count, void* to) {
  char* bytes = static_cast<char*>(to);
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m128i half = _mm256_cvtps_ph(_mm256_loadu_ps(from + i), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes + 2 * i), half);
  }
  Bits16::type* bits = static_cast<Bits16::type*>(to);
  for (; i < count; ++i) bits[i] = _cvtss_sh(from[i], _MM_FROUND_TO_NEAREST_INT);
}

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> kernels{};
  kernels.lanes = Simd<T>::kLanes;
  kernels.vectors = 2;
  kernels.sliver_vectors = 2;
  kernels.chunk = 256;
  kernels.long_chunk = 2048 / sizeof(T);
  fill_rows<MultiplyAdd<T>, 1, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 2, 6>(kernels);
  fill_wide_rows<MultiplyAdd<T>, 3, 12>(kernels);
  kernels.copy_panel = copy_panel<T>;
  kernels.transpose = transpose<T>;
  kernels.add_row = add_row<T>;
  kernels.sum_products = sum_products<T>;
  return kernels;
}

}  // namespace

constexpr KernelSet kAvx2Kernels{"avx2",
                                 "AVX2, FMA and F16C",
                                 make_kernels<float>(),
                                 make_kernels<double>(),
                                 nullptr,
                                 nullptr,
                                 widen_rows<widen_float16_row>,
                                 widen_rows<widen_bfloat16_row>,
                                 narrow_rows<narrow_float16_row>,
                                 narrow_rows<narrow_bfloat16_row>};

}  // namespace maskmm::cpu
