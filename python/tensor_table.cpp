#include "tensor_table.hpp"

#include <nanobind/ndarray.h>

#include <cstdint>
#include <span>
#include <string>

#include "element_type.hpp"
#include "maskmm/error.hpp"
#include "parse.hpp"

namespace maskmm::python {
namespace {

using std::string;

/// DLPackExchangeAPI of dlpack.h, version 1.3: what of it is used here.
struct Table {
  std::uint32_t major, minor;
  Table* previous;
  void* managed_tensor_allocator;
  void* managed_tensor_from_py_object_no_sync;
  void* managed_tensor_to_py_object_no_sync;
  int (*dltensor_from_py_object_no_sync)(void* object, nb::dlpack::dltensor* out);
};

constexpr std::uint32_t kMajor = 1;

// The type and its table, kept for the life of the process. One row: only torch publishes a table that is of use here.
PyTypeObject* registered_type = nullptr;
const Table* registered_table = nullptr;

/// torch's lazy negation, which DLPack would hand over without a word of it.
bool has_negation_to_do(nb::handle object) {
  static const nb::handle is_neg = nb::object(nb::str("is_neg")).release();
  return nb::cast<bool>(object.attr(is_neg)());
}

string without_prefix(nb::handle object) {  // torch.float32: float32
  const nb::str full(object);
  const string text = full.c_str();
  return text.substr(text.find('.') + 1);
}

/// torch says why in words of its own, which name no argument.
[[noreturn]] void refuse(nb::handle object, const char* name) {
  PyErr_Clear();
  const string layout = without_prefix(object.attr("layout"));
  if (layout != "strided") {
    throw type_error(string(name) + ": expected a tensor with strided elements in memory, got a " + class_name(object) +
                     " of layout " + layout);
  }
  if (nb::cast<bool>(object.attr("is_nested"))) {
    throw type_error(string(name) + ": expected a tensor with strided elements in memory, got a nested one");
  }
  expect_dtype(name, without_prefix(object.attr("dtype")).c_str());
  const nb::object device = object.attr("device");
  throw device_error(string(name) + ": expected a tensor in CPU memory or on a CUDA GPU, got one on " +
                     nb::str(nb::handle(device)).c_str());
}

Dtype dtype_of(const nb::dlpack::dltensor& tensor, nb::handle object, const char* name) {
  if (const auto dtype = dtype_of_dlpack(tensor.dtype)) return *dtype;
  refuse_type(name, without_prefix(object.attr("dtype")));
}

Device device_of(const nb::dlpack::device& device, const char* name) {
  switch (device.device_type) {
    case nb::device::cpu::value:
    case nb::device::cuda_host::value:
      return Device();
    case nb::device::cuda::value:
    case nb::device::cuda_managed::value:
      return Device(Device::gpu, device.device_id);
    default:
      throw device_error(string(name) +
                         ": expected a tensor in CPU memory or on a CUDA GPU, got one on DLPack device type " +
                         std::to_string(device.device_type));
  }
}

}  // namespace

void register_table(nb::handle type, nb::handle table) {
  const auto* found = static_cast<const Table*>(PyCapsule_GetPointer(table.ptr(), "dlpack_exchange_api"));
  if (found == nullptr) throw nb::python_error();
  while (found != nullptr && found->major != kMajor) found = found->previous;
  if (found == nullptr || found->dltensor_from_py_object_no_sync == nullptr || !PyType_Check(type.ptr())) {
    throw type_error("table: expected one of DLPack 1 that lends tensors");
  }
  registered_type = reinterpret_cast<PyTypeObject*>(nb::borrow(type).release().ptr());
  registered_table = found;
}

std::optional<View> view_of_table(nb::handle object, const char* name) {
  if (registered_type == nullptr || !PyType_IsSubtype(Py_TYPE(object.ptr()), registered_type)) return std::nullopt;
  nb::dlpack::dltensor tensor;
  if (registered_table->dltensor_from_py_object_no_sync(object.ptr(), &tensor) != 0) refuse(object, name);
  if (has_negation_to_do(object)) {
    throw type_error(string(name) + ": a view with a negation still to be done; pass " + name + ".resolve_neg()");
  }
  View view;
  view.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  view.dtype = dtype_of(tensor, object, name);
  view.device = device_of(tensor.device, name);
  for (int axis = 0; axis < tensor.ndim; ++axis) {
    view.shape.push_back(tensor.shape[axis]);
    view.strides_bytes.push_back(tensor.strides[axis] * static_cast<std::int64_t>(size_of(view.dtype)));
  }
  return view;
}

}  // namespace maskmm::python
