// What the CUDA back end chooses; needs no GPU.
#include <gtest/gtest.h>

#include "core/canonical.hpp"
#include "cuda/choose.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

core::Canonical canonical(std::int64_t m, std::int64_t n, std::int64_t k, Dtype dtype, std::int64_t block = 64) {
  const auto size = static_cast<std::int64_t>(size_of(dtype));
  core::Canonical result;
  result.m = {m, block}, result.n = {n, block}, result.k = {k, block};
  const auto operand = [&](std::int64_t columns) {
    core::Operand made;
    made.data = reinterpret_cast<std::byte*>(0x10000);
    made.dtype = dtype;
    made.row_stride_bytes = columns * size, made.col_stride_bytes = size;
    return made;
  };
  result.a = operand(k), result.b = operand(n), result.out = operand(n);
  result.accumulate = dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32;
  result.promoted = dtype;
  result.device = Device::gpu;
  return result;
}

core::Operand mask(Dtype dtype) {
  core::Operand made;
  made.data = reinterpret_cast<std::byte*>(0x20000);
  made.dtype = dtype;
  return made;
}

TEST(CudaChoose, OldGpusAreRefused) {
  const core::Canonical c = canonical(64, 64, 64, Dtype::float32);
  try {
    choose(c, {.capability = 75});
    ADD_FAILURE();
  } catch (const unsupported_error& error) {
    EXPECT_STREQ(error.what(), "CUDA: expected a GPU of compute capability 8.0 or later, got 7.5");
  }
}

TEST(CudaChoose, TilesFollowTheMasks) {
  core::Canonical c = canonical(8192, 8192, 8192, Dtype::bfloat16, 16);
  c.mask_lhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm80 bfloat16 128x256");
  c.mask_rhs = c.mask_lhs, c.mask_lhs = {};
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm80 bfloat16 256x128");
  EXPECT_EQ(choose(c, {}).scaling.kernel.function, nullptr);
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm80 bfloat16 128x256");
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm80 bfloat16 128x128 scaling");
}

TEST(CudaChoose, HopperTakesBlocksOf64) {
  core::Canonical c = canonical(8192, 8192, 8192, Dtype::bfloat16);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x512");
  c.mask_out = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x256 gathered");
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x256 gathered");
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm90 128x256 any masks scaling");
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x256 any masks");
  for (const DeviceLimits& other : {DeviceLimits{.capability = 100}, DeviceLimits{.hopper_code = false}}) {
    EXPECT_STREQ(choose(c, other).choosing.kernel.name, "sm80 bfloat16 128x128");
  }
  c.a.row_stride_bytes += 2;
  EXPECT_NE(choose(c, {}).reason.find("not the Hopper kernel: an operand's type, strides"), std::string::npos);
}

TEST(CudaChoose, HopperScales) {
  core::Canonical c = canonical(8192, 8192, 8192, Dtype::bfloat16);
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x512");
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm90 128x512 scaling");
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm90 128x256 any masks scaling");
  c = canonical(8192, 8192, 8192, Dtype::bfloat16, 32);
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm90 192x192 blocks of 32 scaling");
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm90 192x192 blocks of 32, any masks scaling");
}

TEST(CudaChoose, HopperTakesDotsWhoseXTheCopyEngineBrings) {
  core::Canonical c = canonical(8192, 8192, 8192, Dtype::bfloat16);
  c.x = c.out, c.out.dtype = Dtype::float32;
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x512 dot");
  std::swap(c.x.row_stride_bytes, c.x.col_stride_bytes);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x512 dot");
  c.mask_out = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x256 dot, any masks");
  c.x.data += 2;
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm80 bfloat16 128x256");
  EXPECT_NE(choose(c, {}).reason.find("not the Hopper kernel: x's type, strides or address"), std::string::npos);
  c.x.data -= 2, c.m.extent -= 4;
  EXPECT_EQ(choose(c, {}).choosing.kernel.cluster, 0);
  c.m.extent += 4, c.x.dtype = Dtype::float32;
  EXPECT_EQ(choose(c, {}).choosing.kernel.cluster, 0);
}

TEST(CudaChoose, HopperHasBlocksOf32) {
  core::Canonical c = canonical(8192, 8192, 8192, Dtype::bfloat16, 32);
  c.mask_lhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x192 blocks of 32");
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x192 blocks of 32, any masks");
  c.mask_lhs = {};
  EXPECT_TRUE(orient(c, {}).swapped);
  c.mask_rhs = {};
  c.mask_out = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x256 gathered");
  c.mask_lhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm90 192x192 blocks of 32, any masks");
}

TEST(CudaChoose, HopperLeavesSmallResults) {
  const core::Canonical c = canonical(512, 512, 4096, Dtype::bfloat16);
  EXPECT_NE(choose(c, {}).reason.find("not the Hopper kernel: too few tiles"), std::string::npos);
  EXPECT_STREQ(choose(c, {.family = Family::sm90}).choosing.kernel.name, "sm90 128x256");
}

TEST(CudaChoose, HopperWantsOneMaskOnTheLeft) {
  core::Canonical c = canonical(8192, 4096, 8192, Dtype::bfloat16);
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_TRUE(orient(c, {}).swapped);
  EXPECT_EQ(orient(c, {}).m.extent, 4096);
  EXPECT_FALSE(orient(c, {.hopper_code = false}).swapped);
  c.mask_lhs = mask(Dtype::bool_);
  EXPECT_FALSE(orient(c, {}).swapped);
}

TEST(CudaChoose, BlocksOfKThatNoMaskTellsApartAreJoined) {
  core::Canonical c = canonical(2048, 4096, 4096, Dtype::bfloat16, 16);
  EXPECT_EQ(orient(c, {}).k.block, 64);
  EXPECT_EQ(orient(c, {}).m.block, 16);
  c.mask_lhs = mask(Dtype::bool_);
  EXPECT_EQ(orient(c, {}).k.block, 16);
  c = canonical(2048, 4096, 4096, Dtype::bfloat16, 128);
  EXPECT_EQ(orient(c, {}).k.block, 128);
}

TEST(CudaChoose, FewTilesSplitK) {
  const Choice choice = choose(canonical(64, 64, 8192, Dtype::float16), {});
  EXPECT_STREQ(choice.choosing.kernel.name, "sm80 float16 64x64");
  EXPECT_EQ(choice.choosing.schedule.splits, 32);
  EXPECT_GE(choice.workspace.bytes, 32 * 64 * 64 * 4);
  EXPECT_EQ(choose(canonical(8192, 8192, 8192, Dtype::float16), {}).choosing.schedule.splits, 1);
}

TEST(CudaChoose, AScalingMaskWithoutBlocksHasItsWord) {
  core::Canonical c = canonical(64, 64, 0, Dtype::float32);
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_GE(choose(c, {}).workspace.bytes, 4);
}

TEST(CudaChoose, LargeMaskedProblemsAreWeighedOnTheDevice) {
  core::Canonical c = canonical(4096, 4096, 4096, Dtype::float32);
  EXPECT_FALSE(choose(c, {}).plans);
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "simt float32 128x128");
  c.mask_out = mask(Dtype::bool_);
  const Choice choice = choose(c, {});
  EXPECT_TRUE(choice.plans);
  EXPECT_STREQ(choice.small.kernel.name, "simt float32 64x64");
  c.precision = Precision::tf32;
  EXPECT_STREQ(choose(c, {}).choosing.kernel.name, "sm80 tf32 128x256");
  EXPECT_STREQ(choose(c, {}).small.kernel.name, "sm80 tf32 64x64");
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_STREQ(choose(c, {}).scaling.kernel.name, "sm80 tf32 128x128 scaling");
  EXPECT_EQ(choice.small.schedule.total, 64 * 64);
  EXPECT_GE(choice.workspace.bytes, 4 * 2 * (64 * 64 + 32 * 32));
  core::Canonical small = canonical(512, 512, 512, Dtype::float32);
  small.mask_out = mask(Dtype::bool_);
  EXPECT_FALSE(choose(small, {}).plans);
}

TEST(CudaChoose, FewRowsReadBOnce) {
  core::Canonical c = canonical(16, 8192, 8192, Dtype::bfloat16);
  c.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c, {}).few_rows.name, "sm80 bfloat16 16 rows");
  EXPECT_EQ(choose(c, {}).choosing.schedule.splits, 1);
  c.mask_rhs = mask(Dtype::float32);
  EXPECT_EQ(choose(c, {}).few_rows.function, nullptr) << "scales are for the other kernels";
  c.mask_rhs = mask(Dtype::bool_);
  c.n.block = 32;
  EXPECT_EQ(choose(c, {}).few_rows.function, nullptr) << "its columns lie in one block";
  EXPECT_EQ(choose(canonical(16, 1024, 8192, Dtype::bfloat16), {}).choosing.schedule.splits, 8);
  core::Canonical more = canonical(64, 8192, 8192, Dtype::float16);
  more.mask_lhs = mask(Dtype::bool_);
  DeviceLimits ampere;
  ampere.capability = 80;
  EXPECT_STREQ(choose(more, ampere).few_rows.name, "sm80 float16 64 rows");
  EXPECT_STREQ(choose(more, {}).choosing.kernel.name, "sm90 float16 64 rows");
  more.n.extent = 1024;
  EXPECT_STREQ(choose(more, {}).few_rows.name, "sm80 float16 64 rows") << "k in parts";
  more.m.block = 32;
  EXPECT_EQ(choose(more, {}).few_rows.function, nullptr) << "its rows lie in one block";
  // b with few columns: the same with the roles swapped, where its k is contiguous.
  core::Canonical columns = canonical(8192, 16, 8192, Dtype::bfloat16);
  columns.b.row_stride_bytes = 2, columns.b.col_stride_bytes = 8192 * 2;
  EXPECT_TRUE(orient(columns, {}).swapped);
  EXPECT_STREQ(choose(orient(columns, {}), {}).few_rows.name, "sm80 bfloat16 16 rows");
  columns.n.extent = 64;
  EXPECT_STREQ(choose(orient(columns, {}), {}).choosing.kernel.name, "sm90 bfloat16 64 rows");
}

TEST(CudaChoose, SmallProblemsTakeOneLaunch) {
  core::Canonical c = canonical(1024, 1024, 256, Dtype::float16, 32);
  c.mask_lhs = mask(Dtype::bool_);
  DeviceLimits ampere;
  ampere.capability = 80;
  EXPECT_TRUE(choose(c, ampere).direct);
  EXPECT_STREQ(choose(c, ampere).choosing.kernel.name, "sm80 float16 direct 64x64");
  EXPECT_FALSE(choose(canonical(1024, 1024, 1024, Dtype::float16), ampere).direct);
  const auto name = [](std::int64_t m, std::int64_t n, std::int64_t k, const DeviceLimits& limits = {}) {
    return std::string(choose(canonical(m, n, k, Dtype::float16), limits).choosing.kernel.name);
  };
  EXPECT_EQ(name(512, 512, 512, ampere), "sm80 float16 direct 32x32");
  EXPECT_EQ(name(128, 128, 128), "sm80 float16 direct 32x32");
  EXPECT_EQ(name(256, 256, 256), "sm90 wave 64x64");
  EXPECT_EQ(name(1024, 1024, 1024), "sm90 wave 64x128");
  EXPECT_EQ(name(2048, 2048, 1024), "sm90 wave 128x256");
  EXPECT_EQ(name(4096, 4096, 1024), "sm90 wave 128x256");
  EXPECT_EQ(name(8192, 4096, 1024).substr(0, 9), "sm90 192x") << "more than four waves";
  EXPECT_EQ(choose(canonical(1024, 1024, 4096, Dtype::float16), {}).choosing.schedule.splits, 4);
  const auto with_small_blocks = [](std::int64_t m, std::int64_t n, std::int64_t k) {
    core::Canonical small = canonical(m, n, k, Dtype::float16, 32);
    small.mask_lhs = mask(Dtype::bool_);
    return std::string(choose(small, {}).choosing.kernel.name);
  };
  EXPECT_EQ(with_small_blocks(512, 512, 512), "sm90 float16 small 64x64");
  EXPECT_EQ(with_small_blocks(1024, 1024, 1024), "sm90 float16 small 128x64");
  EXPECT_NE(with_small_blocks(2048, 2048, 1024).substr(0, 18), "sm90 float16 small") << "more tiles than processors";
  EXPECT_NE(with_small_blocks(1024, 1024, 4096).substr(0, 18), "sm90 float16 small") << "k is too long";
  EXPECT_TRUE(choose(c, {}).direct);
  c.mask_lhs = mask(Dtype::float32);
  EXPECT_FALSE(choose(c, {}).direct);
  core::Canonical c32 = canonical(64, 64, 64, Dtype::float32, 32);
  c32.mask_rhs = mask(Dtype::bool_);
  EXPECT_STREQ(choose(c32, {}).choosing.kernel.name, "simt float32 direct 32x32");
  EXPECT_EQ(choose(c32, {}).workspace.bytes, 0);
  EXPECT_FALSE(choose(canonical(1024, 1024, 1024, Dtype::float32), {}).direct);
  c32.precision = Precision::tf32;
  EXPECT_FALSE(choose(c32, {}).direct);
}

TEST(CudaChoose, OddStridesAreReadElementByElement) {
  core::Canonical c = canonical(256, 256, 256, Dtype::float32);
  EXPECT_TRUE(choose(c, {}).a.vectors);
  EXPECT_TRUE(choose(c, {}).a.k_major);
  EXPECT_FALSE(choose(c, {}).b.k_major);
  c.a.row_stride_bytes += 4;
  EXPECT_FALSE(choose(c, {}).a.vectors);
  EXPECT_NE(choose(c, {}).reason.find("a is read element by element"), std::string::npos);
  c.swapped = true;
  EXPECT_NE(choose(c, {}).reason.find("b is read element by element"), std::string::npos);
}

TEST(CudaChoose, OtherGpusGetSmallerTilesAndFewerStages) {
  const core::Canonical c = canonical(8192, 8192, 8192, Dtype::float16);
  EXPECT_EQ(choose(c, {}).choosing.stages, 4);
  const DeviceLimits other{.capability = 86,
                           .hopper_code = false,
                           .sms = 84,
                           .shared_bytes_per_block = 99 << 10,
                           .shared_bytes_per_sm = 100 << 10};
  EXPECT_STREQ(choose(c, other).choosing.kernel.name, "sm80 float16 128x128");
  EXPECT_EQ(choose(c, other).choosing.stages, 3);
  EXPECT_STREQ(choose(c, {.hopper_code = false}).choosing.kernel.name, "sm80 float16 128x128");
}

}  // namespace
}  // namespace maskmm::cuda
