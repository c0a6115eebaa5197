// Few rows: B is read once, in place or chunk by chunk. And tasks in a row, which prefetch for each other.
#include <gtest/gtest.h>

#include "cpu/choose.hpp"
#include "cpu/dispatch.hpp"
#include "cpu/run.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

class CpuFewRows : public testing::TestWithParam<const cpu::KernelSet*> {};

Strided make_mask(Random& random, const Dims& shape, Dtype dtype) {
  Strided mask = make_strided(random, shape, dtype, random() % 2);
  for_each_index(shape, [&](const auto& index) {
    store(element(mask.view, index), dtype, random() % 2 ? static_cast<double>(random() % 5) - 2 : 0);
  });
  return mask;
}

Case few_rows(Random& random, std::int64_t batch) {
  Case test;
  test.block_size = BlockSize(pick(random, {16, 64}), pick(random, {16, 32, 64}), pick(random, {16, 32, 64, 256}));
  const std::int64_t M = pick(random, {1, 2, 4, 5, 6, 7, 8, 9, 16, 33, 64}), N = pick(random, {1, 15, 64, 100, 300}),
                     K = pick(random, {0, 1, 31, 64, 200, 700});
  const Dtype dtypes[] = {Dtype::float32, Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16};
  const Dtype dtype = dtypes[random() % 5];
  test.a = make_strided(random, {batch, M, K}, dtype, random() % 2);
  test.b = make_strided(random, {batch, K, N}, dtype, random() % 2);
  fill(random, test.a);
  fill(random, test.b);
  const std::int64_t mb = core::ceil_div(M, test.block_size.m), nb = core::ceil_div(N, test.block_size.n),
                     kb = core::ceil_div(K, test.block_size.k);
  const Dtype mask_dtype = random() % 2 ? Dtype::bool_ : Dtype::float32;
  if (random() % 4) test.mask_rhs = make_mask(random, {batch, kb, nb}, mask_dtype);
  if (random() % 2) test.mask_lhs = make_mask(random, {batch, mb, kb}, mask_dtype);
  if (random() % 3 == 0) test.mask_out = make_mask(random, {batch, mb, nb}, mask_dtype);
  test.out = make_strided(random, {batch, M, N}, dtype, random() % 2);
  return test;
}

/// Element `index` of the batch alone.
core::Canonical alone(const core::Canonical& all, std::int64_t index) {
  core::Canonical one = all;
  for (core::Operand* operand : {&one.a, &one.b, &one.out, &one.mask_out, &one.mask_lhs, &one.mask_rhs}) {
    if (operand->present()) operand->data = core::batch_data(*operand, all.batch, index);
    operand->batch_strides_bytes = {};
  }
  one.batch = {};
  one.batch_size = 1;
  return one;
}

TEST_P(CpuFewRows, KeepToTheBoundWithTheSameBitsForAnyThreadsAndBatch) {
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    Random random(seed);
    Case test = few_rows(random, pick(random, {1, 3, 40}));
    const core::Canonical c = core::canonicalize(test.problem(), test.result());
    cpu::run_with(c, *GetParam(), 1);
    ASSERT_EQ(verify(c), "") << "seed " << seed;
    const std::vector<std::byte> first = test.out.memory;
    std::fill(test.out.memory.begin(), test.out.memory.end(), std::byte{0xff});
    cpu::run_with(c, *GetParam(), 3);
    ASSERT_EQ(test.out.memory, first) << "seed " << seed;
    std::fill(test.out.memory.begin(), test.out.memory.end(), std::byte{0xff});
    for (std::int64_t index = 0; index < c.batch_size; ++index) cpu::run_with(alone(c, index), *GetParam(), 2);
    ASSERT_EQ(test.out.memory, first) << "seed " << seed;
  }
}

TEST_P(CpuFewRows, LongKIsCutAtTheSamePlacesForAnyThreads) {
  Random random(7);
  Case test;
  const std::int64_t M = 3, N = 80, K = 20000;
  test.a = make_strided(random, {M, K}, Dtype::float32, true);
  test.b = make_strided(random, {K, N}, Dtype::float32, true);
  fill(random, test.a);
  fill(random, test.b);
  test.mask_rhs = make_mask(random, {core::ceil_div(K, 64), core::ceil_div(N, 64)}, Dtype::float32);
  test.out = make_strided(random, {M, N}, Dtype::float32, true);
  const core::Canonical c = core::canonicalize(test.problem(), test.result());
  cpu::run_with(c, *GetParam(), 1);
  EXPECT_EQ(verify(c), "");
  const std::vector<std::byte> first = test.out.memory;
  cpu::run_with(c, *GetParam(), 4);
  EXPECT_EQ(test.out.memory, first);
}

TEST_P(CpuFewRows, WalkAlongTheRowsOfALargeB) {
  for (const int kind : {0, 1, 2, 3}) {
    Random random(static_cast<std::uint64_t>(kind));
    Case test;
    const std::int64_t M = kind == 0 ? 4 : 1, block = kind == 2 ? 16 : 64;
    const Dtype dtype = kind % 2 != 0 ? Dtype::float32 : Dtype::float64;
    const std::int64_t K = 3085, N = (std::int64_t{32} << 20) / K / static_cast<std::int64_t>(size_of(dtype)) + 1;
    test.block_size = BlockSize(16, block, 128);
    test.a = make_strided(random, {M, K}, dtype, true);
    test.b = make_strided(random, {K, N}, dtype, true);
    fill(random, test.a);
    fill(random, test.b);
    const std::int64_t blocks = core::ceil_div(K, 128);
    if (kind != 3) test.mask_rhs = make_mask(random, {blocks, core::ceil_div(N, block)}, Dtype::float32);
    if (kind > 1) test.mask_lhs = make_mask(random, {1, blocks}, Dtype::float32);
    test.out = make_strided(random, {M, N}, dtype, true);
    const core::Canonical c = core::canonicalize(test.problem(), test.result());
    const cpu::Choice choice = cpu::choose(c, *GetParam(), 1);
    EXPECT_TRUE(choice.along_rows);
    EXPECT_EQ(choice.adds_row, kind > 1);
    cpu::run_with(c, *GetParam(), 1);
    EXPECT_EQ(verify(c), "");
    const std::vector<std::byte> first = test.out.memory;
    cpu::run_with(c, *GetParam(), 7);
    EXPECT_EQ(test.out.memory, first);
  }
}

TEST_P(CpuFewRows, PackOneChunkWhateverTheSize) {
  Random random(1);
  Case test;
  test.a = make_strided(random, {8, 64}, Dtype::float32, true);
  test.b = make_strided(random, {64, 64}, Dtype::float32, true);
  test.out = make_strided(random, {8, 64}, Dtype::float32, true);
  core::Canonical c = core::canonicalize(test.problem(), test.result());
  c.k.extent = std::int64_t{1} << 31;  // only the shape is looked at
  c.n.extent = 1 << 20;
  const cpu::Choice choice = cpu::choose(c, *GetParam(), 2);
  EXPECT_TRUE(choice.streams_b);
  EXPECT_LE(choice.scratch_bytes, 1 << 20);
  c.m.extent = 65;
  EXPECT_FALSE(cpu::choose(c, *GetParam(), 2).streams_b);
}

TEST_P(CpuFewRows, ZerosOfALargeResultAreAllThere) {
  constexpr std::int64_t kSize = 3001;  // 36 MB
  std::vector<float> a(kSize * 16, 1), b(kSize * 16, 1), out(kSize * kSize, -1);
  const std::int64_t blocks = core::ceil_div(kSize, 256);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(blocks * blocks));
  for (std::size_t i = 0; i < mask.size(); i += 5) mask[i] = 1;
  const std::optional<View> mask_out = View(mask.data(), Dtype::bool_, {blocks, blocks}), none;
  const std::optional<MutableView> no_out;
  const View va(a.data(), Dtype::float32, {kSize, 16}), vb(b.data(), Dtype::float32, {16, kSize});
  const core::Problem problem = core::make_problem({va, vb, 256, mask_out, none, none, {}, no_out, Precision::ieee});
  cpu::run_with(core::canonicalize(problem, MutableView(out.data(), Dtype::float32, {kSize, kSize})), *GetParam(), 2);
  for (std::int64_t i = 0; i < kSize; ++i) {
    for (std::int64_t j = 0; j < kSize; ++j) {
      const bool live = mask[static_cast<std::size_t>(i / 256 * blocks + j / 256)] != 0;
      ASSERT_EQ(out[static_cast<std::size_t>(i * kSize + j)], live ? 16.0f : 0.0f) << i << ", " << j;
    }
  }
}

// Masks that keep many narrow blocks side by side: micro-tiles wider than a sliver of packed B.
TEST_P(CpuFewRows, OneRowHasWideTilesOfNarrowBlocks) {
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    Random random(seed);
    Case test;
    test.block_size = pick(random, {16, 32});
    const std::int64_t N = pick(random, {80, 256, 1000}), K = pick(random, {40, 512});
    const Dtype dtype = random() % 2 ? Dtype::float32 : Dtype::float64;
    test.a = make_strided(random, {1, K}, dtype, true);
    test.b = make_strided(random, {K, N}, dtype, true);
    fill(random, test.a);
    fill(random, test.b);
    const std::int64_t nb = core::ceil_div(N, test.block_size.n), kb = core::ceil_div(K, test.block_size.k);
    Strided mask = make_strided(random, random() % 2 ? Dims{kb, nb} : Dims{1, nb}, Dtype::bool_, true);
    for_each_index(mask.view.shape,
                   [&](const auto& index) { store(element(mask.view, index), Dtype::bool_, random() % 32 != 0); });
    (mask.view.shape[0] == kb ? test.mask_rhs : test.mask_out) = mask;
    test.out = make_strided(random, {1, N}, dtype, true);
    const core::Canonical c = core::canonicalize(test.problem(), test.result());
    cpu::run_with(c, *GetParam(), 1);
    ASSERT_EQ(verify(c), "") << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuFewRows, testing::ValuesIn(cpu::runnable_kernel_sets()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace maskmm::test
