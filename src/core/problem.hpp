// Problem: the arguments of a call, checked. The only place that rejects user input.
#pragma once

#include <cstdint>
#include <optional>

#include "maskmm/block_masked_mm.hpp"

namespace maskmm::core {

struct Arguments {
  const View& a;
  const View& b;
  BlockSize block_size;
  const std::optional<View>& mask_out;
  const std::optional<View>& mask_lhs;
  const std::optional<View>& mask_rhs;
  StreamOrDevice stream;
  const std::optional<MutableView>& out;
  Precision precision;
  const View* x = nullptr;  // of block_masked_dot; null: block_masked_mm
};

/// Views with the added axes of 1-D operands and broadcast batch axes (stride 0), all of the shape
/// batch + (rows, columns). Masks that are absent have no data.
struct Problem {
  BlockSize block_size = 64;
  std::int64_t M = 0, N = 0, K = 0;
  Dims batch;
  View a, b, mask_out, mask_lhs, mask_rhs;
  View x;                                   // M x N
  bool is_dot = false;                      // the result is a number for each block of the product, not the product
  std::optional<MutableView> out;           // as given
  Dims result_shape;                        // without the added axes
  bool result_has_rows = true;              // false: a is 1-D
  bool result_has_cols = true;              // false: b is 1-D
  Dtype operand_dtype = Dtype::float32;     // what integers among the operands become
  Dtype accumulate_dtype = Dtype::float32;  // that of the sums: float32 or float64
  Dtype result_dtype = Dtype::float32;
  Precision precision = Precision::ieee;
  Stream stream;
};

/// Throws shape_error, type_error or device_error, naming the argument, what was expected and what came.
Problem make_problem(const Arguments& arguments);

/// A cotangent of the problem's result.
void check_cotangent(const View& cotangent, const Problem& problem);
/// Whether an input (null: absent) can have what is asked for: "gradient" or "tangent".
void check_differentiable(const View* input, const char* name, const char* what);
/// A tangent of the input.
void check_tangent(const View& tangent, const View* input, const char* name);

}  // namespace maskmm::core
