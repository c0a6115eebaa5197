// The arguments that are not arrays. Everything here needs the GIL and throws type_error or shape_error, beginning with
// the argument's name.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <string>

#include "maskmm/block_masked_mm.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::python {

namespace nb = nanobind;

/// What messages call an object that does not do: its class.
std::string class_name(nb::handle object);
/// A Python int, which must fit.
std::int64_t to_int64(const char* name, nb::handle integer);

/// An int, or a tuple of three.
BlockSize parse_block_size(nb::handle object);
/// None, a Stream, a Device or a DeviceType.
StreamOrDevice parse_stream(nb::handle object);
/// A cudaStream_t as an int.
void* parse_stream_handle(nb::handle object);
/// A Stream and nothing else.
Stream parse_own_stream(nb::handle object);
/// A Device, or a DeviceType for its device 0.
Device parse_device(nb::handle object);
/// "ieee" or "tf32".
Precision parse_precision(nb::handle object);
/// A number of threads, of any sign.
int parse_thread_count(nb::handle object);

}  // namespace maskmm::python
