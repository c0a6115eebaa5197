// The table of derivatives, interpreted: transposed views, the two operations, sums over what was broadcast.
#include "maskmm/derivatives.hpp"

#include "core/backend.hpp"
#include "core/broadcast.hpp"
#include "core/derivative_table.hpp"
#include "core/problem.hpp"
#include "core/scratch_array.hpp"
#include "maskmm/block_masked_dot.hpp"
#include "maskmm/error.hpp"

namespace maskmm {
namespace {

using core::Derivative;
using core::Name;
using core::Operation;
using core::Term;

constexpr Name kInputs[] = {Name::a, Name::b, Name::mask_out, Name::mask_lhs, Name::mask_rhs};

/// The inputs of a call as given, and the checked problem that they make.
struct Inputs {
  const View* a;
  const View* b;
  const View* mask_out;
  const View* mask_lhs;
  const View* mask_rhs;
  core::Problem problem;

  const View* given(Name name) const {
    const View* const views[] = {a, b, mask_out, mask_lhs, mask_rhs};
    return views[static_cast<int>(name) - static_cast<int>(Name::a)];
  }

  /// With the axes that 1-D operands drop, at least two of them, as given otherwise: an axis of size 1 may broadcast.
  View canonical(Name name) const {
    const bool rows = problem.result_has_rows || name == Name::b || name == Name::mask_rhs;
    const bool columns = problem.result_has_cols || name == Name::a || name == Name::mask_lhs;
    return core::with_matrix_axes(*given(name), rows, columns);
  }
};

Inputs make_inputs(const View& a, const View& b, BlockSize block_size, const std::optional<View>& mask_out,
                   const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs, StreamOrDevice stream,
                   Precision precision) {
  const std::optional<MutableView> no_out;
  const auto pointer = [](const std::optional<View>& mask) { return mask ? &*mask : nullptr; };
  return {&a,
          &b,
          pointer(mask_out),
          pointer(mask_lhs),
          pointer(mask_rhs),
          core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, no_out, precision})};
}

/// Which inputs a Wanted, Gradients or Tangents has a member for.
template <class Members>
auto& member(Members& members, Name name) {
  switch (name) {
    case Name::a:
      return members.a;
    case Name::b:
      return members.b;
    case Name::mask_out:
      return members.mask_out;
    case Name::mask_lhs:
      return members.mask_lhs;
    default:
      return members.mask_rhs;
  }
}

/// The same elements under another shape; row-major.
MutableView reshaped(array& memory, const Dims& shape) {
  const MutableView view = memory.mutable_view();
  return MutableView(const_cast<void*>(view.data), view.dtype, shape, view.device);
}

Dims with_axes_in_front(const Dims& shape, int axes) {
  Dims result;
  result.resize(axes, 1);
  for (const std::int64_t size : shape) result.push_back(size);
  return result;
}

void sum_axes(const View& from, const MutableView& to, const Stream& stream) {
  if (stream.device.type == DeviceType::cpu) {
    cpu::sum_axes(from, to);
  } else {
    cuda::sum_axes(from, to, stream);
  }
}

/// One gradient: `row` of the table, carried out.
array gradient(const Derivative& row, const Inputs& inputs, const View& cotangent) {
  const core::Problem& problem = inputs.problem;
  const auto term = [&](const Term& wanted) -> std::optional<View> {
    if (wanted.name == Name::nothing) return std::nullopt;
    if (wanted.name != Name::cotangent && inputs.given(wanted.name) == nullptr) return std::nullopt;  // all ones
    const View view = wanted.name == Name::cotangent ? cotangent : inputs.canonical(wanted.name);
    return wanted.transposed ? view.transposed() : view;
  };
  const std::int64_t sizes[] = {problem.block_size.m, problem.block_size.n, problem.block_size.k};
  const BlockSize blocks(sizes[row.blocks[0]], sizes[row.blocks[1]], sizes[row.blocks[2]]);
  const auto x = term(row.x), mask_out = term(row.mask_out), mask_lhs = term(row.mask_lhs),
             mask_rhs = term(row.mask_rhs);
  const View a = *term(row.a), b = *term(row.b);
  const std::optional<MutableView> no_out;
  const core::Problem step = core::make_problem(
      {a, b, blocks, mask_out, mask_lhs, mask_rhs, problem.stream, no_out, problem.precision, x ? &*x : nullptr});

  const View& input = *inputs.given(row.input);
  array result(input.shape, input.dtype, problem.stream.device);
  // The same elements, with the axes that the step's result has.
  const Dims own = inputs.canonical(row.input).shape;
  const Dims shape = with_axes_in_front(own, step.result_shape.size() - own.size());
  const MutableView target = reshaped(result, shape);
  const auto carry_out = [&](const MutableView& to) {
    if (row.gradient == Operation::mm) {
      block_masked_mm(a, b, blocks, mask_out, mask_lhs, mask_rhs, problem.stream, to, problem.precision);
    } else {
      block_masked_dot(*x, a, b, blocks, mask_out, mask_lhs, mask_rhs, problem.stream, to, problem.precision);
    }
  };
  if (shape == step.result_shape && input.dtype == step.result_dtype) {
    carry_out(target);
    return result;
  }
  array full = core::scratch_array(step.result_shape, step.result_dtype, problem.stream);
  carry_out(full.mutable_view());
  sum_axes(full, target, problem.stream);
  return result;
}

}  // namespace

Gradients block_masked_mm_vjp(const View& cotangent, const Wanted& wanted, const View& a, const View& b,
                              BlockSize block_size, const std::optional<View>& mask_out,
                              const std::optional<View>& mask_lhs, const std::optional<View>& mask_rhs,
                              StreamOrDevice stream, Precision precision) {
  const Inputs inputs = make_inputs(a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, precision);
  const core::Problem& problem = inputs.problem;
  core::check_cotangent(cotangent, problem);
  for (const Name name : kInputs) {
    if (member(wanted, name)) core::check_differentiable(inputs.given(name), core::name_of(name), "gradient");
  }
  const View full = core::with_matrix_axes(cotangent, problem.result_has_rows, problem.result_has_cols);
  Gradients gradients;
  for (const Derivative& row : core::kDerivatives) {
    if (row.operation != Operation::mm || !member(wanted, row.input)) continue;
    member(gradients, row.input) = gradient(row, inputs, full);
  }
  return gradients;
}

array block_masked_mm_jvp(const Tangents& tangents, const View& a, const View& b, BlockSize block_size,
                          const std::optional<View>& mask_out, const std::optional<View>& mask_lhs,
                          const std::optional<View>& mask_rhs, StreamOrDevice stream, Precision precision) {
  const Inputs inputs = make_inputs(a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, precision);
  const core::Problem& problem = inputs.problem;
  std::int64_t terms = 0;
  for (const Name name : kInputs) {
    const std::optional<View>& tangent = member(tangents, name);
    if (!tangent) continue;
    ++terms;
    core::check_tangent(*tangent, inputs.given(name), core::name_of(name));
  }
  if (terms == 0) throw shape_error("tangents: expected at least one, got none");

  array result(problem.result_shape, problem.result_dtype, problem.stream.device);
  const auto carry_out = [&](Name name, const MutableView& to) {
    const View& tangent = *member(tangents, name);
    const auto mask = [&](Name mask_name, const std::optional<View>& own) {
      return mask_name == name ? std::optional<View>(tangent) : own;
    };
    block_masked_mm(name == Name::a ? tangent : a, name == Name::b ? tangent : b, block_size,
                    mask(Name::mask_out, mask_out), mask(Name::mask_lhs, mask_lhs), mask(Name::mask_rhs, mask_rhs),
                    problem.stream, to, precision);
  };
  // One term goes where it belongs; several are summed over an axis in front.
  Dims stacked{terms};
  for (const std::int64_t size : problem.result_shape) stacked.push_back(size);
  array all = terms > 1 ? core::scratch_array(stacked, problem.result_dtype, problem.stream) : result;
  const std::int64_t term_bytes = result.size() * static_cast<std::int64_t>(size_of(result.dtype()));
  auto* data = static_cast<std::byte*>(const_cast<void*>(all.view().data));
  for (const Name name : kInputs) {
    if (!member(tangents, name)) continue;
    carry_out(name, MutableView(data, result.dtype(), result.shape(), result.device()));
    data += term_bytes;
  }
  if (terms > 1) sum_axes(all, reshaped(result, with_axes_in_front(result.shape(), 1)), problem.stream);
  return result;
}

}  // namespace maskmm
