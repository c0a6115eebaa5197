#include "maskmm/dtype.hpp"

#include "core/mask_value.hpp"

namespace maskmm {

std::size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::bool_:
    case Dtype::uint8:
    case Dtype::int8:
      return 1;
    case Dtype::uint16:
    case Dtype::int16:
    case Dtype::float16:
    case Dtype::bfloat16:
      return 2;
    case Dtype::uint32:
    case Dtype::int32:
    case Dtype::float32:
      return 4;
    case Dtype::uint64:
    case Dtype::int64:
    case Dtype::float64:
    case Dtype::complex64:
      return 8;
    case Dtype::complex128:
      return 16;
  }
  return 0;
}

const char* name_of(Dtype dtype) {
  static constexpr const char* kNames[] = {"bool",     "uint8",   "int8",    "uint16",    "int16",
                                           "uint32",   "int32",   "uint64",  "int64",     "float16",
                                           "bfloat16", "float32", "float64", "complex64", "complex128"};
  return kNames[static_cast<int>(dtype)];
}

bool is_floating(Dtype dtype) { return dtype >= Dtype::float16 && dtype <= Dtype::float64; }

bool is_complex(Dtype dtype) { return dtype == Dtype::complex64 || dtype == Dtype::complex128; }

float16_t::float16_t(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (word >> 16) & 0x8000u;
  const std::uint32_t magnitude = word & 0x7fffffffu;
  std::uint32_t half;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u | ((magnitude >> 13) & 0x3ffu);
  } else if (magnitude >= 0x477ff000u) {  // rounds past the largest half
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {  // a normal half
    const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
    half = (rounded - 0x38000000u) >> 13;
  } else if (magnitude >= 0x33000000u) {  // a subnormal half: shift the significand with its implicit one into place
    const std::uint32_t shift = 126u - (magnitude >> 23);
    const std::uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
    const std::uint32_t below = significand & ((1u << shift) - 1u);
    const std::uint32_t tie = 1u << (shift - 1u);
    half = significand >> shift;
    half += below > tie || (below == tie && (half & 1u));
  } else {
    half = 0;
  }
  bits = static_cast<std::uint16_t>(sign | half);
}

float16_t::operator float() const { return core::float16_to_float(bits); }

bfloat16_t::bfloat16_t(float value) {
  const std::uint32_t word = std::bit_cast<std::uint32_t>(value);
  if ((word & 0x7fffffffu) > 0x7f800000u) {
    bits = static_cast<std::uint16_t>((word >> 16) | 0x40u);
  } else {
    bits = static_cast<std::uint16_t>((word + 0x7fffu + ((word >> 16) & 1u)) >> 16);
  }
}

}  // namespace maskmm
