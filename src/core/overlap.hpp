// Whether arrays share memory.
#pragma once

#include "maskmm/view.hpp"

namespace maskmm::core {

/// Whether some element of x and some element of y share a byte. Exact for all but contrived strides, where it may say
/// yes too often.
bool overlap(const View& x, const View& y);

/// Whether two elements of one array share a byte (says yes too often for interleaved strides that no slicing makes).
bool overlaps_itself(const View& view);

}  // namespace maskmm::core
