// Element types.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace maskmm {

enum class Dtype : std::uint8_t {
  bool_,
  uint8,
  int8,
  uint16,
  int16,
  uint32,
  int32,
  uint64,
  int64,
  float16,
  bfloat16,
  float32,
  float64,
  complex64,   // only named: every function refuses it
  complex128,  // only named: every function refuses it
};

/// Bytes of one element.
std::size_t size_of(Dtype dtype);
/// The NumPy name: "float32", "bool", ...
const char* name_of(Dtype dtype);
/// float16, bfloat16, float32 or float64.
bool is_floating(Dtype dtype);
/// complex64 or complex128.
bool is_complex(Dtype dtype);

/// IEEE binary16, as storage. Conversions round to nearest even.
struct float16_t {
  std::uint16_t bits;
  float16_t() = default;
  explicit float16_t(float value);
  explicit operator float() const;
};

/// The upper half of a float32, as storage. Conversions round to nearest even.
struct bfloat16_t {
  std::uint16_t bits;
  bfloat16_t() = default;
  explicit bfloat16_t(float value);
  explicit operator float() const { return std::bit_cast<float>(std::uint32_t{bits} << 16); }
};

/// dtype_of<T>: the Dtype of a C++ element type.
template <class T>
inline constexpr Dtype dtype_of = T::unsupported_element_type;
template <>
inline constexpr Dtype dtype_of<bool> = Dtype::bool_;
template <>
inline constexpr Dtype dtype_of<std::uint8_t> = Dtype::uint8;
template <>
inline constexpr Dtype dtype_of<std::int8_t> = Dtype::int8;
template <>
inline constexpr Dtype dtype_of<std::uint16_t> = Dtype::uint16;
template <>
inline constexpr Dtype dtype_of<std::int16_t> = Dtype::int16;
template <>
inline constexpr Dtype dtype_of<std::uint32_t> = Dtype::uint32;
template <>
inline constexpr Dtype dtype_of<std::int32_t> = Dtype::int32;
template <>
inline constexpr Dtype dtype_of<std::uint64_t> = Dtype::uint64;
template <>
inline constexpr Dtype dtype_of<std::int64_t> = Dtype::int64;
template <>
inline constexpr Dtype dtype_of<float16_t> = Dtype::float16;
template <>
inline constexpr Dtype dtype_of<bfloat16_t> = Dtype::bfloat16;
template <>
inline constexpr Dtype dtype_of<float> = Dtype::float32;
template <>
inline constexpr Dtype dtype_of<double> = Dtype::float64;

}  // namespace maskmm
