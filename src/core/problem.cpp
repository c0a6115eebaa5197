#include "core/problem.hpp"

#include <algorithm>
#include <string>

#include "core/block_grid.hpp"
#include "core/broadcast.hpp"
#include "core/overlap.hpp"
#include "core/promote.hpp"
#include "maskmm/error.hpp"

namespace maskmm::core {
namespace {

using std::string;

string quote(std::int64_t value) { return std::to_string(value); }

void check_block_size(const BlockSize& block_size) {
  for (const std::int64_t size : {block_size.m, block_size.n, block_size.k}) {
    if (size != 16 && size != 32 && size != 64 && size != 128 && size != 256) {
      throw shape_error("block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got " +
                        to_string(block_size));
    }
  }
}

void check_view(const char* name, const View& view) {
  bool empty = false;
  for (const std::int64_t size : view.shape) {
    if (size < 0) throw shape_error(string(name) + ": negative size in shape " + to_string(view.shape));
    empty |= size == 0;
  }
  if (view.strides_bytes.size() != view.ndim()) {
    throw shape_error(string(name) + ": expected a stride for each axis of shape " + to_string(view.shape) + ", got " +
                      quote(view.strides_bytes.size()) + " strides");
  }
  if (!empty && view.data == nullptr) {
    throw shape_error(string(name) + ": no data for shape " + to_string(view.shape));
  }
}

void check_some_float(const View& a, const View& b, const View* x) {
  if (is_floating(a.dtype) || is_floating(b.dtype) || (x != nullptr && is_floating(x->dtype))) return;
  if (x == nullptr) {
    throw type_error(string("a, b: expected float16, bfloat16, float32 or float64 for at least one of them, got ") +
                     name_of(a.dtype) + " and " + name_of(b.dtype));
  }
  throw type_error(string("x, a, b: expected float16, bfloat16, float32 or float64 for at least one of them, got ") +
                   name_of(x->dtype) + ", " + name_of(a.dtype) + " and " + name_of(b.dtype));
}

void check_operand(const char* name, const View& view) {
  check_view(name, view);
  if (is_complex(view.dtype)) {
    throw type_error(string(name) + ": expected float16, bfloat16, float32 or float64, got " + name_of(view.dtype));
  }
  if (view.ndim() == 0) throw shape_error(string(name) + ": expected at least 1 axis, got a 0-D array");
}

/// x of a dot: the axes `axes`, which nothing broadcasts, after any batch axes.
void check_x(const View& x, const Dims& axes) {
  check_view("x", x);
  if (is_complex(x.dtype)) {
    throw type_error(string("x: expected float16, bfloat16, float32 or float64, got ") + name_of(x.dtype));
  }
  bool fits = x.ndim() >= axes.size();
  for (int i = 1; fits && i <= axes.size(); ++i) fits = x.shape[x.ndim() - i] == axes[axes.size() - i];
  if (fits) return;
  string expected = "(...";
  for (const std::int64_t axis : axes) expected += ", " + quote(axis);
  throw shape_error("x: expected " + expected + ") as the product of a and b has, got " + to_string(x.shape));
}

void check_same_device(const char* name, const View& view, Device device) {
  if (view.device != device) {
    throw device_error(string(name) + ": expected an array on " + to_string(device) + " as a is, got one on " +
                       to_string(view.device));
  }
}

void widen_batch(Dims& batch, const char* name, const View& view, int core_axes) {
  const Dims own = leading(view.shape, view.ndim() - core_axes);
  if (broadcast_shapes(batch, own)) return;
  throw shape_error(string(name) + ": batch axes " + to_string(own) + " do not broadcast with " + to_string(batch) +
                    " of the arguments before it");
}

/// The block axes that a mask has: an axis that a 1-D operand lacks is dropped.
Dims mask_axes(bool has_rows, std::int64_t rows, bool has_cols, std::int64_t cols) {
  Dims axes;
  if (has_rows) axes.push_back(rows);
  if (has_cols) axes.push_back(cols);
  return axes;
}

void check_mask(const char* name, const View& mask, const Dims& axes, const BlockSize& block_size, Device device) {
  check_view(name, mask);
  if (is_complex(mask.dtype)) {
    throw type_error(string(name) + ": expected bool, an integer or a float type, got " + name_of(mask.dtype));
  }
  if (mask.device.type != DeviceType::cpu) check_same_device(name, mask, device);
  for (int i = 1; i <= std::min(axes.size(), mask.ndim()); ++i) {
    const std::int64_t size = mask.shape[mask.ndim() - i];
    if (size == 1 || size == axes[axes.size() - i]) continue;
    string expected = "(...";
    for (const std::int64_t axis : axes) expected += ", " + quote(axis);
    throw shape_error(string(name) + ": expected " + expected + ") for block_size " + to_string(block_size) + ", got " +
                      to_string(mask.shape));
  }
}

Stream resolve_stream(const StreamOrDevice& given, Device device) {
  if (!given.given) return Stream{device};
  if (given.stream.device != device) {
    throw device_error("stream: expected one on " + to_string(device) + " as a is, got " +
                       to_string(given.stream.device));
  }
  return given.stream;
}

void check_out(const MutableView& out, const Problem& problem, const Arguments& arguments) {
  check_view("out", out);
  if (out.shape != problem.result_shape) {
    throw shape_error("out: expected shape " + to_string(problem.result_shape) + ", got " + to_string(out.shape));
  }
  if (out.dtype != problem.result_dtype) {
    throw type_error(string("out: expected ") + name_of(problem.result_dtype) + ", got " + name_of(out.dtype));
  }
  check_same_device("out", out, arguments.a.device);
  if (overlaps_itself(out)) throw shape_error("out: its elements overlap each other");
  const auto check = [&](const char* name, const View& input) {
    if (overlap(out, input)) throw shape_error(string("out: overlaps ") + name + " in memory");
  };
  if (arguments.x != nullptr) check("x", *arguments.x);
  check("a", arguments.a);
  check("b", arguments.b);
  if (arguments.mask_out) check("mask_out", *arguments.mask_out);
  if (arguments.mask_lhs) check("mask_lhs", *arguments.mask_lhs);
  if (arguments.mask_rhs) check("mask_rhs", *arguments.mask_rhs);
}

/// x is null in a block_masked_mm.
void set_types(Problem& problem, Dtype a, Dtype b, const View* x) {
  problem.operand_dtype = is_floating(a) || is_floating(b) ? promote(a, b) : x->dtype;
  const Dtype widest = x != nullptr ? promote(problem.operand_dtype, x->dtype) : problem.operand_dtype;
  problem.accumulate_dtype = accumulate_type(widest);
  problem.result_dtype = x != nullptr ? problem.accumulate_dtype : problem.operand_dtype;
}

}  // namespace

Problem make_problem(const Arguments& arguments) {
  const auto& [a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision, x] = arguments;
  check_block_size(block_size);
  check_operand("a", a);
  check_operand("b", b);
  check_some_float(a, b, x);
  check_same_device("b", b, a.device);

  const bool has_rows = a.ndim() > 1, has_cols = b.ndim() > 1;
  Problem problem;
  problem.block_size = block_size;
  problem.precision = precision;
  problem.stream = resolve_stream(stream, a.device);
  problem.M = has_rows ? a.shape[a.ndim() - 2] : 1;
  problem.K = a.shape.back();
  problem.N = has_cols ? b.shape.back() : 1;
  if (b.shape[has_cols ? b.ndim() - 2 : 0] != problem.K) {
    throw shape_error("b: expected (" + string(has_cols ? "..., " : "") + quote(problem.K) +
                      (has_cols ? ", N)" : ",)") + " to match a of shape " + to_string(a.shape) + ", got " +
                      to_string(b.shape));
  }

  if (x != nullptr) {
    check_x(*x, mask_axes(has_rows, problem.M, has_cols, problem.N));
    check_same_device("x", *x, a.device);
  }
  const std::int64_t blocks_m = ceil_div(problem.M, block_size.m), blocks_n = ceil_div(problem.N, block_size.n),
                     blocks_k = ceil_div(problem.K, block_size.k);
  const Dims axes_out = mask_axes(has_rows, blocks_m, has_cols, blocks_n);
  const Dims axes_lhs = mask_axes(has_rows, blocks_m, true, blocks_k);
  const Dims axes_rhs = mask_axes(true, blocks_k, has_cols, blocks_n);
  if (mask_out) check_mask("mask_out", *mask_out, axes_out, block_size, a.device);
  if (mask_lhs) check_mask("mask_lhs", *mask_lhs, axes_lhs, block_size, a.device);
  if (mask_rhs) check_mask("mask_rhs", *mask_rhs, axes_rhs, block_size, a.device);

  widen_batch(problem.batch, "a", a, has_rows ? 2 : 1);
  widen_batch(problem.batch, "b", b, has_cols ? 2 : 1);
  if (mask_out) widen_batch(problem.batch, "mask_out", *mask_out, axes_out.size());
  if (mask_lhs) widen_batch(problem.batch, "mask_lhs", *mask_lhs, axes_lhs.size());
  if (mask_rhs) widen_batch(problem.batch, "mask_rhs", *mask_rhs, axes_rhs.size());
  problem.result_has_rows = has_rows;
  problem.result_has_cols = has_cols;
  if (x != nullptr) widen_batch(problem.batch, "x", *x, axes_out.size());
  problem.is_dot = x != nullptr;
  problem.result_shape = problem.batch;
  if (has_rows) problem.result_shape.push_back(x != nullptr ? blocks_m : problem.M);
  if (has_cols) problem.result_shape.push_back(x != nullptr ? blocks_n : problem.N);
  set_types(problem, a.dtype, b.dtype, x);
  if (out) check_out(*out, problem, arguments);
  problem.out = out;

  problem.a = broadcast_to(with_matrix_axes(a, has_rows, true), problem.batch, {problem.M, problem.K});
  problem.b = broadcast_to(with_matrix_axes(b, true, has_cols), problem.batch, {problem.K, problem.N});
  const auto spread = [&](const std::optional<View>& mask, bool rows, bool cols, const Dims& blocks) {
    return mask ? broadcast_to(with_matrix_axes(*mask, rows, cols), problem.batch, blocks) : View();
  };
  problem.mask_out = spread(mask_out, has_rows, has_cols, {blocks_m, blocks_n});
  problem.mask_lhs = spread(mask_lhs, has_rows, true, {blocks_m, blocks_k});
  problem.mask_rhs = spread(mask_rhs, true, has_cols, {blocks_k, blocks_n});
  if (x != nullptr) problem.x = spread(*x, has_rows, has_cols, {problem.M, problem.N});
  return problem;
}

void check_cotangent(const View& cotangent, const Problem& problem) {
  check_view("cotangent", cotangent);
  if (cotangent.shape != problem.result_shape) {
    throw shape_error("cotangent: expected shape " + to_string(problem.result_shape) + " as the result has, got " +
                      to_string(cotangent.shape));
  }
  if (!is_floating(cotangent.dtype)) {
    throw type_error(string("cotangent: expected float16, bfloat16, float32 or float64, got ") +
                     name_of(cotangent.dtype));
  }
  check_same_device("cotangent", cotangent, problem.stream.device);
}

void check_differentiable(const View* input, const char* name, const char* what) {
  if (input == nullptr) {
    throw shape_error(string(name) + ": expected a mask where its " + what + " is asked for, got none");
  }
  if (is_floating(input->dtype)) return;
  throw type_error(string(name) + ": expected float16, bfloat16, float32 or float64 where its " + what +
                   " is asked for, got " + name_of(input->dtype));
}

void check_tangent(const View& tangent, const View* input, const char* name) {
  check_differentiable(input, name, "tangent");
  const string tangent_name = string("tangent of ") + name;
  check_view(tangent_name.c_str(), tangent);
  if (tangent.shape != input->shape) {
    throw shape_error(tangent_name + ": expected shape " + to_string(input->shape) + ", got " +
                      to_string(tangent.shape));
  }
  if (tangent.dtype != input->dtype) {
    throw type_error(tangent_name + ": expected " + name_of(input->dtype) + ", got " + name_of(tangent.dtype));
  }
  check_same_device(tangent_name.c_str(), tangent, input->device);
}

}  // namespace maskmm::core
