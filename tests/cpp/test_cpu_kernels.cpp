// Every kernel set that runs here, on random problems of every type, stride and mask, against the triple loop.
#include <gtest/gtest.h>

#include "cpu/dispatch.hpp"
#include "cpu/run.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

constexpr Dtype kFloats[] = {Dtype::float32, Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16};
constexpr Dtype kIntegers[] = {Dtype::bool_, Dtype::int8,   Dtype::uint8, Dtype::int16, Dtype::uint16,
                               Dtype::int32, Dtype::uint32, Dtype::int64, Dtype::uint64};

Dtype pick_dtype(Random& random, std::span<const Dtype> from) { return from[random() % from.size()]; }

std::optional<Strided> make_mask(Random& random, const Dims& batch, std::int64_t rows, std::int64_t columns,
                                 double density) {
  if (random() % 3 == 0) return std::nullopt;
  const bool batched = random() % 2;
  Dims shape = batched ? batch : Dims{};
  shape.push_back(random() % 5 ? rows : 1);
  shape.push_back(random() % 5 ? columns : 1);
  const Dtype dtypes[] = {Dtype::bool_,   Dtype::bool_,   Dtype::float32,
                          Dtype::float16, Dtype::float64, pick_dtype(random, kIntegers)};
  Strided mask = make_strided(random, shape, pick_dtype(random, dtypes), random() % 2);
  const bool ones = random() % 2;
  std::uniform_real_distribution<double> uniform(0, 1);
  for_each_index(shape, [&](const auto& index) {
    double value = uniform(random) < density ? (ones ? 1 : static_cast<double>(random() % 7) - 3) : 0;
    if (value == 2 && !ones) value = 1.5;
    store(element(mask.view, index), mask.view.dtype, value);
  });
  return mask;
}

/// `both`: the type of both operands.
Case random_case(Random& random, std::optional<Dtype> both = std::nullopt) {
  Case result;
  const bool square = random() % 2;
  const std::int64_t size = pick(random, {16, 32, 64, 64, 128});
  const auto block = [&] { return square ? size : pick(random, {16, 32, 64, 128, 256}); };
  result.block_size = BlockSize(block(), block(), block());
  const auto extent = [&] { return pick(random, {1, 7, 16, 33, 64, 100, 129, 150, 200}); };
  const std::int64_t M = extent(), N = extent();
  std::int64_t K = extent();
  if (random() % 8 == 0) K = pick(random, {0, 500, 1000});
  Dims batch;
  if (random() % 3 == 0) batch.push_back(pick(random, {1, 2, 3}));
  if (random() % 6 == 0) batch.push_back(2);
  const auto operand = [&](std::int64_t rows, std::int64_t columns, Dtype dtype) {
    Dims shape = random() % 2 ? batch : Dims{};
    shape.push_back(rows);
    shape.push_back(columns);
    return make_strided(random, shape, dtype, random() % 2, true);
  };
  Dtype a = pick_dtype(random, kFloats), b = random() % 2 ? a : pick_dtype(random, kFloats);
  if (random() % 6 == 0) (random() % 2 ? a : b) = pick_dtype(random, kIntegers);
  if (both) a = b = *both;
  result.a = operand(M, K, a);
  result.b = operand(K, N, b);
  fill(random, result.a);
  fill(random, result.b);
  const double densities[] = {0, 0.2, 0.5, 0.8, 1};
  const double density = densities[random() % 5];
  const std::int64_t mb = core::ceil_div(M, result.block_size.m), nb = core::ceil_div(N, result.block_size.n),
                     kb = core::ceil_div(K, result.block_size.k);
  result.mask_out = make_mask(random, batch, mb, nb, density);
  result.mask_lhs = make_mask(random, batch, mb, kb, density);
  result.mask_rhs = make_mask(random, batch, kb, nb, density);
  const core::Problem problem = result.problem();
  result.out = make_strided(random, problem.result_shape, problem.result_dtype, random() % 2);
  return result;
}

class CpuKernels : public testing::TestWithParam<const cpu::KernelSet*> {};

TEST_P(CpuKernels, KeepsToTheBound) {
  for (std::uint64_t seed = 0; seed < 210; ++seed) {
    Random random(seed);
    Case test = random_case(random, seed % 3 == 0 ? std::optional<Dtype>(Dtype::bfloat16) : std::nullopt);
    std::vector<std::byte> before = test.out.memory;
    const core::Canonical canonical = core::canonicalize(test.problem(), test.result());
    cpu::run_with(canonical, *GetParam(), 1 + static_cast<int>(seed % 3));
    ASSERT_EQ(verify(canonical), "") << "seed " << seed;
    // Gaps between the elements of the result keep what they held.
    for_each_index(test.out.view.shape, [&](const auto& index) {
      const std::size_t at = static_cast<std::size_t>(element(test.out.view, index) - test.out.memory.data());
      std::memset(test.out.memory.data() + at, 0xff, size_of(test.out.view.dtype));
    });
    ASSERT_EQ(test.out.memory, before) << "seed " << seed;
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuKernels, testing::ValuesIn(cpu::runnable_kernel_sets()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace maskmm::test
