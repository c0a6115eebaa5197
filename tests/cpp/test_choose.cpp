// What choose may and may not depend on, and how much memory it asks for.
#include <gtest/gtest.h>

#include "cpu/choose.hpp"
#include "cpu/dispatch.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

/// A product of which only the shapes matter.
core::Canonical shapes(std::int64_t M, std::int64_t N, std::int64_t K, Dtype dtype, bool transposed = false,
                       std::int64_t batch = 1) {
  static double anywhere;
  const std::int64_t size = static_cast<std::int64_t>(size_of(dtype));
  core::Canonical c;
  c.m = {M, 64};
  c.n = {N, 64};
  c.k = {K, 64};
  if (batch != 1) c.batch = {batch};
  c.batch_size = batch;
  const auto operand = [&](std::int64_t rows, std::int64_t columns, bool turned) {
    core::Operand result;
    result.data = reinterpret_cast<std::byte*>(&anywhere);
    result.dtype = dtype;
    result.row_stride_bytes = turned ? size : columns * size;
    result.col_stride_bytes = turned ? rows * size : size;
    if (batch != 1) result.batch_strides_bytes = {rows * columns * size};
    return result;
  };
  c.a = operand(M, K, transposed);
  c.b = operand(K, N, transposed);
  c.out = operand(M, N, false);
  c.accumulate = dtype == Dtype::float64 ? Dtype::float64 : Dtype::float32;
  return c;
}

TEST(Choose, RolesAreSwappedWhereAWouldBePackedOverAndOver) {
  const cpu::KernelSet& set = cpu::kPortableKernels;  // it does not read A down its columns
  static bool anywhere;
  core::Operand mask;
  mask.data = reinterpret_cast<std::byte*>(&anywhere);
  core::Canonical c = shapes(512, 512, 512, Dtype::float32);
  EXPECT_FALSE(cpu::prefers_swapped_roles(c, set));
  c = shapes(512, 512, 512, Dtype::float32, true);
  EXPECT_TRUE(cpu::prefers_swapped_roles(c, set));
  EXPECT_FALSE(cpu::prefers_swapped_roles(shapes(64, 512, 512, Dtype::float32, true), set));
  c.b = shapes(512, 512, 512, Dtype::float32).b;
  EXPECT_FALSE(cpu::prefers_swapped_roles(c, set));
  c.mask_rhs = mask;  // as mask_lhs it tells which blocks of A need no packing
  EXPECT_TRUE(cpu::prefers_swapped_roles(c, set));
  c.mask_lhs = mask;
  EXPECT_FALSE(cpu::prefers_swapped_roles(c, set));
}

TEST(Choose, AIsReadDownItsColumnsWhereASetCanAndMasksLeaveFewProductsToACopy) {
  static bool anywhere;
  core::Operand mask;
  mask.data = reinterpret_cast<std::byte*>(&anywhere);
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) {
    const bool can = set->f32.micro_down[1][1] != nullptr;
    core::Canonical c = shapes(512, 512, 512, Dtype::float32, true);
    c.b = shapes(512, 512, 512, Dtype::float32).b;
    EXPECT_FALSE(cpu::choose(c, *set, 1).a_down);
    c.mask_rhs = mask;
    EXPECT_EQ(cpu::choose(c, *set, 1).a_down, can);
    EXPECT_EQ(cpu::prefers_swapped_roles(c, *set), !can);
    c.n.block = 32;
    EXPECT_FALSE(cpu::choose(c, *set, 1).a_down);
    c.n.block = 64;
    c.a = shapes(512, 512, 512, Dtype::float16, true).a;
    EXPECT_FALSE(cpu::choose(c, *set, 1).a_down);
  }
}

TEST(Choose, ScratchIsBoundedWhateverTheSize) {
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) {
    for (const Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16}) {
      for (const bool transposed : {false, true}) {
        for (const std::int64_t M : {1, 64, 5000, 3000000}) {
          for (const std::int64_t N : {1, 64, 4096, 3000000}) {
            for (const std::int64_t K : {1, 512, 2048, 8192, 100000, 2147483647}) {
              const cpu::Choice choice = cpu::choose(shapes(M, N, K, dtype, transposed), *set, 16);
              EXPECT_LE(choice.tasks_at_once * choice.task_sums_bytes, 8 << 20);
              EXPECT_LE(choice.scratch_bytes, 8 << 20) << set->name << " " << M << " " << N << " " << K;
              EXPECT_EQ(choice.tile_columns % choice.sliver, 0);
              EXPECT_EQ(choice.panel_columns % choice.tile_columns, 0);
              EXPECT_GE(choice.threads, 1);
            }
          }
        }
      }
    }
  }
}

TEST(Choose, SumsDoNotDependOnTheNumberOfThreads) {
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) {
    for (const std::int64_t M : {1, 100, 2048}) {
      for (const std::int64_t K : {64, 2048, 65536}) {
        const core::Canonical c = shapes(M, 300, K, Dtype::float32, false, 3);
        const cpu::Choice one = cpu::choose(c, *set, 1);
        for (const int threads : {2, 7, 64}) {
          const cpu::Choice many = cpu::choose(c, *set, threads);
          EXPECT_EQ(many.k_parts, one.k_parts);
          EXPECT_EQ(many.k_range, one.k_range);
          EXPECT_EQ(many.chunk, one.chunk);
        }
      }
    }
  }
}

TEST(Choose, RangesOfKCoverItAndNoPartIsEmpty) {
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) {
    for (const Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::bfloat16}) {
      for (const bool transposed : {false, true}) {
        for (std::int64_t K = 1; K < 300000; K += 1 + K / 7) {
          const cpu::Choice choice = cpu::choose(shapes(34, 41, K, dtype, transposed), *set, 2);
          const std::int64_t part = choice.k_range * choice.part_ranges;
          EXPECT_EQ(choice.k.count(), core::ceil_div(K, 64));
          EXPECT_GE(part * choice.k_parts, choice.k.extent);
          EXPECT_LT(part * (choice.k_parts - 1), choice.k.extent);
          EXPECT_TRUE(choice.k_range == choice.k.extent || choice.k_range % 256 == 0) << K;
        }
      }
    }
  }
}

TEST(Choose, AnyNumberOfThreads) {
  const cpu::KernelSet& set = *cpu::runnable_kernel_sets().front();
  EXPECT_GE(cpu::choose(shapes(4000, 4000, 4000, Dtype::float32), set, 2147483647).threads, 100);
}

TEST(Choose, TheSmallRunInlineAndTheLargeSpread) {
  const cpu::KernelSet& set = *cpu::runnable_kernel_sets().front();
  EXPECT_EQ(cpu::choose(shapes(16, 16, 16, Dtype::float32), set, 16).threads, 1);
  EXPECT_EQ(cpu::choose(shapes(2048, 2048, 2048, Dtype::float32), set, 16).threads, 16);
  EXPECT_EQ(cpu::choose(shapes(2048, 64, 2048, Dtype::float32), set, 2).threads, 2);
  EXPECT_EQ(cpu::choose(shapes(128, 128, 128, Dtype::float32, false, 512), set, 16).threads, 16);
}

TEST(Choose, RowsOfTheRightTypeStayInPlace) {
  const cpu::KernelSet& set = *cpu::runnable_kernel_sets().front();
  EXPECT_TRUE(cpu::choose(shapes(100, 100, 100, Dtype::float32), set, 1).a_in_place);
  EXPECT_FALSE(cpu::choose(shapes(100, 100, 100, Dtype::float32, true), set, 1).a_in_place);
  EXPECT_FALSE(cpu::choose(shapes(100, 100, 100, Dtype::float16), set, 1).a_in_place);
  core::Canonical shifted = shapes(100, 100, 100, Dtype::float32);
  shifted.a.data += 1;
  EXPECT_FALSE(cpu::choose(shifted, set, 1).a_in_place);
}

TEST(Choose, PairsOfBfloat16AreReadInPlaceWhereNoneIsCut) {
  for (const cpu::KernelSet* set : cpu::runnable_kernel_sets()) {
    const bool has_pairs = set->bfloat16_pairs != nullptr;
    core::Canonical c = shapes(100, 100, 100, Dtype::bfloat16);
    EXPECT_EQ(cpu::choose(c, *set, 1).pairs, set->bfloat16_pairs);
    EXPECT_EQ(cpu::choose(c, *set, 1).a_in_place, has_pairs);
    EXPECT_FALSE(cpu::choose(shapes(100, 100, 101, Dtype::bfloat16), *set, 1).a_in_place);
    EXPECT_FALSE(cpu::choose(shapes(100, 100, 100, Dtype::bfloat16, true), *set, 1).a_in_place);
    c.a.data += 2;
    EXPECT_FALSE(cpu::choose(c, *set, 1).a_in_place);
    c = shapes(100, 100, 100, Dtype::bfloat16);
    c.b.dtype = Dtype::float16;
    EXPECT_EQ(cpu::choose(c, *set, 1).pairs, nullptr);
    EXPECT_EQ(cpu::choose(shapes(100, 100, 100, Dtype::float16), *set, 1).pairs, nullptr);
    EXPECT_EQ(cpu::choose(shapes(3, 100, 100, Dtype::bfloat16), *set, 1).pairs, set->few_bfloat16_pairs);
  }
}

}  // namespace
}  // namespace maskmm::test
