// Arrays on a GPU as the Python fronts describe them, and the calls that take them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include "call.hpp"
#include "maskmm/view.hpp"

namespace maskmm::python {

/// An array on a GPU: maskmm._maskmm.DeviceView. Who made it keeps the elements alive; with DLPack it does so itself.
struct DeviceView {
  View view;
  nb::ndarray<nb::ro> tensor;  // from DLPack
};

/// The view of a DeviceView; null where the object is none.
const View* view_of_device_view(nb::handle object);

/// block_masked_mm or block_masked_dot, for operands that are DeviceViews or come with a table (tensor_table.hpp).
/// Everything is enqueued on the stream that was given, or else on `current_stream`, a cudaStream_t.
///
/// `empty(shape, dtype, device_index)` returns an uninitialised row-major array of the caller's framework and the
/// address of its elements, in CPU memory where the index is -1; the array is returned, and with `out` None. Where
/// `empty` is None, the result is an object that offers DLPack, and the call waits for the stream, so that what DLPack
/// lent can be given back.
nb::object execute_views(const PythonArguments& arguments, void* current_stream, nb::handle empty);
/// What explain needs on the same arguments.
Explanation explain_views(const PythonArguments& arguments, void* current_stream);

void bind_device_view(nb::module_& module);

}  // namespace maskmm::python
