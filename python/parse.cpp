#include "parse.hpp"

#include <algorithm>
#include <climits>

#include "maskmm/error.hpp"

namespace maskmm::python {

using std::string;

string class_name(nb::handle object) { return nb::str(object.type().attr("__name__")).c_str(); }

std::int64_t to_int64(const char* name, nb::handle integer) {
  const long long value = PyLong_AsLongLong(integer.ptr());
  if (value == -1 && PyErr_Occurred()) {
    PyErr_Clear();
    throw shape_error(string(name) + ": the integer does not fit into 64 bits: " + nb::str(integer).c_str());
  }
  return value;
}

namespace {

/// An int, NumPy's included, as Python's int; nothing for a bool and whatever else.
nb::object int_of(nb::handle object) {
  if (!PyIndex_Check(object.ptr()) || PyBool_Check(object.ptr())) return {};
  nb::object index = nb::steal(PyNumber_Index(object.ptr()));
  if (index.is_valid()) return index;
  nb::python_error error;  // an array of several elements looks like an int until it is asked
  if (!error.matches(PyExc_TypeError)) throw error;
  return {};
}

}  // namespace

BlockSize parse_block_size(nb::handle object) {
  const char* const name = "block_size";
  if (const nb::object size = int_of(object); size.is_valid()) return to_int64(name, size);
  const bool is_tuple = PyTuple_Check(object.ptr());
  if (is_tuple && PyTuple_Size(object.ptr()) == 3) {
    const nb::tuple sizes = nb::borrow<nb::tuple>(object);
    const nb::object m = int_of(sizes[0]), n = int_of(sizes[1]), k = int_of(sizes[2]);
    if (m.is_valid() && n.is_valid() && k.is_valid()) {
      return {to_int64(name, m), to_int64(name, n), to_int64(name, k)};
    }
  }
  throw type_error("block_size: expected an int or a tuple of three ints (m, n, k), got " +
                   (is_tuple ? nb::repr(object).c_str() : class_name(object)));
}

StreamOrDevice parse_stream(nb::handle object) {
  if (object.is_none()) return {};
  if (Stream stream; nb::try_cast(object, stream, false)) return stream;
  if (Device device; nb::try_cast(object, device, false)) return device;
  if (DeviceType type; nb::try_cast(object, type, false)) return type;
  throw type_error("stream: expected a Stream, a Device, a DeviceType or None, got " + class_name(object));
}

int parse_thread_count(nb::handle object) {
  const char* const name = "num_threads";
  const nb::object count = int_of(object);
  if (!count.is_valid()) throw type_error(string(name) + ": expected an int, got " + class_name(object));
  return static_cast<int>(std::clamp<std::int64_t>(to_int64(name, count), INT_MIN, INT_MAX));
}

void* parse_stream_handle(nb::handle object) {
  const nb::object handle = int_of(object);
  if (!handle.is_valid()) throw type_error("handle: expected a cudaStream_t as an int, got " + class_name(object));
  void* const pointer = PyLong_AsVoidPtr(handle.ptr());
  if (pointer != nullptr || !PyErr_Occurred()) return pointer;
  PyErr_Clear();
  throw shape_error(string("handle: expected a cudaStream_t as an int, got ") + nb::str(handle).c_str());
}

Stream parse_own_stream(nb::handle object) {
  if (Stream stream; nb::try_cast(object, stream, false)) return stream;
  throw type_error("stream: expected a Stream or None, got " + class_name(object));
}

Device parse_device(nb::handle object) {
  if (Device device; nb::try_cast(object, device, false)) return device;
  if (DeviceType type; nb::try_cast(object, type, false)) return type;
  throw type_error("device: expected a Device or a DeviceType, got " + class_name(object));
}

Precision parse_precision(nb::handle object) {
  if (!PyUnicode_Check(object.ptr())) {
    throw type_error("precision: expected 'ieee' or 'tf32', got " + class_name(object));
  }
  if (PyUnicode_CompareWithASCIIString(object.ptr(), "ieee") == 0) return Precision::ieee;
  if (PyUnicode_CompareWithASCIIString(object.ptr(), "tf32") == 0) return Precision::tf32;
  throw shape_error(string("precision: expected 'ieee' or 'tf32', got ") + nb::repr(object).c_str());
}

}  // namespace maskmm::python
