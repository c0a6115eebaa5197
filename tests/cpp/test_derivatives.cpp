// Reverse and forward mode. The operation is linear in each input, so a difference of two products is a tangent up to
// rounding, and reverse mode is checked as the transpose of forward mode.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "maskmm/maskmm.hpp"

namespace maskmm {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// Numbers, of which a share of about `zeros` is zero.
array numbers(const Dims& shape, std::uint64_t seed, double zeros = 0) {
  array result(shape, Dtype::float64);
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  for (std::int64_t i = 0; i < result.size(); ++i) {
    const double value = normal(random);
    result.data<double>()[i] = uniform(random) < zeros ? 0.0 : value;
  }
  return result;
}

template <class T>
array as(const array& from) {
  array result(from.shape(), dtype_of<T>);
  for (std::int64_t i = 0; i < from.size(); ++i) result.data<T>()[i] = static_cast<T>(from.data<double>()[i]);
  return result;
}

array plus(const array& x, const array& y) {
  array sum(x.shape(), Dtype::float64);
  for (std::int64_t i = 0; i < x.size(); ++i) sum.data<double>()[i] = x.data<double>()[i] + y.data<double>()[i];
  return sum;
}

double inner(const array& x, const array& y) {
  EXPECT_EQ(x.shape(), y.shape());
  double sum = 0;
  for (std::int64_t i = 0; i < x.size(); ++i) sum += x.data<double>()[i] * y.data<double>()[i];
  return sum;
}

double magnitude(const array& x) { return std::sqrt(inner(x, x)) + 1; }

/// a, b and the masks, in the order of the derivatives' members; an absent mask is empty.
struct Call {
  std::optional<array> inputs[5];
  BlockSize block_size = 16;

  std::optional<View> mask(int i) const { return inputs[i] ? std::optional<View>(*inputs[i]) : std::nullopt; }
  array product() const { return block_masked_mm(*inputs[0], *inputs[1], block_size, mask(2), mask(3), mask(4)); }
  Gradients vjp(const View& cotangent, const Wanted& wanted) const {
    return block_masked_mm_vjp(cotangent, wanted, *inputs[0], *inputs[1], block_size, mask(2), mask(3), mask(4));
  }
  array jvp(const Tangents& tangents) const {
    return block_masked_mm_jvp(tangents, *inputs[0], *inputs[1], block_size, mask(2), mask(3), mask(4));
  }
};

template <class Members>
auto& member(Members& members, int i) {
  return i == 0   ? members.a
         : i == 1 ? members.b
         : i == 2 ? members.mask_out
         : i == 3 ? members.mask_lhs
                  : members.mask_rhs;
}

Wanted all_of(const Call& call) {
  Wanted wanted;
  for (int i = 0; i < 5; ++i) member(wanted, i) = call.inputs[i].has_value();
  return wanted;
}

void expect_near(double x, double y, double scale) { EXPECT_NEAR(x, y, 1e-12 * scale); }

/// Everything that must hold of the derivatives of a call in float64.
void check(const Call& call) {
  const array product = call.product();
  const array cotangent = numbers(product.shape(), 99);
  const Gradients gradients = call.vjp(cotangent, all_of(call));
  Tangents all;
  std::vector<array> tangents;
  tangents.reserve(5);
  array sum(product.shape(), Dtype::float64);
  std::fill(sum.data<double>(), sum.data<double>() + sum.size(), 0.0);
  for (int i = 0; i < 5; ++i) {
    if (!call.inputs[i]) continue;
    SCOPED_TRACE("input " + std::to_string(i));
    const array& tangent = tangents.emplace_back(numbers(call.inputs[i]->shape(), 7 + static_cast<unsigned>(i), 0.2));
    member(all, i) = tangent;
    Tangents one;
    member(one, i) = tangent;
    const array change = call.jvp(one);
    Call moved = call;
    moved.inputs[i] = plus(*call.inputs[i], tangent);
    const array difference = moved.product();
    ASSERT_EQ(change.shape(), product.shape());
    for (std::int64_t e = 0; e < product.size(); ++e) {
      expect_near(difference.data<double>()[e] - product.data<double>()[e], change.data<double>()[e], 1e3);
    }
    const array& gradient = *member(gradients, i);
    ASSERT_EQ(gradient.shape(), call.inputs[i]->shape());
    expect_near(inner(cotangent, change), inner(gradient, tangent), magnitude(cotangent) * magnitude(change));
    sum = plus(sum, change);
    Wanted alone;
    member(alone, i) = true;
    const Gradients single = call.vjp(cotangent, alone);
    EXPECT_EQ(std::memcmp(member(single, i)->data<double>(), gradient.data<double>(),
                          static_cast<std::size_t>(gradient.size()) * sizeof(double)),
              0);
  }
  const array together = call.jvp(all);
  for (std::int64_t e = 0; e < sum.size(); ++e) {
    expect_near(together.data<double>()[e], sum.data<double>()[e], 1e3);
  }
}

Call call_of(const Dims& a, const Dims& b, const std::optional<Dims>& out, const std::optional<Dims>& lhs,
             const std::optional<Dims>& rhs, BlockSize block_size = 16) {
  Call call;
  call.block_size = block_size;
  call.inputs[0] = numbers(a, 1);
  call.inputs[1] = numbers(b, 2);
  if (out) call.inputs[2] = numbers(*out, 3, 0.4);
  if (lhs) call.inputs[3] = numbers(*lhs, 4, 0.4);
  if (rhs) call.inputs[4] = numbers(*rhs, 5, 0.4);
  return call;
}

using D = Dims;

TEST(Derivatives, OfMatrices) {
  check(call_of({40, 70}, {70, 50}, D{3, 4}, D{3, 5}, D{5, 4}));
  check(call_of({40, 70}, {70, 50}, {}, {}, {}));
  check(call_of({40, 70}, {70, 50}, {}, D{3, 5}, {}));
  check(call_of({130, 300}, {300, 90}, D{3, 6}, D{3, 5}, D{5, 6}, {64, 16, 64}));
}

TEST(Derivatives, OfOneAxisOperands) {
  check(call_of({70}, {70, 50}, D{4}, D{5}, D{5, 4}));
  check(call_of({40, 70}, {70}, D{3}, D{3, 5}, D{5}));
  check(call_of({70}, {70}, D{}, D{5}, D{5}));
  check(call_of({70}, {3, 70, 50}, D{3, 4}, D{5}, D{5, 4}));
}

TEST(Derivatives, SumOverBroadcastAxes) {
  check(call_of({3, 40, 70}, {70, 50}, D{3, 4}, D{3, 5}, D{5, 4}));
  check(call_of({40, 70}, {3, 70, 50}, D{3, 3, 4}, D{3, 1, 5}, D{1, 4}));
  check(call_of({2, 1, 40, 70}, {3, 70, 50}, D{2, 3, 1, 4}, D{}, D{4}));
  check(call_of({40, 70}, {70, 50}, D{6, 3, 4}, D{1, 1}, {}));
  check(call_of({2, 40, 70}, {1, 70, 50}, D{2, 1, 1}, D{1, 5}, D{5, 1}));
}

TEST(Derivatives, OfEmptyProducts) {
  check(call_of({40, 0}, {0, 50}, D{3, 4}, D{3, 0}, D{0, 4}));
  check(call_of({0, 70}, {70, 50}, D{0, 4}, D{0, 5}, D{5, 4}));
  check(call_of({0, 40, 70}, {70, 50}, D{3, 4}, {}, {}));
}

TEST(Derivatives, TakeTransposedViews) {
  const array a = numbers({70, 40}, 1), b = numbers({50, 70}, 2), lhs = numbers({5, 3}, 3, 0.4);
  const array a_copy(a.transposed()), b_copy(b.transposed()), lhs_copy(lhs.transposed());
  const array g = numbers({50, 40}, 4);
  const Wanted wanted{.a = true, .b = true, .mask_lhs = true};
  const Gradients views =
      block_masked_mm_vjp(g.transposed(), wanted, a.transposed(), b.transposed(), 16, {}, lhs.transposed());
  const Gradients copies = block_masked_mm_vjp(array(g.transposed()), wanted, a_copy, b_copy, 16, {}, lhs_copy);
  for (const int i : {0, 1, 3}) {
    const array &x = *member(views, i), &y = *member(copies, i);
    for (std::int64_t e = 0; e < x.size(); ++e) expect_near(x.data<double>()[e], y.data<double>()[e], 1e3);
  }
}

TEST(Derivatives, HaveTheirInputsTypes) {
  const Call exact = call_of({40, 70}, {70, 50}, D{3, 4}, D{3, 5}, D{5, 4});
  Call mixed = exact;
  mixed.inputs[0] = as<bfloat16_t>(*exact.inputs[0]);
  mixed.inputs[1] = as<float>(*exact.inputs[1]);
  mixed.inputs[2] = as<float16_t>(*exact.inputs[2]);
  mixed.inputs[3] = as<float>(*exact.inputs[3]);
  const array cotangent = numbers({40, 50}, 9);
  const Gradients gradients = mixed.vjp(as<float>(cotangent), all_of(mixed));
  const Gradients expected = exact.vjp(cotangent, all_of(exact));
  const double tolerance[] = {1e-2, 1e-2, 1e-2, 1e-2, 1e-2};
  for (int i = 0; i < 5; ++i) {
    const array &gradient = *member(gradients, i), &value = *member(expected, i);
    ASSERT_EQ(gradient.dtype(), mixed.inputs[i]->dtype());
    for (std::int64_t e = 0; e < gradient.size(); ++e) {
      const double got = i == 0   ? static_cast<float>(gradient.data<bfloat16_t>()[e])
                         : i == 2 ? static_cast<float>(gradient.data<float16_t>()[e])
                         : i == 4 ? gradient.data<double>()[e]
                                  : gradient.data<float>()[e];
      EXPECT_NEAR(got, value.data<double>()[e], tolerance[i] * magnitude(value)) << i << " " << e;
    }
  }
}

TEST(Derivatives, DeadBlocksStayOut) {
  Call call = call_of({64, 64}, {64, 64}, D{4, 4}, D{4, 4}, D{4, 4});
  const array product = call.product();
  array cotangent = numbers({64, 64}, 8);
  const Wanted wanted{.a = true, .b = true};
  const Gradients clean = call.vjp(cotangent, wanted);
  for (int bi = 0; bi < 4; ++bi) {
    for (int bj = 0; bj < 4; ++bj) {
      const auto poison = [&](array& x) { x.data<double>()[bi * 16 * 64 + bj * 16] = kNan; };
      if (call.inputs[3]->data<double>()[bi * 4 + bj] == 0) poison(*call.inputs[0]);
      if (call.inputs[4]->data<double>()[bi * 4 + bj] == 0) poison(*call.inputs[1]);
      if (call.inputs[2]->data<double>()[bi * 4 + bj] == 0) poison(cotangent);
    }
  }
  const Gradients poisoned = call.vjp(cotangent, wanted);
  for (const int i : {0, 1}) {
    const array &x = *member(clean, i), &y = *member(poisoned, i);
    EXPECT_EQ(std::memcmp(x.data<double>(), y.data<double>(), static_cast<std::size_t>(x.size()) * 8), 0);
  }
}

TEST(Derivatives, OfAMaskOfZeros) {
  array one({32, 32}, Dtype::float32), mask({2, 2}, Dtype::float32);
  std::fill(one.data<float>(), one.data<float>() + one.size(), 1.0F);
  std::fill(mask.data<float>(), mask.data<float>() + mask.size(), 0.0F);
  const Gradients gradients =
      block_masked_mm_vjp(one, {.a = true, .mask_out = true}, one, one, 16, std::optional<View>(mask));
  for (int i = 0; i < 4; ++i) EXPECT_EQ(gradients.mask_out->data<float>()[i], 16 * 16 * 32);
  for (int i = 0; i < 32 * 32; ++i) EXPECT_EQ(gradients.a->data<float>()[i], 0);
}

template <class Error>
void expect_error(const std::string& message, const std::function<void()>& function) {
  try {
    function();
    ADD_FAILURE() << "nothing thrown, expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), message);
  }
}

TEST(Derivatives, RefuseWhatHasNone) {
  const array a = numbers({32, 48}, 1), b = numbers({48, 16}, 2), g = numbers({32, 16}, 3);
  array mask({2, 3}, Dtype::bool_), integers({32, 48}, Dtype::int32);
  std::fill(mask.data<bool>(), mask.data<bool>() + 6, true);
  std::fill(integers.data<std::int32_t>(), integers.data<std::int32_t>() + integers.size(), 1);
  const std::optional<View> lhs(mask);
  const std::string floats = "expected float16, bfloat16, float32 or float64";
  expect_error<type_error>("mask_lhs: " + floats + " where its gradient is asked for, got bool",
                           [&] { block_masked_mm_vjp(g, {.mask_lhs = true}, a, b, 16, {}, lhs); });
  expect_error<shape_error>("mask_out: expected a mask where its gradient is asked for, got none",
                            [&] { block_masked_mm_vjp(g, {.mask_out = true}, a, b, 16, {}, lhs); });
  expect_error<type_error>("a: " + floats + " where its gradient is asked for, got int32",
                           [&] { block_masked_mm_vjp(g, {.a = true}, integers, b, 16); });
  expect_error<shape_error>("cotangent: expected shape (32, 16) as the result has, got (32, 48)",
                            [&] { block_masked_mm_vjp(a, {.a = true}, a, b, 16); });
  expect_error<type_error>("cotangent: " + floats + ", got int32", [&] {
    block_masked_mm_vjp(View(integers.view().data, Dtype::int32, {32, 16}), {.a = true}, a, b, 16);
  });
  expect_error<type_error>("mask_lhs: " + floats + " where its tangent is asked for, got bool",
                           [&] { block_masked_mm_jvp({.mask_lhs = lhs}, a, b, 16, {}, lhs); });
  expect_error<shape_error>("tangent of b: expected shape (48, 16), got (32, 16)",
                            [&] { block_masked_mm_jvp({.b = g.view()}, a, b, 16); });
  expect_error<type_error>("tangent of a: expected float64, got int32",
                           [&] { block_masked_mm_jvp({.a = integers.view()}, a, b, 16); });
  expect_error<shape_error>("tangents: expected at least one, got none", [&] { block_masked_mm_jvp({}, a, b, 16); });
  // Nothing wanted is no error, and integers may stand beside what is.
  EXPECT_FALSE(block_masked_mm_vjp(g, {}, a, b, 16).a);
  EXPECT_EQ(block_masked_mm_vjp(g, {.b = true}, integers, b, 16, {}, lhs).b->shape(), b.shape());
}

}  // namespace
}  // namespace maskmm
