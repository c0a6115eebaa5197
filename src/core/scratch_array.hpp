// Memory of one call, as an array.
#pragma once

#include "maskmm/array.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::core {

/// Uninitialised, row-major. On a GPU it is allocated and freed in the order of the stream, so it may go while work on
/// it is still enqueued there.
array scratch_array(const Dims& shape, Dtype dtype, const Stream& stream);

}  // namespace maskmm::core
