// Broadcasting of shapes and views, as in NumPy.
#pragma once

#include "maskmm/view.hpp"

namespace maskmm::core {

/// Widens `into` by `other`; false, with `into` unchanged, where the two do not broadcast.
bool broadcast_shapes(Dims& into, const Dims& other);

/// The first `axes` axes of a shape or of strides.
Dims leading(const Dims& dims, int axes);

/// The view spread to batch + core, where core are its last core.size() axes: axes of size 1, and axes that it lacks on
/// the left, get stride 0. Its sizes must be those of batch + core, or 1.
View broadcast_to(const View& view, const Dims& batch, const Dims& core);

/// The view with an axis for rows and one for columns in the end: one that it does not have, or lacks, has size 1.
View with_matrix_axes(const View& view, bool has_rows, bool has_cols);

}  // namespace maskmm::core
