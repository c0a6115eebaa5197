// All derivatives of block_masked_mm and block_masked_dot, as one table.
//
// Both are linear in each of their inputs, so the gradient of each input is one of the two again, with the roles
// changed: the two are closed, and the table serves derivatives of any order. src/derivatives.cpp and
// python/maskmm/_derivatives.py interpret it. With g the cotangent of block_masked_mm(a, b), h that of
// block_masked_dot(x, a, b), P = h * mask_out, T transposed, and O, L, R the masks:
//
//   of mm:   a: mm(g, b.T; O, R.T -> lhs, rhs; L -> out)     mask_out: dot(g, a, b; L, R)
//            b: mm(a.T, g; L.T, O; R)                        mask_lhs: dot(a, g, b.T; O, R.T)
//                                                            mask_rhs: dot(b, a.T, g; L.T, O)
//   of dot:  x: mm(a, b; L, R; P)                            mask_out: dot(x, a, b; h -> out, L, R)
//            a: mm(x, b.T; P, R.T; L)                        mask_lhs: dot(a, x, b.T; P, R.T)
//            b: mm(a.T, x; L.T, P; R)                        mask_rhs: dot(b, a.T, x; L.T, P)
//
// The gradient of a mask has no such mask among its arguments: it is defined, and read for, where the mask is zero.
// P is zero where mask_out is, whatever h holds there: what is dead contributes nothing.
// The tangent of the result (forward mode) needs no table: it is the sum, over the inputs, of the operation with that
// input replaced by its tangent.
#pragma once

#include <array>
#include <cstdint>
#include <utility>

namespace maskmm::core {

enum class Name : std::uint8_t {
  nothing,
  x,
  a,
  b,
  mask_out,
  mask_lhs,
  mask_rhs,
  cotangent,  // of the result
  weights,    // cotangent * mask_out, block by block, of a dot; zero where mask_out is
};
enum class Operation : std::uint8_t { mm, dot };

constexpr const char* name_of(Name name) {
  constexpr const char* kNames[] = {"", "x", "a", "b", "mask_out", "mask_lhs", "mask_rhs", "cotangent", "weights"};
  return kNames[static_cast<int>(name)];
}
constexpr const char* name_of(Operation operation) { return operation == Operation::mm ? "mm" : "dot"; }

struct Term {
  Name name = Name::nothing;  // nothing: the argument is absent
  bool transposed = false;
  constexpr Term() = default;
  constexpr Term(Name name_, bool transposed_ = false) : name(name_), transposed(transposed_) {}
};

/// The gradient of one input of an operation.
struct Derivative {
  Operation operation;
  Name input;
  Operation gradient;
  Term x, a, b, mask_out, mask_lhs, mask_rhs;  // what `gradient` is called with
  int blocks[3];                               // its block sizes, as indices into (m, n, k)

  constexpr std::array<std::pair<Name, Term>, 6> arguments() const {
    return {{{Name::x, x},
             {Name::a, a},
             {Name::b, b},
             {Name::mask_out, mask_out},
             {Name::mask_lhs, mask_lhs},
             {Name::mask_rhs, mask_rhs}}};
  }
};

namespace derivative_table {

using enum Name;
inline constexpr Term aT{a, true}, bT{b, true}, lhsT{mask_lhs, true}, rhsT{mask_rhs, true};
inline constexpr auto mm = Operation::mm, dot = Operation::dot;

// operation, input, gradient, x, a, b, mask_out, mask_lhs, mask_rhs, blocks
inline constexpr Derivative kRows[] = {
    {mm, a, mm, {}, cotangent, bT, mask_lhs, mask_out, rhsT, {0, 2, 1}},
    {mm, b, mm, {}, aT, cotangent, mask_rhs, lhsT, mask_out, {2, 1, 0}},
    {mm, mask_out, dot, cotangent, a, b, {}, mask_lhs, mask_rhs, {0, 1, 2}},
    {mm, mask_lhs, dot, a, cotangent, bT, {}, mask_out, rhsT, {0, 2, 1}},
    {mm, mask_rhs, dot, b, aT, cotangent, {}, lhsT, mask_out, {2, 1, 0}},
    {dot, x, mm, {}, a, b, weights, mask_lhs, mask_rhs, {0, 1, 2}},
    {dot, a, mm, {}, x, bT, mask_lhs, weights, rhsT, {0, 2, 1}},
    {dot, b, mm, {}, aT, x, mask_rhs, lhsT, weights, {2, 1, 0}},
    {dot, mask_out, dot, x, a, b, cotangent, mask_lhs, mask_rhs, {0, 1, 2}},
    {dot, mask_lhs, dot, a, x, bT, {}, weights, rhsT, {0, 2, 1}},
    {dot, mask_rhs, dot, b, aT, x, {}, lhsT, weights, {2, 1, 0}},
};

}  // namespace derivative_table

inline constexpr const auto& kDerivatives = derivative_table::kRows;

}  // namespace maskmm::core
