// What the masks promise beyond numbers, for every kernel set that runs here: dead blocks, memory outside the arrays,
// reproducible bits, scales at the edge of their range.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cfenv>

#include "cpu/dispatch.hpp"
#include "cpu/run.hpp"
#include "cpu_cases.hpp"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace maskmm::test {
namespace {

class CpuExactness : public testing::TestWithParam<const cpu::KernelSet*> {};

/// A plain product of float32 or float64 with bool masks that the test fills.
struct Plain {
  std::int64_t M, N, K, block;
  Dtype dtype;
  std::vector<std::uint8_t> lhs, rhs, out;
  std::int64_t mb() const { return core::ceil_div(M, block); }
  std::int64_t nb() const { return core::ceil_div(N, block); }
  std::int64_t kb() const { return core::ceil_div(K, block); }

  void fill_masks(Random& random, double density) {
    std::bernoulli_distribution keep(density);
    const auto fill_mask = [&](std::vector<std::uint8_t>* mask, std::int64_t count) {
      mask->resize(static_cast<std::size_t>(count));
      for (std::uint8_t& value : *mask) value = keep(random);
    };
    fill_mask(&lhs, mb() * kb());
    fill_mask(&rhs, kb() * nb());
    fill_mask(&out, mb() * nb());
  }
  bool a_used(std::int64_t bi, std::int64_t bk) const {
    for (std::int64_t bj = 0; bj < nb(); ++bj) {
      if (live(bi, bj, bk)) return true;
    }
    return false;
  }
  bool b_used(std::int64_t bk, std::int64_t bj) const {
    for (std::int64_t bi = 0; bi < mb(); ++bi) {
      if (live(bi, bj, bk)) return true;
    }
    return false;
  }
  bool live(std::int64_t bi, std::int64_t bj, std::int64_t bk) const {
    const auto at = [](const std::vector<std::uint8_t>& mask, std::int64_t index) {
      return mask[static_cast<std::size_t>(index)] != 0;
    };
    return at(out, bi * nb() + bj) && at(lhs, bi * kb() + bk) && at(rhs, bk * nb() + bj);
  }
  core::Canonical canonical(void* a, void* b, void* result) const {
    const View va(a, dtype, {M, K}), vb(b, dtype, {K, N});
    return canonical(va, vb, MutableView(result, dtype, {M, N}));
  }
  core::Canonical canonical(const View& a, const View& b, const MutableView& result) const {
    const std::optional<View> mask_out = View(out.data(), Dtype::bool_, {mb(), nb()});
    const std::optional<View> mask_lhs = View(lhs.data(), Dtype::bool_, {mb(), kb()});
    const std::optional<View> mask_rhs = View(rhs.data(), Dtype::bool_, {kb(), nb()});
    const std::optional<MutableView> no_out;
    return core::canonicalize(
        core::make_problem({a, b, BlockSize(block), mask_out, mask_lhs, mask_rhs, {}, no_out, Precision::ieee}),
        result);
  }
};

TEST_P(CpuExactness, WhatIsDeadCannotReachTheResult) {
  const float kPoison[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()};
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Random random(seed);
    Plain plain{pick(random, {48, 100, 130}),
                pick(random, {40, 96, 200}),
                pick(random, {64, 150, 300}),
                pick(random, {16, 32, 64}),
                Dtype::float32,
                {},
                {},
                {}};
    plain.fill_masks(random, seed % 2 ? 0.5 : 0.8);
    std::vector<float> a(static_cast<std::size_t>(plain.M * plain.K)), b(static_cast<std::size_t>(plain.K * plain.N)),
        clean(static_cast<std::size_t>(plain.M * plain.N), -1), poisoned = clean;
    std::normal_distribution<float> normal;
    for (float& value : a) value = normal(random);
    for (float& value : b) value = normal(random);
    cpu::run_with(plain.canonical(a.data(), b.data(), clean.data()), *GetParam(), 1);
    for (std::int64_t i = 0; i < plain.M; ++i) {
      for (std::int64_t k = 0; k < plain.K; ++k) {
        if (!plain.a_used(i / plain.block, k / plain.block))
          a[static_cast<std::size_t>(i * plain.K + k)] = kPoison[random() % 2];
      }
    }
    for (std::int64_t k = 0; k < plain.K; ++k) {
      for (std::int64_t j = 0; j < plain.N; ++j) {
        if (!plain.b_used(k / plain.block, j / plain.block))
          b[static_cast<std::size_t>(k * plain.N + j)] = kPoison[random() % 2];
      }
    }
    cpu::run_with(plain.canonical(a.data(), b.data(), poisoned.data()), *GetParam(), 2);
    ASSERT_EQ(std::memcmp(clean.data(), poisoned.data(), clean.size() * sizeof(float)), 0) << "seed " << seed;

    // A block of A that is Inf: seen exactly where a live triple has it.
    const std::int64_t bi = static_cast<std::int64_t>(random()) & 0x7fff,
                       bk = static_cast<std::int64_t>(random()) & 0x7fff;
    const std::int64_t row = bi % plain.mb(), column = bk % plain.kb();
    for (std::int64_t i = row * plain.block; i < std::min(plain.M, (row + 1) * plain.block); ++i) {
      for (std::int64_t k = column * plain.block; k < std::min(plain.K, (column + 1) * plain.block); ++k) {
        a[static_cast<std::size_t>(i * plain.K + k)] = kPoison[1];
      }
    }
    cpu::run_with(plain.canonical(a.data(), b.data(), poisoned.data()), *GetParam(), 2);
    for (std::int64_t i = 0; i < plain.M; ++i) {
      for (std::int64_t j = 0; j < plain.N; ++j) {
        const bool hit = i / plain.block == row && plain.live(row, j / plain.block, column);
        ASSERT_EQ(std::isfinite(poisoned[static_cast<std::size_t>(i * plain.N + j)]), !hit) << "seed " << seed;
      }
    }
  }
}

/// Memory that ends at the last byte before a page that nobody may touch.
class Guarded {
 public:
  explicit Guarded(std::size_t bytes) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    body_ = (bytes + page - 1) / page * page;
    size_ = body_ + 2 * page;
    base_ = static_cast<std::byte*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_, page, PROT_NONE);
    mprotect(base_ + page + body_, page, PROT_NONE);
    end_ = base_ + page + body_ - bytes;
    begin_ = base_ + page;
  }
  ~Guarded() { munmap(base_, size_); }
  std::byte* at_end() const { return end_; }
  std::byte* at_begin() const { return begin_; }

 private:
  std::size_t body_, size_;
  std::byte *base_, *begin_, *end_;
};

TEST_P(CpuExactness, NothingOutsideTheArraysIsTouched) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    const Dtype dtypes[] = {Dtype::float32, Dtype::float64, Dtype::float16, Dtype::bfloat16, Dtype::float32};
    Plain plain{pick(random, {1, 5, 50, 64, 97}),
                pick(random, {1, 7, 33, 64, 95}),
                pick(random, {1, 3, 31, 64, 130}),
                pick(random, {16, 32, 64}),
                dtypes[random() % 5],
                {},
                {},
                {}};
    plain.fill_masks(random, 0.8);
    const std::size_t size = size_of(plain.dtype);
    const Guarded a(static_cast<std::size_t>(plain.M * plain.K) * size),
        b(static_cast<std::size_t>(plain.K * plain.N) * size), out(static_cast<std::size_t>(plain.M * plain.N) * size);
    const bool at_end = random() % 2;
    const auto place = [&](const Guarded& memory) { return at_end ? memory.at_end() : memory.at_begin(); };
    const auto operand = [&](const Guarded& memory, std::int64_t rows, std::int64_t columns) {
      if (random() % 2) return View(place(memory), plain.dtype, {rows, columns});
      return View(place(memory), plain.dtype, {columns, rows}).transposed();
    };
    const View va = operand(a, plain.M, plain.K), vb = operand(b, plain.K, plain.N);
    for_each_index(va.shape, [&](const auto& index) {
      store(element(va, index), plain.dtype, static_cast<double>(random() % 9) - 4);
    });
    for_each_index(vb.shape, [&](const auto& index) {
      store(element(vb, index), plain.dtype, static_cast<double>(random() % 9) - 4);
    });
    const core::Canonical c = plain.canonical(va, vb, MutableView(place(out), plain.dtype, {plain.M, plain.N}));
    cpu::run_with(c, *GetParam(), 1);
    ASSERT_EQ(verify(c), "") << "seed " << seed;
  }
}

TEST_P(CpuExactness, BlocksInNoLiveTripleMayBeUnmapped) {
  // Rows of blocks are whole pages: 32 rows of 1024 floats or of 512 doubles.
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      Random random(seed);
      const std::int64_t K = 4096 / static_cast<std::int64_t>(size_of(dtype)), N = K;
      Plain plain{256, N, K, 32, dtype, {}, {}, {}};
      plain.fill_masks(random, 0.5);
      // Every second row of blocks is dead: of A by the left or the outer mask, of B by the right one.
      for (std::int64_t bi = 0; bi < plain.mb(); bi += 2) {
        for (std::int64_t bj = 0; bj < plain.nb() && bi % 4 == 0; ++bj)
          plain.out[static_cast<std::size_t>(bi * plain.nb() + bj)] = 0;
        for (std::int64_t bk = 0; bk < plain.kb() && bi % 4 != 0; ++bk)
          plain.lhs[static_cast<std::size_t>(bi * plain.kb() + bk)] = 0;
      }
      for (std::int64_t bk = 0; bk < plain.kb(); bk += 2) {
        for (std::int64_t bj = 0; bj < plain.nb(); ++bj) plain.rhs[static_cast<std::size_t>(bk * plain.nb() + bj)] = 0;
      }
      const std::size_t size = size_of(dtype);
      const Guarded a(static_cast<std::size_t>(plain.M * K) * size), b(static_cast<std::size_t>(K * N) * size),
          out(static_cast<std::size_t>(plain.M * N) * size);
      const std::size_t stripe = 32 * 4096;
      for (std::size_t row = 0; row < static_cast<std::size_t>(plain.mb()); row += 2)
        mprotect(a.at_begin() + row * stripe, stripe, PROT_NONE);
      for (std::size_t row = 0; row < static_cast<std::size_t>(plain.kb()); row += 2)
        mprotect(b.at_begin() + row * stripe, stripe, PROT_NONE);
      cpu::run_with(plain.canonical(a.at_begin(), b.at_begin(), out.at_begin()), *GetParam(), 2);
    }
  }
}

/// The same bits for any number of threads, alone or in a batch, and for masks of 0 and 1 of any type.
TEST_P(CpuExactness, BitsAreReproducible) {
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Random random(seed);
    const std::int64_t M = pick(random, {70, 300, 520}), N = pick(random, {33, 128, 600}), K = pick(random, {100, 700}),
                       block = pick(random, {16, 32, 64});
    const Dims a_shape{2, M, K}, b_shape{2, K, N};
    Strided a = make_strided(random, a_shape, Dtype::float32, true),
            b = make_strided(random, b_shape, Dtype::float32, true);
    fill(random, a);
    fill(random, b);
    const std::int64_t mb = core::ceil_div(M, block), nb = core::ceil_div(N, block), kb = core::ceil_div(K, block);
    std::vector<std::uint8_t> lhs(static_cast<std::size_t>(2 * mb * kb)), rhs(static_cast<std::size_t>(2 * kb * nb));
    for (std::uint8_t& value : lhs) value = random() % 2;
    for (std::uint8_t& value : rhs) value = random() % 3 != 0;
    std::vector<float> lhs_float(lhs.begin(), lhs.end()), rhs_float(rhs.begin(), rhs.end());
    const auto product = [&](std::int64_t first, std::int64_t count, bool float_masks, int threads) {
      std::vector<float> result(static_cast<std::size_t>(count * M * N));
      const auto part = [&](const View& view, const void* data, std::size_t size) {
        View cut(static_cast<const std::byte*>(data) +
                     static_cast<std::size_t>(first * view.shape[1] * view.shape[2]) * size,
                 view.dtype, {count, view.shape[1], view.shape[2]});
        return cut;
      };
      const std::size_t size = float_masks ? 4 : 1;
      const Dtype dtype = float_masks ? Dtype::float32 : Dtype::bool_;
      const void* lhs_data = float_masks ? static_cast<const void*>(lhs_float.data()) : lhs.data();
      const void* rhs_data = float_masks ? static_cast<const void*>(rhs_float.data()) : rhs.data();
      const std::optional<View> mask_lhs = part(View(nullptr, dtype, {2, mb, kb}), lhs_data, size),
                                mask_rhs = part(View(nullptr, dtype, {2, kb, nb}), rhs_data, size), mask_out;
      const std::optional<MutableView> no_out;
      const View va = part(a.view, a.view.data, 4), vb = part(b.view, b.view.data, 4);
      const core::Problem problem =
          core::make_problem({va, vb, BlockSize(block), mask_out, mask_lhs, mask_rhs, {}, no_out, Precision::ieee});
      cpu::run_with(core::canonicalize(problem, MutableView(result.data(), Dtype::float32, {count, M, N})), *GetParam(),
                    threads);
      return result;
    };
    const std::vector<float> expected = product(0, 2, false, 1);
    for (const int threads : {2, 3, 16}) ASSERT_EQ(product(0, 2, false, threads), expected);
    ASSERT_EQ(product(0, 2, true, 1), expected);
    std::vector<float> joined = product(0, 1, false, 2);
    lhs_float.front() = 2;  // another element of the batch has a scale
    lhs_float[1] = 3;
    const std::vector<float> second = product(1, 1, false, 1), scaled = product(0, 2, true, 4);
    joined.insert(joined.end(), second.begin(), second.end());
    ASSERT_EQ(joined, expected);
    ASSERT_EQ(std::memcmp(scaled.data() + M * N, second.data(), second.size() * sizeof(float)), 0);
  }
}

TEST_P(CpuExactness, TheCallersRoundingChangesNothingAndStays) {
  Random random(5);
  Plain plain{70, 90, 300, 32, Dtype::float32, {}, {}, {}};
  plain.fill_masks(random, 0.7);
  std::vector<float> a(70 * 300), b(300 * 90), expected(70 * 90), got(70 * 90);
  std::normal_distribution<float> normal;
  for (float& value : a) value = normal(random) * 1e-21f;  // products are subnormal
  for (float& value : b) value = normal(random) * 1e-21f;
  cpu::run_with(plain.canonical(a.data(), b.data(), expected.data()), *GetParam(), 1);
  EXPECT_NE(*std::max_element(expected.begin(), expected.end()), 0);
  std::fesetround(FE_UPWARD);
  std::feraiseexcept(FE_DIVBYZERO);
#if defined(__x86_64__)
  const unsigned flush = 0x8040;  // FTZ and DAZ
  _mm_setcsr(_mm_getcsr() | flush);
  const unsigned before = _mm_getcsr();
#endif
  cpu::run_with(plain.canonical(a.data(), b.data(), got.data()), *GetParam(), 2);
#if defined(__x86_64__)
  EXPECT_EQ(_mm_getcsr(), before);
  _mm_setcsr(before & ~flush);
#endif
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  EXPECT_TRUE(std::fetestexcept(FE_DIVBYZERO));
  std::fesetround(FE_TONEAREST);
  std::feclearexcept(FE_ALL_EXCEPT);
  EXPECT_EQ(got, expected);
}

/// More inner elements than a panel holds, with scales that leave float's range when multiplied.
TEST_P(CpuExactness, LongInnerAxis) {
  for (const Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::float16}) {
    for (const bool transposed : {false, true}) {
      Random random(11);
      const std::int64_t M = 20, N = 24, K = 40000;
      Case test;
      test.block_size = BlockSize(16, 16, 64);
      test.a = make_strided(random, {M, K}, dtype, true);
      if (transposed) {
        test.a = make_strided(random, {K, M}, dtype, true);
        test.a.view = test.a.view.transposed();
      }
      test.b = make_strided(random, {K, N}, dtype, true);
      fill(random, test.a);
      fill(random, test.b);
      test.mask_lhs = make_strided(random, {2, K / 64}, Dtype::float32, true);
      test.mask_rhs = make_strided(random, {K / 64, 2}, Dtype::float32, true);
      test.mask_out = make_strided(random, {2, 2}, Dtype::float32, true);
      const bool half = dtype == Dtype::float16;
      for_each_index(test.mask_lhs->view.shape, [&](const auto& index) {
        store(element(test.mask_lhs->view, index), Dtype::float32, random() % 2 ? (half ? 0.5 : 1e30) : 0);
      });
      for_each_index(test.mask_rhs->view.shape, [&](const auto& index) {
        store(element(test.mask_rhs->view, index), Dtype::float32, random() % 2 ? (half ? -0.5 : 1e-30) : 0);
      });
      for_each_index(test.mask_out->view.shape, [&](const auto& index) {
        store(element(test.mask_out->view, index), Dtype::float32, index[0] + index[1] == 2 ? 0 : -0.25);
      });
      test.out = make_strided(random, {M, N}, dtype, true);
      const core::Canonical c = core::canonicalize(test.problem(), test.result());
      cpu::run_with(c, *GetParam(), 2);
      ASSERT_EQ(verify(c), "");
      const std::vector<std::byte> first = test.out.memory;
      cpu::run_with(c, *GetParam(), 1);
      ASSERT_EQ(test.out.memory, first);
    }
  }
}

/// Factors whose product leaves float's range while the scaled sum does not.
TEST_P(CpuExactness, ScalesMultiplyWithoutOverflow) {
  for (const auto& [l, r, value] : {std::tuple{1e30f, 1e15f, 1e-15f}, std::tuple{1e-30f, 1e-12f, 1e18f},
                                    std::tuple{1e-12f, -1e-30f, 1e18f}, std::tuple{1e30f, 1e-30f, 1.f}}) {
    std::vector<float> a(16 * 16, value), b(16 * 16, value), out(256);
    const std::optional<View> lhs = View(&l, Dtype::float32, {1, 1}), rhs = View(&r, Dtype::float32, {1, 1}), none;
    const std::optional<MutableView> no_out;
    const View va(a.data(), Dtype::float32, {16, 16}), vb(b.data(), Dtype::float32, {16, 16});
    const core::Problem problem = core::make_problem({va, vb, 16, none, lhs, rhs, {}, no_out, Precision::ieee});
    const core::Canonical c = core::canonicalize(problem, MutableView(out.data(), Dtype::float32, {16, 16}));
    cpu::run_with(c, *GetParam(), 1);
    EXPECT_EQ(verify(c), "") << l << " " << r;
  }
}

INSTANTIATE_TEST_SUITE_P(, CpuExactness, testing::ValuesIn(cpu::runnable_kernel_sets()),
                         [](const auto& info) { return std::string(info.param->name); });

}  // namespace
}  // namespace maskmm::test
