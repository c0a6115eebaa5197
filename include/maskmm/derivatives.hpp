// Derivatives of block_masked_mm: reverse mode (vjp) and forward mode (jvp).
//
// The operation is linear in each of a, b and the three masks, so every derivative is block_masked_mm or
// block_masked_dot again, with other roles and with the same skipping; src/core/derivative_table.hpp lists them. The
// product itself is not needed: nothing is kept between it and its derivatives.
#pragma once

#include <optional>

#include "maskmm/block_masked_mm.hpp"

namespace maskmm {

/// The inputs by which to differentiate.
struct Wanted {
  bool a = false, b = false, mask_out = false, mask_lhs = false, mask_rhs = false;
};

/// The gradients that were wanted, each of its input's shape and type, row-major.
struct Gradients {
  std::optional<array> a, b, mask_out, mask_lhs, mask_rhs;
};

/// The gradients of a scalar by the inputs of block_masked_mm(a, b, block_size, mask_out, mask_lhs, mask_rhs), given
/// its gradient by the result. With g the cotangent, T transposed, and mm(..; O, L, R) for the masks out, lhs and rhs:
///
///   a:        mm(g, b.T; mask_lhs, mask_out, mask_rhs.T)     mask_out: dot(g, a, b; mask_lhs, mask_rhs)
///   b:        mm(a.T, g; mask_rhs, mask_lhs.T, mask_out)     mask_lhs: dot(a, g, b.T; mask_out, mask_rhs.T)
///                                                            mask_rhs: dot(b, a.T, g; mask_lhs.T, mask_out)
///
/// summed over the axes along which the input was broadcast. A gradient's value does not depend on which others are
/// wanted. What is dead stays out: NaN and Inf in dead blocks reach no gradient of a and b. The gradient of a mask does
/// not look at that mask: it is defined where the mask is zero, and reads what the other two masks leave.
///
/// - cotangent: of the result's shape; a floating type. Any strides.
/// - wanted: floating inputs that are there. bool and integer masks and integer operands have no gradient: type_error.
/// - the rest as in block_masked_mm. Operands are read as transposed views, never copied.
///
/// On the CPU the call is finished when it returns. Throws what block_masked_mm throws.
Gradients block_masked_mm_vjp(const View& cotangent, const Wanted& wanted, const View& a, const View& b,
                              BlockSize block_size = 64, const std::optional<View>& mask_out = std::nullopt,
                              const std::optional<View>& mask_lhs = std::nullopt,
                              const std::optional<View>& mask_rhs = std::nullopt, StreamOrDevice stream = {},
                              Precision precision = Precision::ieee);

/// Directions in which inputs change, each of its input's shape and type; nothing: that input is constant.
struct Tangents {
  std::optional<View> a = {}, b = {}, mask_out = {}, mask_lhs = {}, mask_rhs = {};
};

/// The direction in which the result of block_masked_mm changes: the sum, over the inputs with a tangent, of the
/// product with that input replaced by its tangent. At least one tangent; bool and integer inputs have none.
///
/// The result has the shape and type of the product. Throws what block_masked_mm throws.
array block_masked_mm_jvp(const Tangents& tangents, const View& a, const View& b, BlockSize block_size = 64,
                          const std::optional<View>& mask_out = std::nullopt,
                          const std::optional<View>& mask_lhs = std::nullopt,
                          const std::optional<View>& mask_rhs = std::nullopt, StreamOrDevice stream = {},
                          Precision precision = Precision::ieee);

}  // namespace maskmm
