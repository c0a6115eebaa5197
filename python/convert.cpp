#include "convert.hpp"

#include <bit>
#include <optional>
#include <string>

#include "device_view.hpp"
#include "element_type.hpp"
#include "maskmm/error.hpp"
#include "parse.hpp"
#include "tensor_table.hpp"

namespace maskmm::python {
namespace {

using std::string;

/// What is used of NumPy, kept for the life of the process.
struct NumPy {
  nb::handle ndarray = member("ndarray");
  nb::handle generic = member("generic");
  nb::handle empty = member("empty");
  nb::handle uint16 = dtype("uint16");
  nb::handle float16 = dtype("float16");
  nb::handle float32 = dtype("float32");
  nb::handle float64 = dtype("float64");

  static nb::handle member(const char* name) { return nb::object(nb::module_::import_("numpy").attr(name)).release(); }
  static nb::handle dtype(const char* name) { return nb::module_::import_("numpy").attr("dtype")(name).release(); }
};

const NumPy* numpy = nullptr;

nb::handle bfloat16_dtype() {
  static nb::handle dtype;
  if (!dtype.is_valid()) {
    try {
      const nb::object type = nb::module_::import_("ml_dtypes").attr("bfloat16");
      dtype = nb::module_::import_("numpy").attr("dtype")(type).release();
    } catch (nb::python_error& error) {
      nb::raise_from(error, PyExc_ImportError,
                     "a bfloat16 result needs the package ml_dtypes, which does not load: pip install ml_dtypes");
    }
  }
  return dtype;
}

/// How the object itself calls its element type; `otherwise` where it does not say.
string dtype_name(nb::handle object, const char* otherwise) {
  const nb::object dtype = nb::getattr(object, "dtype", nb::none());
  return dtype.is_none() ? otherwise : nb::str(dtype).c_str();
}

View view_of_buffer(const Py_buffer& buffer, Dtype dtype) {
  static_assert(sizeof(Py_ssize_t) == sizeof(std::int64_t));
  const auto dims = [&](const Py_ssize_t* values) {
    return Dims(std::span(reinterpret_cast<const std::int64_t*>(values), static_cast<std::size_t>(buffer.ndim)));
  };
  // Exporters may leave out what was asked for: ctypes has no strides, a plain block of bytes not even a shape.
  if (buffer.shape == nullptr && buffer.ndim != 0) return View(buffer.buf, dtype, {buffer.len / buffer.itemsize});
  if (buffer.strides == nullptr) return View(buffer.buf, dtype, dims(buffer.shape));
  return View(buffer.buf, dtype, dims(buffer.shape), dims(buffer.strides), Device());
}

bool get_buffer(nb::handle object, Keeper& keeper) {
  if (PyObject_GetBuffer(object.ptr(), &keeper.buffer, PyBUF_RECORDS_RO) == 0) return true;
  PyErr_Clear();
  return false;
}

void refuse_masked_array(nb::handle object, const char* name) {
  if (!nb::isinstance(object, nb::module_::import_("numpy.ma").attr("MaskedArray"))) return;
  throw type_error(string(name) + ": the mask of a NumPy masked array would be ignored; pass " + name + ".data or " +
                   name + ".filled(0)");
}

/// The buffer protocol has no bfloat16: the elements are lent as 16-bit integers.
View borrow_bfloat16(nb::handle object, const char* name, Keeper& keeper) {
  static nb::handle bfloat16;  // the type object met last, kept: comparing names is slow
  const nb::object dtype = object.attr("dtype");
  if (!dtype.is(bfloat16)) {
    if (dtype_name(object, "?") != "bfloat16") refuse_type(name, dtype_name(object, "?"));
    bfloat16 = nb::object(dtype).release();
  }
  const nb::object bits = object.attr("view")(numpy->uint16);
  if (PyObject_GetBuffer(bits.ptr(), &keeper.buffer, PyBUF_RECORDS_RO) != 0) throw nb::python_error();
  return view_of_buffer(keeper.buffer, Dtype::bfloat16);
}

bool is_true(nb::handle object) {
  const int truth = PyObject_IsTrue(object.ptr());
  if (truth < 0) throw nb::python_error();
  return truth != 0;
}

/// Refuses what DLPack would hand over without a word of it.
void check_tensor(nb::handle object, const char* name) {
  if (is_true(nb::getattr(object, "requires_grad", nb::bool_(false)))) {
    throw type_error(string(name) + ": requires grad, and gradients do not pass through NumPy arrays; pass " + name +
                     ".detach()");
  }
  if (nb::hasattr(object, "is_neg") && is_true(object.attr("is_neg")())) {
    throw type_error(string(name) + ": a view with a negation still to be done; pass " + name + ".resolve_neg()");
  }
  const nb::object device = object.attr("__dlpack_device__")()[0];
  if (!device.equal(nb::int_(nb::device::cpu::value)) && !device.equal(nb::int_(nb::device::cuda_host::value))) {
    throw device_error(string(name) + ": expected an array in CPU memory, got one on DLPack device type " +
                       nb::str(device).c_str());
  }
}

nb::object dlpack_capsule(nb::handle object) {
  try {
    return object.attr("__dlpack__")(nb::arg("max_version") = nb::make_tuple(1, 1));
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_TypeError)) throw;  // else: from before DLPack 1.0
  }
  return object.attr("__dlpack__")();
}

View borrow_dlpack(nb::handle object, const char* name, Keeper& keeper) {
  nb::object capsule;
  try {
    check_tensor(object, name);
    capsule = dlpack_capsule(object);
  } catch (nb::python_error& error) {
    if (!error.matches(PyExc_Exception)) throw;
    throw type_error(string(name) + ": no access through DLPack: " + nb::str(error.value()).c_str());
  }
  if (!nb::try_cast(capsule, keeper.tensor)) {
    throw type_error(string(name) + ": no access through DLPack: expected a capsule of version 1 or before");
  }
  const auto dtype = dtype_of_dlpack(keeper.tensor.dtype());
  if (!dtype) refuse_type(name, dtype_name(object, "?"));
  return view_of_tensor(keeper.tensor, *dtype);
}

/// A NumPy array, a scalar of NumPy's, or another object with the buffer protocol; nothing where it is neither.
std::optional<View> borrow_buffer(nb::handle object, const char* name, Keeper& keeper) {
  const bool is_numpy = object.type().is(numpy->ndarray) || nb::isinstance(object, numpy->ndarray);
  if (is_numpy && !object.type().is(numpy->ndarray)) refuse_masked_array(object, name);
  if (PyObject_CheckBuffer(object.ptr()) && get_buffer(object, keeper)) {
    const auto dtype = dtype_of_format(keeper.buffer.format, keeper.buffer.itemsize);
    if (!dtype) refuse_type(name, dtype_name(object, keeper.buffer.format));
    return view_of_buffer(keeper.buffer, *dtype);
  }
  if (is_numpy) return borrow_bfloat16(object, name, keeper);
  if (!nb::isinstance(object, numpy->generic)) return std::nullopt;
  return borrow_bfloat16(nb::module_::import_("numpy").attr("asarray")(object), name, keeper);  // from ml_dtypes
}

/// NumPy says "array is too big" where the bytes pass 64 bits, and runs out of memory before that.
[[noreturn]] void refuse_result(const Dims& shape) {
  nb::python_error error;
  if (!error.matches(PyExc_MemoryError) && !error.matches(PyExc_ValueError)) throw error;
  nb::raise_from(error, PyExc_MemoryError, "no memory for a result of shape %s", to_string(shape).c_str());
}

}  // namespace

View view_of_tensor(const nb::ndarray<nb::ro>& tensor, Dtype dtype) {
  View view;
  view.data = tensor.data();
  view.dtype = dtype;
  for (std::size_t axis = 0; axis < tensor.ndim(); ++axis) {
    view.shape.push_back(static_cast<std::int64_t>(tensor.shape(axis)));
    view.strides_bytes.push_back(tensor.stride(axis) * static_cast<std::int64_t>(size_of(dtype)));
  }
  return view;
}

void load_numpy() {
  if (numpy == nullptr) numpy = new NumPy;
}

View borrow(nb::handle object, const char* name, Keeper& keeper) {
  if (const View* const view = view_of_device_view(object)) return *view;
  if (const auto view = view_of_table(object, name)) return *view;
  if (const auto view = borrow_buffer(object, name, keeper)) return *view;
  if (nb::hasattr(object, "__dlpack__")) return borrow_dlpack(object, name, keeper);
  throw type_error(string(name) + ": expected an array (NumPy, buffer protocol or DLPack), got " + class_name(object));
}

View borrow_mask(nb::handle object, const char* name, Keeper& keeper) {
  Dtype dtype;
  if (PyBool_Check(object.ptr())) {
    keeper.scalar_bits = is_true(object);
    dtype = Dtype::uint8;
    static_assert(std::endian::native == std::endian::little);
  } else if (PyFloat_CheckExact(object.ptr())) {
    keeper.scalar_bits = std::bit_cast<std::int64_t>(PyFloat_AsDouble(object.ptr()));
    dtype = Dtype::float64;
  } else if (PyLong_CheckExact(object.ptr())) {
    keeper.scalar_bits = to_int64(name, object);
    dtype = Dtype::int64;
  } else {
    return borrow(object, name, keeper);
  }
  return View(&keeper.scalar_bits, dtype, Dims());
}

MutableView borrow_out(nb::handle object, Keeper& keeper) {
  MutableView out;
  if (const View* const view = view_of_device_view(object)) {
    static_cast<View&>(out) = *view;
    return out;
  }
  if (const auto view = view_of_table(object, "out")) {
    static_cast<View&>(out) = *view;
    return out;
  }
  const auto view = borrow_buffer(object, "out", keeper);
  if (!view) throw type_error("out: expected a NumPy array or another writable buffer, got " + class_name(object));
  if (keeper.buffer.readonly) throw shape_error("out: expected a writable array, got a read-only one");
  static_cast<View&>(out) = *view;
  return out;
}

nb::object empty_array(const Dims& shape, Dtype dtype, MutableView& view) {
  const nb::object shape_tuple = nb::steal(PyTuple_New(shape.size()));
  if (!shape_tuple.is_valid()) throw nb::python_error();
  for (int axis = 0; axis < shape.size(); ++axis) {
    PyTuple_SetItem(shape_tuple.ptr(), axis, PyLong_FromLongLong(shape[axis]));
  }
  const nb::handle bfloat16 = dtype == Dtype::bfloat16 ? bfloat16_dtype() : nb::handle();
  const nb::handle numpy_dtype = dtype == Dtype::float32   ? numpy->float32
                                 : dtype == Dtype::float64 ? numpy->float64
                                 : dtype == Dtype::float16 ? numpy->float16
                                                           : numpy->uint16;
  PyObject* const arguments[] = {shape_tuple.ptr(), numpy_dtype.ptr()};
  nb::object array = nb::steal(PyObject_Vectorcall(numpy->empty.ptr(), arguments, 2, nullptr));
  if (!array.is_valid()) refuse_result(shape);
  Py_buffer buffer;
  if (PyObject_GetBuffer(array.ptr(), &buffer, PyBUF_WRITABLE) != 0) throw nb::python_error();
  view = MutableView(buffer.buf, dtype, shape);
  PyBuffer_Release(&buffer);
  return bfloat16.is_valid() ? array.attr("view")(bfloat16) : array;
}

}  // namespace maskmm::python
