// Columns that mask_out keeps of a row are multiplied together, wherever they are.
#include <gtest/gtest.h>

#include "cpu/dispatch.hpp"
#include "cpu/run.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

class CpuGathered : public testing::TestWithParam<const cpu::KernelSet*> {};

Strided make_mask(Random& random, const Dims& shape, unsigned kept_of_eight) {
  Strided mask = make_strided(random, shape, Dtype::bool_, true);
  for_each_index(
      shape, [&](const auto& index) { store(element(mask.view, index), Dtype::bool_, random() % 8 < kept_of_eight); });
  return mask;
}

TEST_P(CpuGathered, WhatIsKeptHasTheBitsOfTheWholeProduct) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    Case test;
    test.block_size = BlockSize(pick(random, {16, 32, 64}), pick(random, {16, 32}), pick(random, {16, 64}));
    const std::int64_t M = pick(random, {70, 100, 200}), N = pick(random, {65, 160, 333, 720, 1100}),
                       K = pick(random, {16, 100, 300});
    const Dtype dtypes[] = {Dtype::float32, Dtype::float32, Dtype::float64, Dtype::bfloat16};
    const Dtype dtype = dtypes[random() % 4];
    test.a = make_strided(random, {M, K}, dtype, true);
    test.b = make_strided(random, {K, N}, dtype, true);
    fill(random, test.a);
    fill(random, test.b);
    const std::int64_t mb = core::ceil_div(M, test.block_size.m), nb = core::ceil_div(N, test.block_size.n),
                       kb = core::ceil_div(K, test.block_size.k);
    test.mask_lhs = make_mask(random, {mb, kb}, 5);  // with it the sums are cut alike, with and without mask_out
    test.out = make_strided(random, {M, N}, dtype, true);
    cpu::run_with(core::canonicalize(test.problem(), test.result()), *GetParam(), 1);
    const Strided whole = test.out;

    test.mask_out = make_mask(random, {mb, nb}, pick(random, {1, 3, 6}));
    std::fill(test.out.memory.begin(), test.out.memory.end(), std::byte{0xff});
    const core::Canonical c = core::canonicalize(test.problem(), test.result());
    cpu::run_with(c, *GetParam(), 2);
    ASSERT_EQ(verify(c), "") << "seed " << seed;
    std::vector<std::byte> expected(whole.memory);
    const std::int64_t size = static_cast<std::int64_t>(size_of(dtype));
    for (std::int64_t i = 0; i < M; ++i) {
      for (std::int64_t j = 0; j < N; ++j) {
        const std::int64_t block = i / test.block_size.m * nb + j / test.block_size.n;
        if (test.mask_out->memory[static_cast<std::size_t>(block)] != std::byte{0}) continue;
        std::fill_n(expected.begin() + (i * N + j) * size, size, std::byte{0});
      }
    }
    expected.resize(static_cast<std::size_t>(M * N * size));
    test.out.memory.resize(expected.size());
    ASSERT_EQ(test.out.memory, expected) << "seed " << seed;
  }
}

// Larger than a last-level cache of 32 MiB: what mask_out drops is cleared before the products.
TEST_P(CpuGathered, OfALargeResultAllOfWhatIsDroppedIsZero) {
  constexpr std::int64_t M = 2051, N = 5003, K = 16;
  for (const std::int64_t block : {16, 64}) {
    Random random(7);
    const std::int64_t columns = core::ceil_div(N, block);
    const Strided mask = make_mask(random, {core::ceil_div(M, block), columns}, 2);
    const std::vector<float> a(M * K, 0.5f), b(K * N, 2);
    std::vector<float> out(M * N, std::numeric_limits<float>::quiet_NaN());
    const MutableView result(out.data(), Dtype::float32, {M, N});
    const core::Problem problem = core::make_problem({View(a.data(), Dtype::float32, {M, K}),
                                                      View(b.data(), Dtype::float32, {K, N}),
                                                      block,
                                                      mask.view,
                                                      std::nullopt,
                                                      std::nullopt,
                                                      {},
                                                      std::nullopt,
                                                      Precision::ieee});
    cpu::run_with(core::canonicalize(problem, result), *GetParam(), 2);
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < M; ++i) {
      for (std::int64_t j = 0; j < N; ++j) {
        const bool kept = mask.memory[static_cast<std::size_t>(i / block * columns + j / block)] != std::byte{0};
        wrong += out[static_cast<std::size_t>(i * N + j)] != (kept ? K : 0);
      }
    }
    EXPECT_EQ(wrong, 0) << "block " << block;
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuGathered, testing::ValuesIn(cpu::runnable_kernel_sets()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace maskmm::test
