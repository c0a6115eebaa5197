// Element types, from the notations that arrays come with. Nothing where the core has no name for a type.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <string>

#include "maskmm/dtype.hpp"

namespace maskmm::python {

namespace nb = nanobind;

/// From the buffer protocol's format, in the notation of Python's struct module.
std::optional<Dtype> dtype_of_format(const char* format, std::int64_t item_bytes);
std::optional<Dtype> dtype_of_dlpack(nb::dlpack::dtype dtype);
/// From NumPy's name of it. Throws type_error in the core's words where the core has no name for it.
Dtype expect_dtype(const char* argument, const char* dtype_name);
/// Throws type_error: in the words of the core, for types that it has no name for.
[[noreturn]] void refuse_type(const std::string& argument, const std::string& dtype_name);

}  // namespace maskmm::python
