#include "element_type.hpp"

#include <bit>
#include <cstring>

#include "maskmm/error.hpp"

namespace maskmm::python {
namespace {

std::optional<Dtype> integer_dtype(bool is_signed, std::int64_t bytes) {
  switch (bytes) {
    case 1:
      return is_signed ? Dtype::int8 : Dtype::uint8;
    case 2:
      return is_signed ? Dtype::int16 : Dtype::uint16;
    case 4:
      return is_signed ? Dtype::int32 : Dtype::uint32;
    case 8:
      return is_signed ? Dtype::int64 : Dtype::uint64;
    default:
      return std::nullopt;
  }
}

}  // namespace

std::optional<Dtype> dtype_of_format(const char* format, std::int64_t item_bytes) {
  if (format == nullptr) return Dtype::uint8;
  constexpr bool little = std::endian::native == std::endian::little;
  if (*format != '\0' && std::strchr("@=^<>!", *format) != nullptr) {
    const bool foreign = little ? *format == '>' || *format == '!' : *format == '<';
    if (foreign && item_bytes != 1) return std::nullopt;
    ++format;
  }
  if (std::strcmp(format, "bfloat16") == 0) return Dtype::bfloat16;  // of MLX; Python's notation has none
  const bool is_complex = *format == 'Z';
  if (is_complex) ++format;
  if (format[0] == '\0' || format[1] != '\0') return std::nullopt;
  if (is_complex) {
    if (*format == 'f') return Dtype::complex64;
    return *format == 'd' ? std::optional(Dtype::complex128) : std::nullopt;
  }
  switch (*format) {
    case '?':
      return Dtype::bool_;
    case 'b':
    case 'h':
    case 'i':
    case 'l':
    case 'q':
    case 'n':
      return integer_dtype(true, item_bytes);
    case 'B':
    case 'H':
    case 'I':
    case 'L':
    case 'Q':
    case 'N':
      return integer_dtype(false, item_bytes);
    case 'e':
      return Dtype::float16;
    case 'f':
      return Dtype::float32;
    case 'd':
      return Dtype::float64;
    case 'F':
      return Dtype::complex64;
    case 'D':
      return Dtype::complex128;
    default:
      return std::nullopt;
  }
}

std::optional<Dtype> dtype_of_dlpack(nb::dlpack::dtype dtype) {
  if (dtype.lanes != 1 || dtype.bits % 8 != 0) return std::nullopt;
  switch (static_cast<nb::dlpack::dtype_code>(dtype.code)) {
    case nb::dlpack::dtype_code::Bool:
      return dtype.bits == 8 ? std::optional(Dtype::bool_) : std::nullopt;
    case nb::dlpack::dtype_code::Int:
      return integer_dtype(true, dtype.bits / 8);
    case nb::dlpack::dtype_code::UInt:
      return integer_dtype(false, dtype.bits / 8);
    case nb::dlpack::dtype_code::Float:
      if (dtype.bits == 16) return Dtype::float16;
      if (dtype.bits == 32) return Dtype::float32;
      return dtype.bits == 64 ? std::optional(Dtype::float64) : std::nullopt;
    case nb::dlpack::dtype_code::Bfloat:
      return dtype.bits == 16 ? std::optional(Dtype::bfloat16) : std::nullopt;
    case nb::dlpack::dtype_code::Complex:
      if (dtype.bits == 64) return Dtype::complex64;
      return dtype.bits == 128 ? std::optional(Dtype::complex128) : std::nullopt;
    default:
      return std::nullopt;
  }
}

Dtype expect_dtype(const char* argument, const char* dtype_name) {
  for (int code = 0; code <= static_cast<int>(Dtype::complex128); ++code) {
    const auto dtype = static_cast<Dtype>(code);
    if (std::strcmp(dtype_name, name_of(dtype)) == 0) return dtype;
  }
  refuse_type(argument, dtype_name);
}

void refuse_type(const std::string& argument, const std::string& dtype_name) {
  const bool is_mask = argument.starts_with("mask");
  throw type_error(argument + ": expected " +
                   (is_mask ? "bool, an integer or a float type" : "float16, bfloat16, float32 or float64") + ", got " +
                   dtype_name);
}

}  // namespace maskmm::python
