// Arrays from Python and back: they become views of the core without a copy. Everything here needs the GIL.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>

#include "maskmm/view.hpp"

namespace maskmm::python {

namespace nb = nanobind;

/// Keeps the elements that a view was made of alive and in place. For one view.
class Keeper {
 public:
  Keeper() = default;
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() {
    if (buffer.obj != nullptr) PyBuffer_Release(&buffer);
  }

  Py_buffer buffer{};            // from the buffer protocol, or
  nb::ndarray<nb::ro> tensor;    // from DLPack, or
  std::int64_t scalar_bits = 0;  // the value of a Python number
};

/// For the module's initialisation, before anything else here: no thread must wait for another that imports.
void load_numpy();

/// What DLPack lent; the view says that it is on the CPU.
View view_of_tensor(const nb::ndarray<nb::ro>& tensor, Dtype dtype);

/// The elements of a DeviceView, of a NumPy array, or of anything else with the buffer protocol or DLPack on the CPU.
/// The name of the argument begins every error. Throws type_error, device_error.
View borrow(nb::handle object, const char* name, Keeper& keeper);
/// The same for a mask, which may also be a bool, an int or a float.
View borrow_mask(nb::handle object, const char* name, Keeper& keeper);
/// `out`, a NumPy array or another buffer: throws shape_error where it is read-only. DLPack does not do: exporters hand
/// out arrays that must not change without saying so.
MutableView borrow_out(nb::handle object, Keeper& keeper);

/// An uninitialised row-major NumPy array, and where its elements are. bfloat16 takes its type from ml_dtypes.
nb::object empty_array(const Dims& shape, Dtype dtype, MutableView& view);

}  // namespace maskmm::python
