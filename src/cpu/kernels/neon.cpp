// NEON (AArch64): 32 registers of 16 bytes.
#include <arm_neon.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 16;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/one_row.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/reduction.inl"

inline void widen_float16_row(const void* from, std::int64_t count, float* to) {
  typedef __fp16 Half __attribute__((aligned(1), may_alias));
  const Half* half = static_cast<const Half*>(from);
  for (std::int64_t i = 0; i < count; ++i) to[i] = half[i];
}

inline void narrow_float16_row(const float* from, std::int64_t count, void* to) {
  typedef __fp16 Half __attribute__((aligned(1), may_alias));
  Half* half = static_cast<Half*>(to);
  for (std::int64_t i = 0; i < count; ++i) half[i] = static_cast<__fp16>(from[i]);
}

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> kernels{};
  kernels.lanes = Simd<T>::kLanes;
  kernels.vectors = 4;
  kernels.sliver_vectors = 4;
  kernels.chunk = 256;
  kernels.long_chunk = 256;
  fill_rows<MultiplyAdd<T>, 1, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 2, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 3, 6>(kernels);
  fill_rows<MultiplyAdd<T>, 4, 6>(kernels);
  kernels.copy_panel = copy_panel<T>;
  kernels.transpose = transpose<T>;
  kernels.add_row = add_row<T>;
  kernels.sum_products = sum_products<T>;
  return kernels;
}

}  // namespace

constexpr KernelSet kNeonKernels{"neon",
                                 "NEON",
                                 make_kernels<float>(),
                                 make_kernels<double>(),
                                 nullptr,
                                 nullptr,
                                 widen_rows<widen_float16_row>,
                                 widen_rows<widen_bfloat16_row>,
                                 narrow_rows<narrow_float16_row>,
                                 narrow_rows<narrow_bfloat16_row>};

}  // namespace maskmm::cpu
