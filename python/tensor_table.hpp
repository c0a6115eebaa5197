// Arrays that publish DLPack's C table (`__dlpack_c_exchange_api__` of their type, DLPack 1.3): they become views with
// no Python object in between. maskmm.torch registers torch.Tensor; nothing here is compiled against a framework.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>

#include "maskmm/view.hpp"

namespace maskmm::python {

namespace nb = nanobind;

/// From now on view_of_table knows arrays of this type. `table` is a capsule; throws type_error where it is none, or of
/// a version of DLPack that is not known.
void register_table(nb::handle type, nb::handle table);

/// The elements of an array of a registered type, wherever it lies; nothing for whatever else. The array keeps them
/// alive, and they are ready in the order of its framework's current stream. Throws type_error for what is not strided
/// elements in memory of the CPU or of a CUDA GPU.
std::optional<View> view_of_table(nb::handle object, const char* name);

}  // namespace maskmm::python
