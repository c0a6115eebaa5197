// JAX: the operation as handlers of XLA's foreign function interface.
#pragma once

#include <nanobind/nanobind.h>

namespace maskmm::python {

namespace nb = nanobind;

/// xla_ffi_handlers(): for each platform of JAX a capsule with its handler, as jax.ffi.register_ffi_target takes it.
void bind_xla_ffi(nb::module_& module);

}  // namespace maskmm::python
