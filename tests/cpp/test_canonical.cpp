#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/canonical.hpp"
#include "core/mask_value.hpp"
#include "core/overlap.hpp"
#include "maskmm/maskmm.hpp"

namespace maskmm {
namespace {

using core::Canonical;

std::vector<float>& storage() {
  static std::vector<float> elements(1 << 20);
  return elements;
}

View floats(const Dims& shape) { return View(storage().data(), Dtype::float32, shape); }

Canonical canonical(const View& a, const View& b, const View& result, const std::optional<View>& mask_lhs = {}) {
  const core::Problem problem =
      core::make_problem({a, b, 16, std::nullopt, mask_lhs, std::nullopt, {}, std::nullopt, Precision::ieee});
  return core::canonicalize(problem, MutableView(const_cast<void*>(result.data), result.dtype, result.shape,
                                                 result.strides_bytes, result.device));
}

TEST(Canonical, ContiguousBatchAxesBecomeOne) {
  const Canonical c = canonical(floats({2, 3, 4, 16, 32}), floats({2, 3, 4, 32, 48}), floats({2, 3, 4, 16, 48}));
  EXPECT_EQ(c.batch, (Dims{24}));
  EXPECT_EQ(c.batch_size, 24);
  EXPECT_EQ(core::batch_data(c.a, c.batch, 23) - c.a.data, 23 * 16 * 32 * 4);
  EXPECT_TRUE(c.a.batched());
}

TEST(Canonical, BroadcastAxesStayApart) {
  const Canonical c = canonical(floats({2, 1, 16, 32}), floats({3, 32, 48}), floats({2, 3, 16, 48}));
  EXPECT_EQ(c.batch, (Dims{2, 3}));
  EXPECT_EQ(core::batch_data(c.a, c.batch, 4) - c.a.data, 16 * 32 * 4);
  EXPECT_EQ(core::batch_data(c.b, c.batch, 4) - c.b.data, 1 * 32 * 48 * 4);
  EXPECT_EQ(core::batch_data(c.out, c.batch, 4) - c.out.data, 4 * 16 * 48 * 4);
}

TEST(Canonical, AMaskWidensTheBatch) {
  const Canonical c = canonical(floats({16, 32}), floats({32, 48}), floats({5, 16, 48}), floats({5, 1, 2}));
  EXPECT_EQ(c.batch, (Dims{5}));
  EXPECT_FALSE(c.a.batched());
  EXPECT_EQ(c.mask_lhs.batch_strides_bytes, (Dims{8}));
  EXPECT_EQ(c.mask_lhs.row_stride_bytes, 0);
}

TEST(Canonical, RolesSwapForColumnMajorResults) {
  const Canonical c = canonical(floats({16, 32}), floats({32, 48}), floats({48, 16}).transposed());
  EXPECT_TRUE(c.swapped);
  EXPECT_EQ(c.m.extent, 48);
  EXPECT_EQ(c.n.extent, 16);
  EXPECT_EQ(c.a.row_stride_bytes, 4);
  EXPECT_EQ(c.a.col_stride_bytes, 48 * 4);
  EXPECT_EQ(c.out.col_stride_bytes, 4);
}

TEST(BlockGrid, LastBlockIsRagged) {
  const core::BlockGrid grid{100, 32};
  EXPECT_EQ(grid.count(), 4);
  EXPECT_EQ(grid.size(2), 32);
  EXPECT_EQ(grid.size(3), 4);
  EXPECT_EQ((core::BlockGrid{0, 32}.count()), 0);
  EXPECT_EQ((core::BlockGrid{std::numeric_limits<std::int64_t>::max(), 16}.count()), std::int64_t{1} << 59);
}

TEST(MaskValue, BoolsAreOneAndSmallDoublesDieInFloat) {
  const std::uint8_t two = 2;
  EXPECT_EQ(core::element_as<float>(&two, Dtype::bool_), 1.0f);
  EXPECT_EQ(core::element_as<float>(&two, Dtype::uint8), 2.0f);
  const double tiny = 1e-50, nan = NAN, negative_zero = -0.0;
  EXPECT_FALSE(core::is_live(core::element_as<float>(&tiny, Dtype::float64)));
  EXPECT_TRUE(core::is_live(core::element_as<double>(&tiny, Dtype::float64)));
  EXPECT_TRUE(core::is_live(core::element_as<float>(&nan, Dtype::float64)));
  EXPECT_FALSE(core::is_live(core::element_as<float>(&negative_zero, Dtype::float64)));
}

TEST(Float16, EveryValueSurvivesTheRoundTripAndTiesGoToEven) {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    float16_t half;
    half.bits = static_cast<std::uint16_t>(bits);
    const float value = static_cast<float>(half);
    if (std::isnan(value)) continue;
    EXPECT_EQ(float16_t(value).bits, half.bits);
  }
  EXPECT_EQ(float16_t(2049.0f).bits, float16_t(2048.0f).bits);
  EXPECT_EQ(float16_t(2051.0f).bits, float16_t(2052.0f).bits);
  EXPECT_EQ(float16_t(65519.0f).bits, 0x7bff);
  EXPECT_EQ(float16_t(65520.0f).bits, 0x7c00);
  EXPECT_EQ(float16_t(std::ldexp(1.0f, -25)).bits, 0);
  EXPECT_EQ(float16_t(std::ldexp(1.5f, -25)).bits, 1);
  EXPECT_EQ(bfloat16_t(1.00390625f).bits, 0x3f80);
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16_t(NAN))));
}

TEST(Overlap, IsExactForSlices) {
  const auto slice = [](std::int64_t offset, const Dims& shape, const Dims& strides) {
    return View(storage().data() + offset, Dtype::float32, shape, strides, Device::cpu);
  };
  const View even = slice(0, {8, 8}, {64, 8});
  EXPECT_FALSE(core::overlap(even, slice(1, {8, 8}, {64, 8})));
  EXPECT_TRUE(core::overlap(even, slice(2, {8, 8}, {64, 8})));
  EXPECT_FALSE(core::overlap(even, slice(8 * 16, {8, 8}, {64, 8})));
  const View left = slice(0, {8, 8}, {64, 4}), right = slice(8, {8, 8}, {64, 4});
  EXPECT_FALSE(core::overlap(left, right));
  EXPECT_TRUE(core::overlap(left, slice(7, {8, 8}, {64, 4})));
  EXPECT_TRUE(core::overlap(right, slice(8 + 7 * 16, {8, 8}, {-64, 4})));
  EXPECT_FALSE(core::overlap(left, slice(0, {0, 8}, {64, 4})));
  EXPECT_TRUE(core::overlaps_itself(slice(0, {8, 8}, {4, 4})));
  EXPECT_FALSE(core::overlaps_itself(slice(100, {8, 8}, {-64, 8})));
}

TEST(Array, CopiesStridedViewsAndChecksTypes) {
  const array matrix({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, {2, 3});
  const array transposed(matrix.transposed());
  EXPECT_EQ(transposed.shape(), (Dims{3, 2}));
  EXPECT_EQ(transposed.data<float>()[1], 4.0f);
  EXPECT_THROW(matrix.data<double>(), type_error);
  EXPECT_THROW(array({1.0f}, {2}), shape_error);
  EXPECT_THROW(array(Dims{std::int64_t{1} << 40, std::int64_t{1} << 40}, Dtype::float32), std::bad_alloc);
  EXPECT_THROW(array(Dims{-1}, Dtype::float32), shape_error);
}

TEST(Stream, DevicesThatAreNotThere) {
  EXPECT_EQ(default_device(), Device());
  EXPECT_THROW(new_stream(Device(Device::gpu, 99)), device_error);
  EXPECT_THROW(set_default_device(Device(Device::cpu, 1)), device_error);
  EXPECT_NE(new_stream(Device::cpu), default_stream(Device::cpu));
  EXPECT_NO_THROW(synchronize());
}

}  // namespace
}  // namespace maskmm
