#include "device_view.hpp"

#include <nanobind/stl/string.h>

#include <new>
#include <string>
#include <utility>

#include "core/execute.hpp"
#include "element_type.hpp"
#include "maskmm/array.hpp"
#include "maskmm/error.hpp"
#include "without_gil.hpp"

namespace maskmm::python {
namespace {

using std::string;

nb::handle device_view_type;

Dims dims_of(nb::handle tuple, std::int64_t unit = 1) {
  Dims dims;
  const Py_ssize_t count = PyTuple_Size(tuple.ptr());
  if (count < 0) throw nb::python_error();
  for (Py_ssize_t i = 0; i < count; ++i) {
    const long long value = PyLong_AsLongLong(PyTuple_GetItem(tuple.ptr(), i));
    if (value == -1 && PyErr_Occurred()) throw nb::python_error();
    dims.push_back(value * unit);
  }
  return dims;
}

void* address_of(nb::handle integer) {
  void* const address = PyLong_AsVoidPtr(integer.ptr());
  if (address == nullptr && PyErr_Occurred()) throw nb::python_error();
  return address;
}

void init(DeviceView* self, const char* name, nb::handle address, const char* dtype, nb::handle shape,
          nb::handle strides, std::int64_t stride_bytes, int device_index) {
  const Dtype type = expect_dtype(name, dtype);
  const std::int64_t unit = stride_bytes == 0 ? static_cast<std::int64_t>(size_of(type)) : stride_bytes;
  const View view(address_of(address), type, dims_of(shape), dims_of(strides, unit), Device(Device::gpu, device_index));
  new (self) DeviceView{view, {}};
}

DeviceView from_dlpack(const char* name, nb::handle capsule, const char* dtype_name) {
  DeviceView result;
  if (!nb::try_cast(capsule, result.tensor)) {
    throw type_error(string(name) + ": no access through DLPack: expected a capsule of version 1 or before");
  }
  const auto dtype = dtype_of_dlpack(result.tensor.dtype());
  if (!dtype) refuse_type(name, dtype_name);
  result.view = view_of_tensor(result.tensor, *dtype);
  result.view.device = Device(Device::gpu, result.tensor.device_id());
  return result;
}

nb::dlpack::dtype dlpack_dtype(Dtype dtype) {
  const auto code = dtype == Dtype::bfloat16 ? nb::dlpack::dtype_code::Bfloat : nb::dlpack::dtype_code::Float;
  return {static_cast<std::uint8_t>(code), static_cast<std::uint8_t>(8 * size_of(dtype)), 1};
}

/// Memory of ours, as an object that offers DLPack.
nb::object own_result(const core::Problem& problem, MutableView& view) {
  array result(problem.result_shape, problem.result_dtype, problem.stream.device);
  view = result.mutable_view();
  std::size_t shape[kMaxDims];
  for (int axis = 0; axis < view.ndim(); ++axis) shape[axis] = static_cast<std::size_t>(view.shape[axis]);
  const nb::capsule owner(new array(result), [](void* memory) noexcept { delete static_cast<array*>(memory); });
  return nb::cast(nb::ndarray<nb::array_api>(const_cast<void*>(view.data), static_cast<std::size_t>(view.ndim()), shape,
                                             owner, nullptr, dlpack_dtype(view.dtype), nb::device::cuda::value,
                                             view.device.index));
}

nb::object result_of(nb::handle empty, const core::Problem& problem, MutableView& view) {
  const nb::object shape = nb::steal(PyTuple_New(problem.result_shape.size()));
  if (!shape.is_valid()) throw nb::python_error();
  for (int axis = 0; axis < problem.result_shape.size(); ++axis) {
    PyTuple_SetItem(shape.ptr(), axis, PyLong_FromLongLong(problem.result_shape[axis]));
  }
  const Device device = problem.stream.device;
  const int device_index = device.type == DeviceType::gpu ? device.index : -1;
  const nb::object made = empty(shape, name_of(problem.result_dtype), device_index);
  view = MutableView(address_of(made[1]), problem.result_dtype, problem.result_shape, device);
  return made[0];
}

core::Problem problem_of(const Call& call, void* current_stream) {
  core::Problem problem = call.problem();
  if (!call.stream().given || call.stream().device_only) problem.stream.handle = current_stream;
  return problem;
}

}  // namespace

const View* view_of_device_view(nb::handle object) {
  return object.type().is(device_view_type) ? &nb::inst_ptr<DeviceView>(object)->view : nullptr;
}

nb::object execute_views(const PythonArguments& arguments, void* current_stream, nb::handle empty) {
  const Call call(arguments);
  const core::Problem problem = problem_of(call, current_stream);
  const bool by_dlpack = empty.is_none();
  nb::object result = nb::none();
  MutableView view;
  if (problem.out) {
    view = *problem.out;
  } else {
    result = by_dlpack ? own_result(problem, view) : result_of(empty, problem, view);
  }
  without_gil([&] {
    if (by_dlpack && problem.stream.handle != nullptr) synchronize(Stream{problem.stream.device});  // allocated there
    core::execute(problem, view);
    if (by_dlpack) synchronize(problem.stream);
  });
  return result;
}

Explanation explain_views(const PythonArguments& arguments, void* current_stream) {
  const Call call(arguments);
  const core::Problem problem = problem_of(call, current_stream);
  Explanation explanation;
  without_gil([&] { explanation = core::explain(problem); });
  return explanation;
}

void bind_device_view(nb::module_& module) {
  nb::class_<DeviceView> type(module, "DeviceView",
                              "An array on a GPU, described by a front; see python/device_view.hpp.");
  type.def("__init__", &init, nb::arg("name"), nb::arg("address"), nb::arg("dtype"), nb::arg("shape"),
           nb::arg("strides"), nb::arg("stride_bytes"), nb::arg("device_index"),
           nb::sig("def __init__(self, name: str, address: int, dtype: str, shape: tuple[int, ...], "
                   "strides: tuple[int, ...], stride_bytes: int, device_index: int) -> None"),
           "name: the argument, for messages. Strides count in units of stride_bytes; 0: in elements.");
  type.def_static("from_dlpack", &from_dlpack, nb::arg("name"), nb::arg("capsule"), nb::arg("dtype"),
                  nb::sig("def from_dlpack(name: str, capsule: object, dtype: str) -> DeviceView"),
                  "dtype: what messages call a type that is refused.");
  device_view_type = type;
}

}  // namespace maskmm::python
