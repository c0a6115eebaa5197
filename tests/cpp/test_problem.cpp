#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/problem.hpp"
#include "maskmm/maskmm.hpp"

namespace maskmm {
namespace {

using core::Arguments;
using core::Problem;

/// The arguments of a call, with a default for each.
struct Call {
  View a = floats({128, 256});
  View b = floats({256, 192});
  BlockSize block_size = 64;
  std::optional<View> mask_out, mask_lhs, mask_rhs;
  StreamOrDevice stream;
  std::optional<MutableView> out;

  static View floats(const Dims& shape, Dtype dtype = Dtype::float32) {
    static std::vector<double> elements(1 << 17);
    return View(elements.data(), dtype, shape);
  }
  static MutableView results(const Dims& shape, Dtype dtype = Dtype::float32) {
    static std::vector<double> elements(1 << 16);
    return MutableView(elements.data(), dtype, shape);
  }
  Problem make() const {
    return core::make_problem({a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, Precision::ieee});
  }
};

template <class Error>
void expect_error(const std::string& message, const std::function<void(Call&)>& change) {
  Call call;
  change(call);
  try {
    call.make();
    FAIL() << "accepted; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(message, error.what());
  }
}

TEST(Problem, MatrixProduct) {
  const Problem problem = Call().make();
  EXPECT_EQ(problem.M, 128);
  EXPECT_EQ(problem.N, 192);
  EXPECT_EQ(problem.K, 256);
  EXPECT_EQ(problem.result_shape, (Dims{128, 192}));
  EXPECT_EQ(problem.result_dtype, Dtype::float32);
}

TEST(Problem, BatchAxesOfAllArgumentsBroadcast) {
  Call call;
  call.a = Call::floats({3, 1, 16, 32});
  call.b = Call::floats({2, 32, 48});
  call.block_size = 16;
  call.mask_out = Call::floats({5, 1, 1, 1, 3});
  call.mask_lhs = Call::floats({});
  const Problem problem = call.make();
  EXPECT_EQ(problem.result_shape, (Dims{5, 3, 2, 16, 48}));
  EXPECT_EQ(problem.a.shape, (Dims{5, 3, 2, 16, 32}));
  EXPECT_EQ(problem.a.strides_bytes[0], 0);
  EXPECT_EQ(problem.a.strides_bytes[2], 0);
  EXPECT_EQ(problem.mask_lhs.strides_bytes, (Dims{0, 0, 0, 0, 0}));
  EXPECT_EQ(problem.mask_rhs.data, nullptr);
}

TEST(Problem, OneDimensionalOperandsDropAxesOfResultAndMasks) {
  Call call;
  call.a = Call::floats({256});
  call.mask_lhs = Call::floats({4});
  call.mask_out = Call::floats({7, 3});
  EXPECT_EQ(call.make().result_shape, (Dims{7, 192}));
  call.b = Call::floats({256});
  call.mask_rhs = Call::floats({4});
  call.mask_out = Call::floats({7});
  const Problem problem = call.make();
  EXPECT_EQ(problem.result_shape, (Dims{7}));
  EXPECT_EQ(problem.mask_out.shape, (Dims{7, 1, 1}));
  EXPECT_EQ(problem.mask_lhs.shape, (Dims{7, 1, 4}));
}

TEST(Problem, Promotes) {
  const auto result = [](Dtype a, Dtype b) {
    Call call;
    call.a.dtype = a;
    call.b.dtype = b;
    return call.make().result_dtype;
  };
  EXPECT_EQ(result(Dtype::float16, Dtype::bfloat16), Dtype::float32);
  EXPECT_EQ(result(Dtype::bfloat16, Dtype::float32), Dtype::float32);
  EXPECT_EQ(result(Dtype::float32, Dtype::float64), Dtype::float64);
  EXPECT_EQ(result(Dtype::int64, Dtype::float16), Dtype::float16);
  EXPECT_EQ(result(Dtype::bfloat16, Dtype::bool_), Dtype::bfloat16);
}

TEST(Problem, RefusesShapes) {
  expect_error<shape_error>("block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got 48",
                            [](Call& call) { call.block_size = 48; });
  expect_error<shape_error>("block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got (16, 0, 64)",
                            [](Call& call) { call.block_size = {16, 0, 64}; });
  expect_error<shape_error>("a: expected at least 1 axis, got a 0-D array",
                            [](Call& call) { call.a = Call::floats({}); });
  expect_error<shape_error>("b: expected (..., 256, N) to match a of shape (128, 256), got (255, 192)",
                            [](Call& call) { call.b = Call::floats({255, 192}); });
  expect_error<shape_error>("b: expected (256,) to match a of shape (128, 256), got (255,)",
                            [](Call& call) { call.b = Call::floats({255}); });
  expect_error<shape_error>("b: batch axes (3,) do not broadcast with (2,) of the arguments before it", [](Call& call) {
    call.a = Call::floats({2, 16, 16});
    call.b = Call::floats({3, 16, 16});
  });
  expect_error<shape_error>("a: negative size in shape (-1, 256)", [](Call& call) { call.a.shape[0] = -1; });
  expect_error<shape_error>("a: no data for shape (128, 256)", [](Call& call) { call.a.data = nullptr; });
}

TEST(Problem, RefusesMasks) {
  expect_error<shape_error>("mask_lhs: expected (..., 2, 4) for block_size 64, got (2, 3)",
                            [](Call& call) { call.mask_lhs = Call::floats({2, 3}); });
  expect_error<shape_error>("mask_rhs: expected (..., 2, 6) for block_size (64, 32, 128), got (4, 6)", [](Call& call) {
    call.block_size = {64, 32, 128};
    call.mask_rhs = Call::floats({4, 6});
  });
  expect_error<shape_error>("mask_lhs: expected (..., 4) for block_size 64, got (3,)", [](Call& call) {
    call.a = Call::floats({256});
    call.mask_lhs = Call::floats({3});
  });
  expect_error<shape_error>("mask_out: batch axes (3,) do not broadcast with (2,) of the arguments before it",
                            [](Call& call) {
                              call.a = Call::floats({2, 16, 16});
                              call.b = Call::floats({16, 16});
                              call.mask_out = Call::floats({3, 1, 1});
                            });
  expect_error<type_error>("mask_out: expected bool, an integer or a float type, got complex64",
                           [](Call& call) { call.mask_out = Call::floats({2, 3}, Dtype::complex64); });
}

TEST(Problem, RefusesTypes) {
  expect_error<type_error>("a: expected float16, bfloat16, float32 or float64, got complex128",
                           [](Call& call) { call.a.dtype = Dtype::complex128; });
  expect_error<type_error>(
      "a, b: expected float16, bfloat16, float32 or float64 for at least one of them, got int32 and bool",
      [](Call& call) {
        call.a.dtype = Dtype::int32;
        call.b.dtype = Dtype::bool_;
      });
}

TEST(Problem, RefusesDevices) {
  expect_error<device_error>("b: expected an array on cpu:0 as a is, got one on gpu:0",
                             [](Call& call) { call.b.device = Device::gpu; });
  expect_error<device_error>("mask_lhs: expected an array on cpu:0 as a is, got one on gpu:1", [](Call& call) {
    call.mask_lhs = Call::floats({2, 4});
    call.mask_lhs->device = Device(Device::gpu, 1);
  });
  expect_error<device_error>("stream: expected one on cpu:0 as a is, got gpu:0",
                             [](Call& call) { call.stream = Device::gpu; });
}

TEST(Problem, RefusesOut) {
  expect_error<shape_error>("out: expected shape (128, 192), got (192, 128)",
                            [](Call& call) { call.out = Call::results({192, 128}); });
  expect_error<type_error>("out: expected float32, got float64",
                           [](Call& call) { call.out = Call::results({128, 192}, Dtype::float64); });
  expect_error<shape_error>("out: its elements overlap each other", [](Call& call) {
    call.out = Call::results({128, 192});
    call.out->strides_bytes[0] = 4;
  });
  expect_error<shape_error>("out: overlaps b in memory", [](Call& call) {
    call.out = Call::results({128, 192});
    call.b = View(static_cast<const float*>(call.out->data) + 128 * 192 - 1, Dtype::float32, {256, 192});
  });
}

TEST(Problem, OutMayInterleaveWithAnInput) {
  std::vector<float> both(2 * 64 * 64);
  const Dims strides{2 * 64 * 4, 8};
  Call call;
  call.a = View(both.data(), Dtype::float32, {64, 64}, strides, Device::cpu);
  call.b = Call::floats({64, 64});
  call.out = MutableView(both.data() + 1, Dtype::float32, {64, 64}, strides, Device::cpu);
  EXPECT_NO_THROW(call.make());
  call.out = MutableView(both.data() + 64, Dtype::float32, {64, 64}, Dims{2 * 64 * 4, 4}, Device::cpu);
  EXPECT_THROW(call.make(), shape_error);
}

}  // namespace
}  // namespace maskmm
