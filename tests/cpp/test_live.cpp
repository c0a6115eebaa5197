// Bit rows against reading one mask value at a time.
#include <gtest/gtest.h>

#include "core/mask_value.hpp"
#include "cpu/live.hpp"
#include "cpu_cases.hpp"

namespace maskmm::test {
namespace {

TEST(Live, BitsAreTheMasksOfAnySizeTypeAndStride) {
  constexpr Dtype kDtypes[] = {Dtype::bool_, Dtype::float32, Dtype::int16, Dtype::float64, Dtype::bfloat16};
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const std::int64_t mb = pick(random, {1, 3, 64, 70, 130}), nb = pick(random, {1, 7, 8, 64, 65, 200}),
                       kb = pick(random, {1, 9, 63, 64, 129});
    Case test;
    test.block_size = 16;
    const Dims batch = random() % 2 ? Dims{2} : Dims{};
    const auto shaped = [&](std::int64_t rows, std::int64_t columns) {
      Dims shape = batch;
      shape.push_back(rows);
      shape.push_back(columns);
      return shape;
    };
    const auto mask = [&](std::int64_t rows, std::int64_t columns) {
      Strided result = make_strided(random, shaped(rows, columns), kDtypes[random() % 5], random() % 2);
      for_each_index(result.view.shape, [&](const auto& index) {
        store(element(result.view, index), result.view.dtype, static_cast<double>(random() % 3));
      });
      return result;
    };
    // Operands are not read: one row of memory stands for all of them.
    std::vector<float> memory(static_cast<std::size_t>(16 * std::max(nb, kb)));
    test.a.view = View(memory.data(), Dtype::float32, {16 * mb, 16 * kb}, {0, 4}, Device::cpu);
    test.b.view = View(memory.data(), Dtype::float32, {16 * kb, 16 * nb}, {0, 4}, Device::cpu);
    if (random() % 4) test.mask_lhs = mask(mb, kb);
    if (random() % 4) test.mask_rhs = mask(kb, nb);
    if (random() % 4) test.mask_out = mask(mb, nb);
    const core::Problem problem = test.problem();
    Strided out;
    const core::Canonical c =
        core::canonicalize(problem, MutableView(memory.data(), problem.result_dtype, problem.result_shape));
    std::vector<std::uint64_t> words(static_cast<std::size_t>(cpu::live_words(c)) + 1, 0xdeadbeef);
    const cpu::Live live = cpu::make_live(c, words.data());
    EXPECT_EQ(words.back(), 0xdeadbeef);

    double triples = 0;
    const auto check = [&](const cpu::BitRows& rows, const core::Operand& operand, bool transposed) {
      ASSERT_EQ(rows.present(), operand.present());
      if (!rows.present()) return;
      bool scaled = false;
      for (std::int64_t b = 0; b < c.batch_size; ++b) {
        for (std::int64_t row = 0; row < rows.rows; ++row) {
          for (std::int64_t bit = 0; bit < rows.words_per_row * 64; ++bit) {
            double value = 0;
            if (bit < rows.bits)
              value = transposed ? mask_value(c, operand, b, bit, row) : mask_value(c, operand, b, row, bit);
            ASSERT_EQ(cpu::test_bit(rows.row(b, row), bit), value != 0) << seed;
            scaled |= value != 0 && value != 1;
          }
        }
      }
      ASSERT_EQ(rows.scaled, scaled);
    };
    check(live.lhs, c.mask_lhs, false);
    check(live.rhs, c.mask_rhs, true);
    check(live.out, c.mask_out, false);
    for (std::int64_t b = 0; b < c.batch_size; ++b) {
      for (std::int64_t bi = 0; bi < mb; ++bi) {
        for (std::int64_t bj = 0; bj < nb; ++bj) {
          if (mask_value(c, c.mask_out, b, bi, bj) == 0) continue;
          for (std::int64_t bk = 0; bk < kb; ++bk) {
            triples += mask_value(c, c.mask_lhs, b, bi, bk) != 0 && mask_value(c, c.mask_rhs, b, bk, bj) != 0;
          }
        }
      }
    }
    EXPECT_EQ(cpu::count_live(c, live), triples) << seed;
  }
}

TEST(Live, ANanIsLiveAndMinusZeroIsDead) {
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), -0.0f, 0.0f, 0x1p-149f};
  std::vector<float> memory(64 * 64);
  const View a(memory.data(), Dtype::float32, {16, 64}), b(memory.data(), Dtype::float32, {64, 16});
  const std::optional<View> lhs = View(values, Dtype::float32, {1, 4}), none;
  const std::optional<MutableView> no_out;
  const core::Problem problem = core::make_problem({a, b, 16, none, lhs, none, {}, no_out, Precision::ieee});
  const core::Canonical c = core::canonicalize(problem, MutableView(memory.data(), Dtype::float32, {16, 16}));
  std::uint64_t words[4];
  const cpu::Live live = cpu::make_live(c, words);
  EXPECT_EQ(*live.lhs.row(0, 0), 0b1001u);
  EXPECT_TRUE(live.lhs.scaled);
}

TEST(Live, BitsBetween) {
  EXPECT_EQ(cpu::bits_between(0, 0, 64), ~std::uint64_t{0});
  EXPECT_EQ(cpu::bits_between(1, 66, 70), 0b111100u);
  EXPECT_EQ(cpu::bits_between(1, 0, 64), 0u);
  EXPECT_EQ(cpu::bits_between(0, 64, 70), 0u);
  EXPECT_EQ(cpu::bits_between(2, 5, 129), 1u);
}

}  // namespace
}  // namespace maskmm::test
