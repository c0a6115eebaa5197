// The array functions' arguments as views, with what must stay alive until the call ends.
#pragma once

#include <nanobind/nanobind.h>

#include <optional>

#include "convert.hpp"
#include "core/problem.hpp"
#include "maskmm/block_masked_mm.hpp"
#include "parse.hpp"

namespace maskmm::python {

/// The arguments of block_masked_mm, or with x those of block_masked_dot, as Python gave them; they outlive the Call.
struct PythonArguments {
  nb::handle a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision;
  nb::handle x = {};
};

/// The arguments of a call. What they borrow is held until the Call ends.
class Call {
 public:
  explicit Call(const PythonArguments& given)
      : block_size_(parse_block_size(given.block_size)),
        stream_(parse_stream(given.stream)),
        precision_(parse_precision(given.precision)),
        a_(borrow(given.a, "a", a_keeper_)),
        b_(borrow(given.b, "b", b_keeper_)) {
    if (given.x.is_valid()) x_ = borrow(given.x, "x", x_keeper_);
    if (!given.mask_out.is_none()) mask_out_ = borrow_mask(given.mask_out, "mask_out", mask_out_keeper_);
    if (!given.mask_lhs.is_none()) mask_lhs_ = borrow_mask(given.mask_lhs, "mask_lhs", mask_lhs_keeper_);
    if (!given.mask_rhs.is_none()) mask_rhs_ = borrow_mask(given.mask_rhs, "mask_rhs", mask_rhs_keeper_);
    if (!given.out.is_none()) out_ = borrow_out(given.out, out_keeper_);
  }

  const StreamOrDevice& stream() const { return stream_; }
  core::Problem problem() const { return problem_on(stream_); }
  /// As if `stream` had been given.
  core::Problem problem_on(const StreamOrDevice& stream) const {
    return core::make_problem(
        {a_, b_, block_size_, mask_out_, mask_lhs_, mask_rhs_, stream, out_, precision_, x_ ? &*x_ : nullptr});
  }

 private:
  Keeper x_keeper_, a_keeper_, b_keeper_, mask_out_keeper_, mask_lhs_keeper_, mask_rhs_keeper_, out_keeper_;
  BlockSize block_size_;
  StreamOrDevice stream_;
  Precision precision_;
  View a_, b_;
  std::optional<View> mask_out_, mask_lhs_, mask_rhs_, x_;
  std::optional<MutableView> out_;
};

}  // namespace maskmm::python
