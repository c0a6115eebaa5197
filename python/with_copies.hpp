// Operands in host memory for a call on a GPU: copied there, and the result back.
#pragma once

#include <nanobind/nanobind.h>

#include "call.hpp"

namespace maskmm::python {

/// The stream was given and is on a GPU.
bool is_on_gpu(const StreamOrDevice& stream);

/// block_masked_mm or block_masked_dot with operands in host memory and a stream on a GPU; finished on return. Only
/// elements are copied, not their repetition along a stride of zero. Throws device_error where the GPU is not there.
nb::object execute_with_copies(const Call& call, nb::handle out);
/// What explain needs on the same arguments. The operands are not copied.
Explanation explain_with_copies(const Call& call);

}  // namespace maskmm::python
