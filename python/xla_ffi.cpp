// A handler for each platform. XLA calls it with buffers, which are row-major, and with one attribute:
//
//   settings    int64[]: operation, block rows, columns and inner elements, precision, which masks are there, which
//               operands are given transposed (see Settings)
//
// The arguments are a, b (x, a, b for the block-wise reduction) and the masks that are there, with their batch axes.
// The work is enqueued on XLA's stream and nothing is waited for; the interpreter is not needed.
#include "xla_ffi.hpp"

#include <cstdint>
#include <new>
#include <optional>
#include <string>

#include "core/execute.hpp"
#include "maskmm/maskmm.hpp"
#include "xla_ffi_abi.hpp"

namespace maskmm::python {
namespace {

/// In the order of the attribute; maskmm/_jax_primitive.py writes it.
struct Settings {
  enum : std::int64_t { kMultiply, kDot };
  enum : std::int64_t { kOut = 1, kLhs = 2, kRhs = 4 };
  enum : std::int64_t { kA = 1, kB = 2, kX = 4 };
  std::int64_t operation, block_m, block_n, block_k, precision, masks, transposed;
};

Dtype dtype_of_xla(std::int32_t dtype) {
  switch (dtype) {
    case 1:
      return Dtype::bool_;
    case 2:
      return Dtype::int8;
    case 3:
      return Dtype::int16;
    case 4:
      return Dtype::int32;
    case 5:
      return Dtype::int64;
    case 6:
      return Dtype::uint8;
    case 7:
      return Dtype::uint16;
    case 8:
      return Dtype::uint32;
    case 9:
      return Dtype::uint64;
    case 10:
      return Dtype::float16;
    case 11:
      return Dtype::float32;
    case 12:
      return Dtype::float64;
    case 16:
      return Dtype::bfloat16;
    default:
      throw type_error("an argument of XLA's type " + std::to_string(dtype) + ", which maskmm has no name for");
  }
}

MutableView view_of(const void* buffer, Device device) {
  const auto& given = *static_cast<const xla::Buffer*>(buffer);
  Dims shape;
  for (std::int64_t axis = 0; axis < given.rank; ++axis) shape.push_back(given.dims[axis]);
  return MutableView(given.data, dtype_of_xla(given.dtype), shape, device);
}

Settings settings_of(const xla::CallFrame& frame) {
  const xla::Attributes& attributes = frame.attributes;
  if (attributes.size != 1 || attributes.types[0] != xla::kArrayAttribute) {
    throw type_error("expected the attribute settings and no other");
  }
  const auto& array = *static_cast<const xla::Array*>(attributes.values[0]);
  if (array.size != sizeof(Settings) / sizeof(std::int64_t) || dtype_of_xla(array.dtype) != Dtype::int64) {
    throw type_error("settings: expected " + std::to_string(sizeof(Settings) / sizeof(std::int64_t)) + " int64");
  }
  return *static_cast<const Settings*>(array.data);
}

/// The arguments one after the other.
class Arguments {
 public:
  Arguments(const xla::CallFrame& frame, Device device) : buffers_(frame.arguments), device_(device) {}

  View operand(bool transposed) {
    const View view = next();
    return transposed ? view.transposed() : view;
  }
  std::optional<View> mask(bool present) { return present ? std::optional(next()) : std::nullopt; }
  void expect_end() const {
    if (next_ != buffers_.size) throw type_error("expected " + std::to_string(next_) + " arguments");
  }

 private:
  View next() {
    if (next_ >= buffers_.size) throw type_error("too few arguments");
    return view_of(buffers_.values[next_++], device_);
  }

  const xla::Buffers& buffers_;
  Device device_;
  std::int64_t next_ = 0;
};

/// XLA's own allocator, which hands memory out in the order of the stream that it runs the call on.
class XlaScratch final : public core::ScratchSource {
 public:
  explicit XlaScratch(const xla::CallFrame& frame) : frame_(frame) {}

  std::byte* allocate(std::size_t bytes) override {
    constexpr std::size_t kAlignment = 16;  // the most that may be asked for
    xla::MemoryAllocateArgs arguments{sizeof arguments, nullptr, frame_.context, bytes, kAlignment, nullptr};
    if (failed(frame_.api->memory_allocate(&arguments)) || arguments.data == nullptr) throw std::bad_alloc();
    return static_cast<std::byte*>(arguments.data);
  }

  void free(std::byte* memory, std::size_t bytes) noexcept override {
    xla::MemoryFreeArgs arguments{sizeof arguments, nullptr, frame_.context, bytes, memory};
    (void)failed(frame_.api->memory_free(&arguments));
  }

 private:
  bool failed(xla::Error* error) const {
    if (error == nullptr) return false;
    xla::ErrorDestroyArgs arguments{sizeof arguments, nullptr, error};
    frame_.api->error_destroy(&arguments);
    return true;
  }

  const xla::CallFrame& frame_;
};

void execute(const xla::CallFrame& frame, const Stream& stream) {
  const Settings settings = settings_of(frame);
  Arguments arguments(frame, stream.device);
  View x;
  if (settings.operation == Settings::kDot) x = arguments.operand(settings.transposed & Settings::kX);
  const View a = arguments.operand(settings.transposed & Settings::kA);
  const View b = arguments.operand(settings.transposed & Settings::kB);
  const auto mask_out = arguments.mask(settings.masks & Settings::kOut);
  const auto mask_lhs = arguments.mask(settings.masks & Settings::kLhs);
  const auto mask_rhs = arguments.mask(settings.masks & Settings::kRhs);
  arguments.expect_end();
  if (frame.results.size != 1) throw type_error("expected one result");
  const MutableView out = view_of(frame.results.values[0], stream.device);
  const BlockSize block_size(settings.block_m, settings.block_n, settings.block_k);
  const auto precision = static_cast<Precision>(settings.precision);
  const bool is_dot = settings.operation == Settings::kDot;
  const core::Problem problem = core::make_problem(
      {a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, is_dot ? &x : nullptr});
  XlaScratch scratch(frame);
  core::execute(problem, out, &scratch);
}

xla::Error* error_of(const xla::CallFrame& frame, const char* message, xla::ErrorCode code) {
  xla::ErrorCreateArgs arguments{sizeof arguments, nullptr, message, code};
  return frame.api->error_create(&arguments);
}

/// XLA asks once which version of the interface the handler speaks.
bool answer_metadata(const xla::CallFrame& frame) {
  for (const xla::Extension* extension = frame.extension_start; extension != nullptr; extension = extension->next) {
    if (extension->type != xla::kMetadataExtension) continue;
    xla::Metadata& metadata = *reinterpret_cast<const xla::MetadataExtension*>(extension)->metadata;
    metadata.api_version.major_version = xla::kApiMajor;
    metadata.api_version.minor_version = xla::kApiMinor;
    metadata.traits = 0;
    if (metadata.struct_size > offsetof(xla::Metadata, state_type_id)) metadata.state_type_id = 0;
    return true;
  }
  return false;
}

template <class StreamOf>
xla::Error* handle(const xla::CallFrame& frame, StreamOf stream_of) {
  if (answer_metadata(frame)) return nullptr;
  try {
    Stream stream;
    if (xla::Error* const error = stream_of(stream)) return error;
    execute(frame, stream);
    return nullptr;
  } catch (const std::bad_alloc&) {
    return error_of(frame, "maskmm: not enough memory for the workspace of this call",
                    xla::ErrorCode::resource_exhausted);
  } catch (const unsupported_error& error) {
    return error_of(frame, error.what(), xla::ErrorCode::unimplemented);
  } catch (const std::invalid_argument& error) {
    return error_of(frame, error.what(), xla::ErrorCode::invalid_argument);
  } catch (const std::exception& error) {
    return error_of(frame, error.what(), xla::ErrorCode::internal);
  }
}

xla::Error* handle_on_cpu(xla::CallFrame* frame) {
  return handle(*frame, [](Stream&) { return nullptr; });
}

xla::Error* handle_on_cuda(xla::CallFrame* frame) {
  return handle(*frame, [frame](Stream& stream) {
    xla::DeviceOrdinalGetArgs device{sizeof device, nullptr, frame->context, 0};
    if (xla::Error* const error = frame->api->device_ordinal_get(&device)) return error;
    xla::StreamGetArgs given{sizeof given, nullptr, frame->context, nullptr};
    if (xla::Error* const error = frame->api->stream_get(&given)) return error;
    stream = Stream{Device(Device::gpu, device.device_ordinal), 0, given.stream};
    return static_cast<xla::Error*>(nullptr);
  });
}

nb::dict handlers() {
  nb::dict result;
  result["cpu"] = nb::capsule(reinterpret_cast<void*>(&handle_on_cpu));
  result["CUDA"] = nb::capsule(reinterpret_cast<void*>(&handle_on_cuda));
  return result;
}

}  // namespace

void bind_xla_ffi(nb::module_& module) {
  module.def("xla_ffi_handlers", &handlers, nb::sig("def xla_ffi_handlers() -> dict[str, object]"),
             "For each platform of JAX a capsule with the handler of its typed foreign function interface.");
}

}  // namespace maskmm::python
