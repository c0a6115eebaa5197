// Element types, from the notations that arrays come with. Nothing where the core has no name for a type.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>

#include "maskmm/dtype.hpp"

namespace maskmm::python {

namespace nb = nanobind;

/// From the buffer protocol's format, in the notation of Python's struct module.
std::optional<Dtype> dtype_of_format(const char* format, std::int64_t item_bytes);
std::optional<Dtype> dtype_of_dlpack(nb::dlpack::dtype dtype);

}  // namespace maskmm::python
