// The part of XLA's foreign function interface that the handlers need, as its stable binary interface (major version 0)
// lays it out: what XLA passes to a handler, and the functions that it offers. Declared here so that building maskmm
// needs no JAX; tests/test_jax_abi.py compares sizes and offsets with the headers of the jaxlib that is installed.
//
// Every struct begins with its size as the maker knew it, and later versions only append: a field is there where it
// lies within `struct_size`.
#pragma once

#include <cstddef>
#include <cstdint>

namespace maskmm::python::xla {

inline constexpr int kApiMajor = 0;
inline constexpr int kApiMinor = 3;  // of jaxlib 0.10; 5, of 0.12, has the same fields

struct Extension {
  std::size_t struct_size;
  std::int32_t type;
  Extension* next;
};
inline constexpr std::int32_t kMetadataExtension = 1;

struct ApiVersion {
  std::size_t struct_size;
  Extension* extension_start;
  int major_version;
  int minor_version;
};

struct Metadata {
  std::size_t struct_size;
  ApiVersion api_version;
  std::uint32_t traits;
  std::int64_t state_type_id;
};
inline constexpr std::uint32_t kCommandBufferCompatible = 1;

struct MetadataExtension {
  Extension extension_base;
  Metadata* metadata;
};

enum class ErrorCode : std::int32_t {
  invalid_argument = 3,
  resource_exhausted = 8,
  unimplemented = 12,
  internal = 13,
};

struct Error;
struct Context;
struct Api;

struct ErrorCreateArgs {
  std::size_t struct_size;
  Extension* extension_start;
  const char* message;
  ErrorCode code;
};

struct ErrorDestroyArgs {
  std::size_t struct_size;
  Extension* extension_start;
  Error* error;
};

struct StreamGetArgs {
  std::size_t struct_size;
  Extension* extension_start;
  Context* context;
  void* stream;  // out
};

struct DeviceOrdinalGetArgs {
  std::size_t struct_size;
  Extension* extension_start;
  Context* context;
  std::int32_t device_ordinal;  // out
};

struct MemoryAllocateArgs {
  std::size_t struct_size;
  Extension* extension_start;
  Context* context;
  std::size_t size;
  std::size_t alignment;
  void* data;  // out
};

struct MemoryFreeArgs {
  std::size_t struct_size;
  Extension* extension_start;
  Context* context;
  std::size_t size;
  void* data;
};

using AnyFunction = void (*)();

struct Api {
  std::size_t struct_size;
  Extension* extension_start;
  ApiVersion api_version;
  const void* internal_api;
  Error* (*error_create)(ErrorCreateArgs*);
  AnyFunction error_get_message;
  void (*error_destroy)(ErrorDestroyArgs*);
  AnyFunction handler_register;
  Error* (*stream_get)(StreamGetArgs*);
  AnyFunction type_register, context_get, state_set, state_get;
  Error* (*memory_allocate)(MemoryAllocateArgs*);
  Error* (*memory_free)(MemoryFreeArgs*);
  AnyFunction thread_pool_schedule, thread_pool_num_threads, future_create, future_set_available, future_set_error,
      run_id_get;
  Error* (*device_ordinal_get)(DeviceOrdinalGetArgs*);
};

struct Buffer {
  std::size_t struct_size;
  Extension* extension_start;
  std::int32_t dtype;
  void* data;
  std::int64_t rank;
  std::int64_t* dims;
};

/// Arguments or results.
struct Buffers {
  std::size_t struct_size;
  Extension* extension_start;
  std::int64_t size;
  std::int32_t* types;
  void** values;
};

struct ByteSpan {
  const char* data;
  std::size_t size;
};

struct Array {
  std::int32_t dtype;
  std::size_t size;
  void* data;
};
inline constexpr std::int32_t kArrayAttribute = 1;

struct Attributes {
  std::size_t struct_size;
  Extension* extension_start;
  std::int64_t size;
  std::int32_t* types;
  ByteSpan** names;
  void** values;
};

struct CallFrame {
  std::size_t struct_size;
  Extension* extension_start;
  const Api* api;
  Context* context;
  std::int32_t stage;
  Buffers arguments;
  Buffers results;
  Attributes attributes;
};
inline constexpr std::int32_t kExecute = 3;

using Handler = Error*(CallFrame*);

}  // namespace maskmm::python::xla
