// Canonical: one form for every call. The added axes of 1-D operands are there, batch axes are broadcast and collapsed,
// and the roles are swapped (C^T = B^T A^T) where the columns of the result (or of x) are contiguous and its rows are
// not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/block_grid.hpp"
#include "core/problem.hpp"
#include "maskmm/block_masked_mm.hpp"

namespace maskmm::core {

/// A matrix for each element of the batch, addressed in bytes. Strides may be zero, negative or misaligned.
struct Operand {
  std::byte* data = nullptr;  // element (0, 0) of batch element 0; null: an absent mask. Inputs are never written
  Dtype dtype = Dtype::float32;
  std::int64_t row_stride_bytes = 0;
  std::int64_t col_stride_bytes = 0;
  Dims batch_strides_bytes;  // along Canonical::batch
  Device device;             // a mask may be on the CPU where the rest is on a GPU

  bool present() const { return data != nullptr; }
  bool batched() const;  // some batch stride is not zero
};

struct Canonical {
  BlockGrid m, n, k;
  Dims batch;                         // collapsed: neighbours that every operand walks alike are one axis
  std::int64_t batch_size = 1;        // product of batch; M, N and it are at least 1 when a back end runs
  Operand a;                          // M x K
  Operand b;                          // K x N
  Operand out;                        // M x N, of the promoted type; with x, m.count() x n.count() of `accumulate`
  Operand x;                          // M x N: present in a block_masked_dot
  Operand mask_out;                   // m.count() x n.count()
  Operand mask_lhs;                   // m.count() x k.count()
  Operand mask_rhs;                   // k.count() x n.count()
  Dtype promoted = Dtype::float32;    // of a and b: what integers among the operands become
  Dtype accumulate = Dtype::float32;  // float32, or float64 for float64
  Precision precision = Precision::ieee;
  Device device;
  bool swapped = false;  // a and b have changed places
};

/// `result` has the result's shape and type.
Canonical canonicalize(const Problem& problem, const MutableView& result);

/// The transposed product: C^T = B^T A^T.
void swap_roles(Canonical& canonical);

/// Address of element (0, 0) in batch element `index`, 0 <= index < batch_size.
std::byte* batch_data(const Operand& operand, const Dims& batch, std::int64_t index);

}  // namespace maskmm::core
