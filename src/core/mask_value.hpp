// Elements as numbers: one definition of cast, "live?" and scale for host and device.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "maskmm/dtype.hpp"

#ifdef __CUDACC__
#define MASKMM_HOST_DEVICE __host__ __device__ inline
#else
#define MASKMM_HOST_DEVICE inline
#endif

namespace maskmm::core {

/// IEEE binary16 to float32, exactly.
MASKMM_HOST_DEVICE float float16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = (bits & 0x8000u) << 16;
  std::uint32_t exponent = (bits >> 10) & 0x1f;
  std::uint32_t fraction = bits & 0x3ffu;
  std::uint32_t result;
  if (exponent == 0x1f) {
    result = sign | 0x7f800000u | (fraction << 13);
  } else if (exponent != 0) {
    result = sign | ((exponent + 112) << 23) | (fraction << 13);
  } else if (fraction == 0) {
    result = sign;
  } else {
    exponent = 113;
    while (!(fraction & 0x400u)) {
      fraction <<= 1;
      --exponent;
    }
    result = sign | (exponent << 23) | ((fraction & 0x3ffu) << 13);
  }
  float value;
  memcpy(&value, &result, sizeof value);
  return value;
}

template <class T>
MASKMM_HOST_DEVICE T load_unaligned(const void* address) {
  T value;
  memcpy(&value, address, sizeof value);
  return value;
}

/// The element at `address`, converted once to T (float or double). A bool is 0 or 1, whatever its nonzero byte.
template <class T>
MASKMM_HOST_DEVICE T element_as(const void* address, Dtype dtype) {
  static_assert(std::is_same_v<T, float> || std::is_same_v<T, double>);
  switch (dtype) {
    case Dtype::bool_:
      return load_unaligned<std::uint8_t>(address) != 0 ? T(1) : T(0);
    case Dtype::uint8:
      return static_cast<T>(load_unaligned<std::uint8_t>(address));
    case Dtype::int8:
      return static_cast<T>(load_unaligned<std::int8_t>(address));
    case Dtype::uint16:
      return static_cast<T>(load_unaligned<std::uint16_t>(address));
    case Dtype::int16:
      return static_cast<T>(load_unaligned<std::int16_t>(address));
    case Dtype::uint32:
      return static_cast<T>(load_unaligned<std::uint32_t>(address));
    case Dtype::int32:
      return static_cast<T>(load_unaligned<std::int32_t>(address));
    case Dtype::uint64:
      return static_cast<T>(load_unaligned<std::uint64_t>(address));
    case Dtype::int64:
      return static_cast<T>(load_unaligned<std::int64_t>(address));
    case Dtype::float16:
      return static_cast<T>(float16_to_float(load_unaligned<std::uint16_t>(address)));
    case Dtype::bfloat16: {
      const std::uint32_t bits = std::uint32_t{load_unaligned<std::uint16_t>(address)} << 16;
      return static_cast<T>(load_unaligned<float>(&bits));
    }
    case Dtype::float32:
      return static_cast<T>(load_unaligned<float>(address));
    case Dtype::float64:
      return static_cast<T>(load_unaligned<double>(address));
    default:
      return T(0);  // complex never gets past make_problem
  }
}

/// Whether a block with this mask value is kept: -0.0 is dead, NaN is live. The value must be that of element_as<T>
/// with T the type that the sums run in, since a conversion may underflow to zero.
template <class T>
MASKMM_HOST_DEVICE bool is_live(T value) {
  return !(value == T(0));
}

}  // namespace maskmm::core
