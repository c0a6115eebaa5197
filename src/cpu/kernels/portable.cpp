// The fall-back: vectors of 16 bytes, which every compiler maps to what its target has.
#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 16;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/one_row.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/reduction.inl"

inline void widen_float16_row(const void* from, std::int64_t count, float* to) {
  const Bits16::type* bits = static_cast<const Bits16::type*>(from);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t sign = (bits[i] & 0x8000u) << 16, magnitude = bits[i] & 0x7fffu;
    float value;
    if (magnitude >= 0x7c00) {
      value = __builtin_bit_cast(float, (magnitude << 13) | 0x7f800000u);
    } else {  // moves the exponent's bias by 112, which also normalises subnormals
      value = __builtin_bit_cast(float, magnitude << 13) * 0x1p112f;
    }
    to[i] = __builtin_bit_cast(float, __builtin_bit_cast(std::uint32_t, value) | sign);
  }
}

inline void narrow_float16_row(const float* from, std::int64_t count, void* to) {
  Bits16::type* bits = static_cast<Bits16::type*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::uint32_t value = __builtin_bit_cast(std::uint32_t, from[i]);
    const std::uint32_t sign = (value >> 16) & 0x8000u, magnitude = value & 0x7fffffffu;
    std::uint32_t half;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
    } else if (magnitude >= 0x477ff000u) {  // rounds to 65536 or more
      half = 0x7c00u;
    } else if (magnitude >= 0x38800000u) {
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1)) >> 13;
    } else {  // subnormal: adding 0.5 rounds to its last place, 2^-24
      const float shifted = __builtin_bit_cast(float, magnitude) + 0.5f;
      half = __builtin_bit_cast(std::uint32_t, shifted) - 0x3f000000u;
    }
    bits[i] = static_cast<std::uint16_t>(sign | half);
  }
}

template <class T>
constexpr Kernels<T> make_kernels() {
  Kernels<T> kernels{};
  kernels.lanes = Simd<T>::kLanes;
  kernels.vectors = 2;
  kernels.sliver_vectors = 2;
  kernels.chunk = 256;
  kernels.long_chunk = 256;
  fill_rows<MultiplyAdd<T>, 1, 8>(kernels);
  fill_rows<MultiplyAdd<T>, 2, 4>(kernels);
  kernels.copy_panel = copy_panel<T>;
  kernels.transpose = transpose<T>;
  kernels.add_row = add_row<T>;
  kernels.sum_products = sum_products<T>;
  return kernels;
}

}  // namespace

constexpr KernelSet kPortableKernels{"portable",
                                     "nothing special",
                                     make_kernels<float>(),
                                     make_kernels<double>(),
                                     nullptr,
                                     nullptr,
                                     widen_rows<widen_float16_row>,
                                     widen_rows<widen_bfloat16_row>,
                                     narrow_rows<narrow_float16_row>,
                                     narrow_rows<narrow_bfloat16_row>};

}  // namespace maskmm::cpu
