// The extension module maskmm._maskmm. The package's Python files hold the public signatures and their documentation.
#include <nanobind/nanobind.h>
#include <nanobind/operators.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <new>
#include <optional>
#include <string>

#include "call.hpp"
#include "convert.hpp"
#include "core/derivative_table.hpp"
#include "core/execute.hpp"
#include "core/problem.hpp"
#include "device_view.hpp"
#include "element_type.hpp"
#include "maskmm/maskmm.hpp"
#include "parse.hpp"
#include "tensor_table.hpp"
#include "with_copies.hpp"
#include "without_gil.hpp"
#include "xla_ffi.hpp"

namespace maskmm::python {
namespace {

constexpr std::int64_t kForeignStream = -1;

nb::object execute(const PythonArguments& arguments) {
  const Call call(arguments);
  const nb::handle out = arguments.out;
  if (is_on_gpu(call.stream())) return execute_with_copies(call, out);
  const core::Problem problem = call.problem();
  nb::object result;
  MutableView view;
  if (problem.out) {
    result = nb::borrow(out);
    view = *problem.out;
  } else {
    result = empty_array(problem.result_shape, problem.result_dtype, view);
  }
  without_gil([&] { core::execute(problem, view); });
  return result;
}

nb::object block_masked_mm(nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out, nb::handle mask_lhs,
                           nb::handle mask_rhs, nb::handle stream, nb::handle out, nb::handle precision) {
  return execute({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision});
}

nb::object block_masked_dot(nb::handle x, nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out,
                            nb::handle mask_lhs, nb::handle mask_rhs, nb::handle stream, nb::handle out,
                            nb::handle precision) {
  return execute({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, x});
}

nb::tuple tuple_of(const Explanation& explanation) {
  return nb::make_tuple(explanation.device, explanation.kernel, explanation.isa, explanation.reason,
                        explanation.threads, explanation.live_fraction, explanation.workspace_bytes);
}

nb::tuple explain(nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out, nb::handle mask_lhs,
                  nb::handle mask_rhs, nb::handle stream, nb::handle out, nb::handle precision) {
  const Call call({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision});
  if (is_on_gpu(call.stream())) return tuple_of(explain_with_copies(call));
  const core::Problem problem = call.problem();
  Explanation explanation;
  without_gil([&] { explanation = core::explain(problem); });
  return tuple_of(explanation);
}

nb::object block_masked_mm_on_device(nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out,
                                     nb::handle mask_lhs, nb::handle mask_rhs, nb::handle stream, nb::handle out,
                                     nb::handle precision, std::uintptr_t current_stream, nb::handle empty) {
  return execute_views({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision},
                       reinterpret_cast<void*>(current_stream), empty);
}

nb::object block_masked_dot_on_device(nb::handle x, nb::handle a, nb::handle b, nb::handle block_size,
                                      nb::handle mask_out, nb::handle mask_lhs, nb::handle mask_rhs, nb::handle stream,
                                      nb::handle out, nb::handle precision, std::uintptr_t current_stream,
                                      nb::handle empty) {
  return execute_views({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, x},
                       reinterpret_cast<void*>(current_stream), empty);
}

nb::tuple explain_on_device(nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out, nb::handle mask_lhs,
                            nb::handle mask_rhs, nb::handle stream, nb::handle out, nb::handle precision,
                            std::uintptr_t current_stream) {
  return tuple_of(explain_views({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision},
                                reinterpret_cast<void*>(current_stream)));
}

nb::tuple result_type_of(const PythonArguments& arguments) {
  const Call call(arguments);
  const core::Problem problem = call.problem();
  nb::list shape;
  for (const std::int64_t size : problem.result_shape) shape.append(size);
  return nb::make_tuple(nb::tuple(shape), name_of(problem.result_dtype));
}

nb::tuple result_type(nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out, nb::handle mask_lhs,
                      nb::handle mask_rhs, nb::handle stream, nb::handle out, nb::handle precision) {
  return result_type_of({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision});
}

nb::tuple dot_result_type(nb::handle x, nb::handle a, nb::handle b, nb::handle block_size, nb::handle mask_out,
                          nb::handle mask_lhs, nb::handle mask_rhs, nb::handle stream, nb::handle out,
                          nb::handle precision) {
  return result_type_of({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, x});
}

/// One tuple for each row: operation, input, the operation that its gradient is, that one's arguments as text ("b.T"),
/// and which of m, n and k its blocks are.
nb::list derivative_table() {
  const auto text = [](const core::Term& term) {
    return std::string(core::name_of(term.name)) + (term.transposed ? ".T" : "");
  };
  nb::list rows;
  for (const core::Derivative& row : core::kDerivatives) {
    nb::dict arguments;
    for (const auto& [name, term] : row.arguments()) {
      if (term.name != core::Name::nothing) arguments[core::name_of(name)] = text(term);
    }
    rows.append(nb::make_tuple(core::name_of(row.operation), core::name_of(row.input), core::name_of(row.gradient),
                               arguments, nb::make_tuple(row.blocks[0], row.blocks[1], row.blocks[2])));
  }
  return rows;
}

void translate_error(const std::exception_ptr& pointer, void*) {
  try {
    std::rethrow_exception(pointer);
  } catch (const shape_error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const device_error& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const type_error& error) {
    PyErr_SetString(PyExc_TypeError, error.what());
  } catch (const unsupported_error& error) {
    PyErr_SetString(PyExc_NotImplementedError, error.what());
  } catch (const cuda_error& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "not enough memory for the workspace of this call");
  }
}

const char* name_of(DeviceType type) { return type == DeviceType::cpu ? "cpu" : "gpu"; }

std::string repr(const Device& device) {
  return std::string("Device(") + name_of(device.type) + ", " + std::to_string(device.index) + ")";
}

std::string repr(const Stream& stream) {
  if (stream.index != kForeignStream)
    return "Stream(" + repr(stream.device) + ", " + std::to_string(stream.index) + ")";
  return "Stream.from_handle(" + repr(stream.device) + ", " +
         std::to_string(reinterpret_cast<std::uintptr_t>(stream.handle)) + ")";
}

void bind_devices(nb::module_& module) {
  nb::enum_<DeviceType>(module, "DeviceType", "Kinds of devices.")
      .value("cpu", DeviceType::cpu, "The processor.")
      .value("gpu", DeviceType::gpu, "A CUDA GPU.");

  nb::class_<Device>(module, "Device", "A place where arrays live and work runs.")
      .def(
          "__init__", [](Device* self, DeviceType type, int index) { new (self) Device(type, index); }, nb::arg("type"),
          nb::arg("index") = 0)
      .def_ro("type", &Device::type, "Its kind.")
      .def_ro("index", &Device::index, "Its number: 0 for the CPU; GPUs are numbered as CUDA numbers them.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def(
          "__reduce__",
          [](const Device& self) { return nb::make_tuple(nb::type<Device>(), nb::make_tuple(self.type, self.index)); },
          nb::sig("def __reduce__(self) -> tuple[typing.Any, ...]"))
      .def("__hash__", [](const Device& self) { return static_cast<int>(self.type) + 2 * self.index; })
      .def("__repr__", [](const Device& self) { return repr(self); });

  nb::class_<Stream>(module, "Stream",
                     "An order of work on one device, from new_stream, default_stream or Stream.from_handle.")
      .def_static(
          "from_handle",
          [](nb::handle device, nb::handle handle) {
            Stream stream = default_stream(parse_device(device));
            stream.index = kForeignStream;
            stream.handle = parse_stream_handle(handle);
            return stream;
          },
          nb::arg("device").none(), nb::arg("handle").none(),
          nb::sig("def from_handle(device: Device | DeviceType, handle: int) -> Stream"),
          "A stream that somebody else made: handle is its cudaStream_t as a number, 0 the legacy default stream. It\n"
          "must live as long as it is used.\n\n"
          "Raises:\n    ValueError: the device is not there.")
      .def_ro("device", &Stream::device, "Where the work runs.")
      .def_ro("index", &Stream::index, "0 is the default stream of its device; -1 came from from_handle.")
      .def_prop_ro(
          "handle", [](const Stream& self) { return reinterpret_cast<std::uintptr_t>(self.handle); },
          "The cudaStream_t as a number, 0 for the default stream and on the CPU.")
      .def(
          "__cuda_stream__",
          [](const Stream& self) { return nb::make_tuple(0, reinterpret_cast<std::uintptr_t>(self.handle)); },
          nb::sig("def __cuda_stream__(self) -> tuple[int, int]"), "For frameworks that take CUDA streams of others.")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__hash__", [](const Stream& self) { return self.index; })
      .def("__repr__", [](const Stream& self) { return repr(self); });

  module.def("devices", &devices, "The devices that are there, the CPU first.");
  module.def("default_device", &default_device,
             "Where results go that no input places: the CPU, unless set_default_device said otherwise.");
  module.def(
      "set_default_device", [](nb::handle device) { set_default_device(parse_device(device)); },
      nb::arg("device").none(), nb::sig("def set_default_device(device: Device | DeviceType) -> None"),
      "Sets the default device of the process.\n\nRaises:\n    ValueError: the device is not there.");
  module.def(
      "default_stream", [](nb::handle device) { return default_stream(parse_device(device)); },
      nb::arg("device").none(), nb::sig("def default_stream(device: Device | DeviceType) -> Stream"),
      "The default stream of a device.\n\nRaises:\n    ValueError: the device is not there.");
  module.def(
      "new_stream", [](nb::handle device) { return new_stream(parse_device(device)); }, nb::arg("device").none(),
      nb::sig("def new_stream(device: Device | DeviceType) -> Stream"),
      "A stream of its own on a device. It lives until the process ends.\n\n"
      "Raises:\n    ValueError: the device is not there.");
  module.def(
      "synchronize",
      [](nb::handle stream) {
        const Stream awaited = stream.is_none() ? default_stream(default_device()) : parse_own_stream(stream);
        without_gil([&] { synchronize(awaited); });
      },
      nb::arg("stream").none() = nb::none(), nb::sig("def synchronize(stream: Stream | None = None) -> None"),
      "Returns when all work on the stream is finished; by default, on the default stream of the default device.");
}

}  // namespace

NB_MODULE(_maskmm, module) {
  nb::set_leak_warnings(false);  // who keeps the module alive until the process ends (pytest may) need not hear of it
  module.doc() = "The compiled part of maskmm.";
  load_numpy();
  nb::register_exception_translator(translate_error);
  bind_devices(module);

  module.def("num_threads", &num_threads,
             "Threads that one call on the CPU may use: at first the variable MASKMM_NUM_THREADS, or else the\n"
             "processors that the process may run on. Results do not depend on it.");
  module.def(
      "set_num_threads", [](nb::handle count) { set_num_threads(parse_thread_count(count)); }, nb::arg("count").none(),
      nb::sig("def set_num_threads(count: int) -> None"),
      "Sets the threads that one call on the CPU may use, for the whole process.\n\n"
      "Raises:\n    ValueError: a count below 1.");
  module.def(
      "cpu_isa", &cpu_isa,
      "The instruction set of the CPU kernels: 'amx_bf16' or 'avx512_bf16' (AVX-512, and tiles or dot products for\n"
      "bfloat16, which take numbers below 2^-126 for zeros), 'avx512', 'avx2', 'neon' or 'portable'. The variable\n"
      "MASKMM_ISA forces one.");
  module.def("version", &version, "The version of the library, 'major.minor.patch'.");

  bind_device_view(module);
  bind_xla_ffi(module);
  module.def("register_table", &register_table, nb::arg("type"), nb::arg("table"),
             nb::sig("def register_table(type: type, table: object) -> None"),
             "Arrays of this type are read through DLPack's C table from now on; see python/tensor_table.hpp.\n\n"
             "Raises:\n    TypeError, ValueError: the table is of no use.");
  module.def(
      "expect_dtype", [](const char* argument, const char* dtype) { expect_dtype(argument, dtype); },
      nb::arg("argument"), nb::arg("dtype"),
      "Refuses an element type that maskmm has no name for.\n\nRaises:\n    TypeError: it names argument and type.");
  module.def(
      "expect_mask",
      [](const char* argument, nb::handle mask) {
        Keeper keeper;
        const View view = borrow_mask(mask, argument, keeper);
        if (is_complex(view.dtype)) {
          throw type_error(std::string(argument) + ": expected bool, an integer or a float type, got " +
                           name_of(view.dtype));
        }
      },
      nb::arg("argument"), nb::arg("mask").none(), nb::sig("def expect_mask(argument: str, mask: object) -> None"),
      "Refuses what no front takes for a mask: all but arrays of known types in host memory and numbers.\n\n"
      "Raises:\n    TypeError, ValueError: it names the argument.");
  const auto define = [&]<class... More>(const char* name, auto function, const char* more, const char* result,
                                         More... more_arguments) {
    const std::string signature = std::string("def ") + name +
                                  "(a: object, b: object, block_size: object, mask_out: object, mask_lhs: object, "
                                  "mask_rhs: object, stream: object, out: object, precision: object" +
                                  more + ", /) -> " + result;
    module.def(name, function, nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(),
               nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), more_arguments...,
               nb::sig(signature.c_str()));
  };
  const char* const explanation = "tuple[Device, str, str, str, int, float, int]";
  define("block_masked_mm", &block_masked_mm, "", "typing.Any");
  define("explain", &explain, "", explanation);
  const char* const dot_arguments =
      "(x: object, a: object, b: object, block_size: object, mask_out: object, mask_lhs: object, mask_rhs: object, "
      "stream: object, out: object, precision: object";
  const std::string dot = std::string("def block_masked_dot") + dot_arguments + ", /) -> typing.Any";
  module.def("block_masked_dot", &block_masked_dot, nb::arg().none(), nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::sig(dot.c_str()));
  const std::string dot_on_device = std::string("def block_masked_dot_on_device") + dot_arguments +
                                    ", current_stream: int, empty: object, /) -> typing.Any";
  module.def("block_masked_dot_on_device", &block_masked_dot_on_device, nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::arg().none(), nb::arg(), nb::arg().none(), nb::sig(dot_on_device.c_str()));
  module.def("derivative_table", &derivative_table,
             nb::sig("def derivative_table() -> list[tuple[str, str, str, dict[str, str], tuple[int, int, int]]]"),
             "src/core/derivative_table.hpp, for maskmm._derivatives.");
  define("result_type", &result_type, "", "tuple[tuple[int, ...], str]");
  const std::string dot_result =
      std::string("def dot_result_type") + dot_arguments + ", /) -> tuple[tuple[int, ...], str]";
  module.def("dot_result_type", &dot_result_type, nb::arg().none(), nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(), nb::arg().none(),
             nb::arg().none(), nb::sig(dot_result.c_str()));
  define("block_masked_mm_on_device", &block_masked_mm_on_device, ", current_stream: int, empty: object", "typing.Any",
         nb::arg(), nb::arg().none());
  define("explain_on_device", &explain_on_device, ", current_stream: int", explanation, nb::arg());
}

}  // namespace maskmm::python
