// The operation's block-wise reduction: what its derivatives need beside the operation itself.
#pragma once

#include <optional>

#include "maskmm/block_masked_mm.hpp"

namespace maskmm {

/// Multiplies x, element by element, with a masked product that is never stored, and sums each block:
///
///   dot[bi,bj] = mask_out[bi,bj] * sum over i, j of x[bi,bj][i,j] * (sum over live bk of
///                mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj]))[i,j]
///
/// where i and j walk the elements of block (bi, bj). Triples are live as in block_masked_mm: what is not live
/// contributes nothing and is not read, x in blocks of the product without a live triple included; those are +0.
///
/// This is the derivative of sum(x * block_masked_mm(a, b)) by mask_out; those by mask_lhs and mask_rhs are this
/// function too, with the roles changed: maskmm/derivatives.hpp has them all.
///
/// - x (..., M, N), as the product of a and b: without the axes that a 1-D a or b drops. Any real type and any
///   strides; an integer or bool x is taken in the promoted type of a and b.
/// - a, b, block_size, the masks, stream, precision: as in block_masked_mm. Batch axes of x broadcast with the others.
///   An integer type may stand for any of x, a and b, beside a float one.
/// - out: written in place and returned (borrowed); overlaps no input.
///
/// The result is (..., ceil(M/m), ceil(N/n)), of the type that sums run in: float64 where x, a or b is float64, else
/// float32. The order of the sums is fixed by shapes and masks: the bits do not depend on the number of threads.
///
/// On the CPU the call is finished when it returns. Throws what block_masked_mm throws; then nothing was written.
array block_masked_dot(const View& x, const View& a, const View& b, BlockSize block_size = 64,
                       const std::optional<View>& mask_out = std::nullopt,
                       const std::optional<View>& mask_lhs = std::nullopt,
                       const std::optional<View>& mask_rhs = std::nullopt, StreamOrDevice stream = {},
                       const std::optional<MutableView>& out = std::nullopt, Precision precision = Precision::ieee);

}  // namespace maskmm
