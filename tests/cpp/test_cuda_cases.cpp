// Products on the GPU against the oracle: a table, and random cases.
#include "cuda_case.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaCases : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
  }
};

void verify(const Case& c) {
  Problem problem(c);
  problem.run(default_stream(Device::gpu));
  problem.check();
}

MaskSpec mask(Dtype dtype, double density = 0.5) {
  MaskSpec spec;
  spec.dtype = dtype;
  spec.density = density;
  return spec;
}

constexpr Dtype kFloats[] = {Dtype::float16, Dtype::bfloat16, Dtype::float32, Dtype::float64};
constexpr std::int64_t kBlocks[] = {16, 32, 64, 128, 256};

TEST_F(CudaCases, Plain) {
  for (const Dtype dtype : kFloats) {
    for (const std::int64_t size : {16, 64, 128, 256, 384}) {
      Case c;
      c.m = c.n = c.k = size;
      c.a_dtype = c.b_dtype = dtype;
      verify(c);
    }
  }
}

TEST_F(CudaCases, EveryBlockSizeWithEachMask) {
  for (const Dtype dtype : kFloats) {
    for (const std::int64_t block : kBlocks) {
      for (int which = 1; which < 8; ++which) {
        Case c;
        c.m = 300, c.n = 280, c.k = 330;
        c.block = block;
        c.a_dtype = c.b_dtype = dtype;
        if (which & 1) c.out = mask(Dtype::bool_, 0.6);
        if (which & 2) c.lhs = mask(Dtype::bool_, 0.6);
        if (which & 4) c.rhs = mask(Dtype::bool_, 0.6);
        c.infinite = 1e-4;
        c.seed = static_cast<std::uint64_t>(block * 8 + which);
        verify(c);
      }
    }
  }
}

TEST_F(CudaCases, ScalingMasks) {
  for (const Dtype dtype : kFloats) {
    for (const std::int64_t block : kBlocks) {
      for (const Dtype scale : {Dtype::float32, Dtype::float16, Dtype::float64, Dtype::int8, Dtype::int64}) {
        Case c;
        c.m = 200, c.n = 300, c.k = 270;
        c.block = block;
        c.a_dtype = c.b_dtype = dtype;
        c.out = mask(scale, 0.7);
        if (block != 32) c.lhs = mask(scale, 0.7);
        if (block != 64) c.rhs = mask(scale, 0.7);
        c.seed = static_cast<std::uint64_t>(block) + static_cast<std::uint64_t>(scale);
        verify(c);
      }
    }
  }
}

TEST_F(CudaCases, LargeTiles) {
  for (const Dtype dtype : kFloats) {
    for (int which = 0; which < 5; ++which) {
      Case c;
      c.m = 1500, c.n = 1600, c.k = 90;  // large tiles on every processor of the largest GPUs
      c.block = which == 4 ? BlockSize(16) : BlockSize(32, 64, 16);
      c.a_dtype = c.b_dtype = dtype;
      if (which == 1) c.lhs = mask(Dtype::bool_, 0.3);
      if (which == 2) c.rhs = mask(Dtype::bool_, 0.3);
      if (which >= 3) c.out = c.lhs = c.rhs = mask(Dtype::bool_, 0.6);
      if (dtype == Dtype::float16 || dtype == Dtype::bfloat16) c.m = 2200, c.n = 2100;
      c.infinite = 1e-5;
      verify(c);
    }
  }
}

TEST_F(CudaCases, LayoutsOfOperands) {
  for (const Dtype dtype : kFloats) {
    for (int a = 0; a < kLays; ++a) {
      for (int b = 0; b < kLays; ++b) {
        Case c;
        c.m = 96, c.n = 144, c.k = 112;
        c.block = BlockSize(32, 16, 64);
        c.a_dtype = c.b_dtype = dtype;
        c.a_lay = static_cast<Lay>(a), c.b_lay = static_cast<Lay>(b), c.out_lay = static_cast<Lay>((a + b) % 7);
        c.lhs = mask(Dtype::bool_, 0.7);
        c.rhs = mask(Dtype::bool_, 0.7);
        verify(c);
      }
    }
  }
}

TEST_F(CudaCases, Tf32) {
  for (const std::int64_t block : {16, 32, 64}) {
    for (int layout = 0; layout < 4; ++layout) {
      for (int which = 0; which < 8; ++which) {
        Case c;
        c.m = 300, c.n = 280, c.k = 336;
        if (which == 1 || which == 2) c.m = 1800, c.n = 2700, c.k = 72;  // large tiles
        c.block = block;
        c.a_dtype = c.b_dtype = Dtype::float32;
        c.a_lay = layout & 1 ? Lay::columns : Lay::padded;
        c.b_lay = layout & 2 ? Lay::columns : Lay::padded;
        const Dtype type = which == 7 ? Dtype::float32 : Dtype::bool_;
        if (which & 1) c.lhs = mask(type, 0.6);
        if (which & 2) c.rhs = mask(type, 0.6);
        if (which & 4) c.out = mask(type, 0.6);
        c.precision = Precision::tf32;
        verify(c);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaCases, OddSizes) {
  for (const Dtype dtype : kFloats) {
    for (const std::int64_t m : {1, 17, 100}) {
      for (const std::int64_t n : {1, 33, 250}) {
        for (const std::int64_t k : {0, 1, 40, 129}) {
          Case c;
          c.m = m, c.n = n, c.k = k;
          c.block = 32;
          c.a_dtype = c.b_dtype = dtype;
          c.a_lay = c.b_lay = c.out_lay = Lay::padded;
          c.lhs = mask(Dtype::bool_, 0.8);
          c.out = mask(Dtype::float32, 0.8);
          verify(c);
        }
      }
    }
  }
}

TEST_F(CudaCases, MixedTypes) {
  const std::pair<Dtype, Dtype> pairs[] = {{Dtype::float16, Dtype::bfloat16}, {Dtype::bfloat16, Dtype::float32},
                                           {Dtype::float32, Dtype::float64},  {Dtype::int8, Dtype::float16},
                                           {Dtype::bfloat16, Dtype::int64},   {Dtype::bool_, Dtype::float32},
                                           {Dtype::float64, Dtype::int32},    {Dtype::float16, Dtype::float64}};
  for (const auto& [a, b] : pairs) {
    for (const Lay lay : {Lay::rows, Lay::columns, Lay::misaligned}) {
      Case c;
      c.m = 130, c.n = 70, c.k = 100;
      c.block = 32;
      c.a_dtype = a, c.b_dtype = b;
      c.a_lay = c.b_lay = lay;
      c.lhs = mask(Dtype::bool_, 0.7);
      verify(c);
    }
  }
}

TEST_F(CudaCases, SplitK) {
  for (const Dtype dtype : kFloats) {
    for (int which = 0; which < 4; ++which) {
      Case c;
      c.m = which == 3 ? 1 : 60, c.n = 130, c.k = 3000;
      c.block = which == 0 ? 16 : 64;
      c.a_dtype = c.b_dtype = dtype;
      if (which >= 1) c.lhs = mask(which == 2 ? Dtype::float32 : Dtype::bool_, 0.1);
      if (which >= 2) c.out = mask(Dtype::float32, 0.7);
      verify(c);
    }
  }
}

TEST_F(CudaCases, Planned) {
  for (const Dtype dtype : kFloats) {
    for (int which = 0; which < 4; ++which) {
      Case c;
      c.m = 1300, c.n = 1290, c.k = 1290;  // enough products for a plan
      c.block = which == 3 ? BlockSize(32, 64, 128) : BlockSize(64);
      c.a_dtype = c.b_dtype = dtype;
      if (which == 0) c.out = mask(Dtype::bool_, 0.05);
      if (which == 1) c.lhs = c.rhs = mask(Dtype::bool_, 0.1);
      if (which == 2) c.lhs = mask(Dtype::float32, 0.1), c.out = mask(Dtype::float32, 0.3);
      if (which == 3) c.rhs = mask(Dtype::bool_, 0.1), c.out_lay = Lay::reversed;
      verify(c);
    }
  }
}

TEST_F(CudaCases, PlannedUnderOneMask) {
  for (const Dtype dtype : {Dtype::float32, Dtype::float64}) {
    for (int which = 0; which < 8; ++which) {
      Case c;
      c.m = 1300, c.n = 1288, c.k = 1296;
      c.block = which < 4 ? 64 : 16;
      c.a_dtype = c.b_dtype = dtype;
      c.a_lay = kOperandLays[which & 1], c.b_lay = kOperandLays[which >> 1 & 1];
      c.out_lay = which == 5 ? Lay::columns : Lay::rows;
      (which % 3 ? c.lhs : c.rhs) = mask(Dtype::bool_, 0.15);
      c.infinite = 1e-6;
      c.seed = static_cast<std::uint64_t>(which);
      verify(c);
    }
  }
}

TEST_F(CudaCases, DotIsThatOfTheCpu) {
  Random random(11);
  for (const Dtype dtype : {Dtype::float16, Dtype::float32, Dtype::float64}) {
    for (const std::int64_t size : {200, 1312}) {  // without a plan, and with one
      const std::int64_t blocks = (size + 63) / 64;
      std::vector<double> values(static_cast<std::size_t>(size * size));
      for (double& value : values) value = static_cast<double>(random() % 17) - 8;  // sums are exact in float32
      std::vector<std::uint8_t> bits(static_cast<std::size_t>(blocks * blocks));
      for (auto& bit : bits) bit = random() % 5 == 0;
      const auto filled = [&] {
        array made({size, size}, dtype, Device::cpu);
        for (std::size_t i = 0; i < values.size(); ++i) {
          const double value = values[(i * 7 + 3) % values.size()];
          if (dtype == Dtype::float16) made.data<float16_t>()[i] = float16_t(static_cast<float>(value));
          if (dtype == Dtype::float32) made.data<float>()[i] = static_cast<float>(value);
          if (dtype == Dtype::float64) made.data<double>()[i] = value;
        }
        return made;
      };
      const array host = filled();
      const array device(host.view(), Device::gpu);
      const View mask_view(bits.data(), Dtype::bool_, {blocks, blocks});
      for (int which = 0; which < 3; ++which) {
        const std::optional<View> masked(mask_view), none;
        const auto dot = [&](const array& x) {
          return block_masked_dot(x, x, x, 64, which == 0 ? masked : none, which == 1 ? masked : none,
                                  which == 2 ? masked : none);
        };
        const array expected = dot(host), got(dot(device).view(), Device::cpu);
        for (std::int64_t i = 0; i < blocks * blocks; ++i) {
          const double want = dtype == Dtype::float64 ? expected.data<double>()[i] : expected.data<float>()[i];
          const double have = dtype == Dtype::float64 ? got.data<double>()[i] : got.data<float>()[i];
          ASSERT_NEAR(have, want, 1e-4 * std::fabs(want) + 1e3) << which << " " << i;
        }
      }
    }
  }
}

TEST_F(CudaCases, FewRows) {
  for (const Dtype dtype : {Dtype::float16, Dtype::bfloat16}) {
    for (const std::int64_t m : {1, 16, 17, 40, 64}) {
      for (int which = 0; which < 12; ++which) {
        Case c;
        c.m = m, c.n = which % 3 == 0 ? 200 : 1160,
        c.k = which % 4 == 0 ? 2104 : 136;  // the kernel for few rows, or for small problems
        c.block = BlockSize(which % 2 ? 16 : 64, which % 3 ? 64 : 128, which % 4 == 2 ? 32 : 64);
        c.a_dtype = c.b_dtype = dtype;
        c.b_lay = which % 2 ? Lay::columns : Lay::rows;
        if (which == 5) c.n = 72, c.k = 40000, c.block = BlockSize(16, 64, 32);  // more blocks than are listed at once
        if (which > 0) c.rhs = mask(Dtype::bool_, which % 5 == 0 ? 0.1 : 0.6);
        if (which > 3) c.lhs = mask(Dtype::bool_, 0.6);
        if (which > 7) c.out = mask(Dtype::bool_, 0.5);
        if (which == 9 || which == 10) c.a_batch = {3}, c.rhs.batch = {3};
        if (which == 11) std::swap(c.m, c.n), c.out_lay = Lay::rows;
        c.infinite = 1e-4;
        verify(c);
      }
    }
  }
}

TEST_F(CudaCases, Batches) {
  for (const Dtype dtype : kFloats) {
    for (int which = 0; which < 6; ++which) {
      Case c;
      c.m = 70, c.n = 48, c.k = 90;
      c.block = 16;
      c.a_dtype = c.b_dtype = dtype;
      c.a_batch = which == 0 ? Dims{} : which == 1 ? Dims{3} : Dims{3, 1};
      c.b_batch = which == 0 ? Dims{} : which == 1 ? Dims{} : Dims{2};
      c.lhs = mask(Dtype::bool_, 0.6);
      c.lhs.batch = which == 0 ? Dims{5} : which == 3 ? Dims{3, 2} : Dims{};
      c.rhs = mask(which == 4 ? Dtype::float32 : Dtype::bool_, 0.6);
      c.rhs.batch = which == 4 ? Dims{3, 1} : which == 5 ? Dims{2, 1, 2} : Dims{};
      c.out = mask(which == 2 ? Dtype::float32 : Dtype::bool_, 0.8);
      c.out.batch = which == 0 ? Dims{5} : which == 2 ? Dims{2} : Dims{};
      verify(c);
    }
  }
}

TEST_F(CudaCases, MoreBatchAxesThanALaunchTakes) {
  for (const bool on_host : {false, true}) {
    Case c;
    c.m = 70, c.n = 48, c.k = 90;
    c.block = 32;
    c.a_dtype = c.b_dtype = on_host ? Dtype::float32 : Dtype::bfloat16;
    c.a_batch = {2, 1, 3, 1, 2, 1}, c.b_batch = {1, 2, 1, 2, 1, 2};
    c.lhs = mask(Dtype::bool_, 0.6), c.lhs.batch = {2, 1, 1, 2, 1, 1};
    c.out = mask(Dtype::float32, 0.8), c.out.batch = {3, 1, 2, 1};
    c.lhs.on_host = c.out.on_host = on_host;
    verify(c);
  }
}

TEST_F(CudaCases, MasksOfAnyLayAndPlace) {
  for (int lay = 0; lay < kLays; ++lay) {
    for (const bool on_host : {false, true}) {
      Case c;
      c.m = 100, c.n = 200, c.k = 1100;
      c.block = 16;
      c.a_dtype = c.b_dtype = Dtype::float16;
      c.lhs = c.rhs = c.out = mask(lay % 2 ? Dtype::bool_ : Dtype::float32, 0.6);
      c.lhs.batch = c.out.batch = Dims{2};
      for (MaskSpec* spec : {&c.lhs, &c.rhs, &c.out}) spec->lay = static_cast<Lay>(lay), spec->on_host = on_host;
      verify(c);
    }
  }
}

TEST_F(CudaCases, Random) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Random random(seed * 7919 + 5);
    const auto pick = [&](const auto&... values) {
      const std::common_type_t<decltype(values)...> all[] = {values...};
      return all[random() % sizeof...(values)];
    };
    const auto size = [&] { return pick(1, 8, 16, 40, 64, 77, 128, 192, 200, 257, 320, 400) + std::int64_t{0}; };
    const auto block = [&] { return kBlocks[random() % 5]; };
    const auto lay = [&] { return static_cast<Lay>(random() % 3 ? random() % 3 : random() % kLays); };
    Case c;
    c.seed = seed;
    c.m = size(), c.n = size(), c.k = size();
    c.block = random() % 2 ? BlockSize(block()) : BlockSize(block(), block(), block());
    c.a_dtype = c.b_dtype = kFloats[random() % 4];
    if (random() % 6 == 0) c.b_dtype = pick(Dtype::float16, Dtype::float32, Dtype::int8, Dtype::int64);
    c.a_lay = lay(), c.b_lay = lay(), c.out_lay = static_cast<Lay>(random() % 7);
    if (random() % 3 == 0) c.a_batch = {3}, c.b_batch = random() % 2 ? Dims{3} : Dims{};
    for (MaskSpec* spec : {&c.out, &c.lhs, &c.rhs}) {
      if (random() % 3 == 0) continue;
      *spec = mask(pick(Dtype::bool_, Dtype::bool_, Dtype::bool_, Dtype::float32, Dtype::float16, Dtype::int8),
                   pick(0.05, 0.3, 0.5, 0.8, 1.0));
      spec->zero_one = random() % 3 == 0;
      spec->lay = lay();
      if (random() % 3 == 0) spec->batch = Dims{3};
    }
    if (random() % 3 == 0) c.infinite = 1e-4;
    c.precision = random() % 4 ? Precision::ieee : Precision::tf32;
    if (c.precision == Precision::tf32) c.a_dtype = c.b_dtype = Dtype::float32;
    verify(c);
    if (HasFailure()) return;
  }
}

TEST_F(CudaCases, ManyMatrices) {
  Case c;
  c.m = c.n = c.k = 16;
  c.block = 16;
  c.a_batch = {70000}, c.b_batch = {70000};
  c.lhs = mask(Dtype::bool_, 0.5);
  c.lhs.batch = {70000};
  verify(c);
}

TEST_F(CudaCases, ManyRows) {
  // More than 2^31 elements of a. Every element of a and b is 0x3c3c.
  const std::int64_t m = 9000000, k = 256, n = 16, blocks = m / 64;
  array a({m, k}, Dtype::bfloat16, Device::gpu), b({k, n}, Dtype::bfloat16, Device::gpu),
      out({m, n}, Dtype::bfloat16, Device::gpu);
  ASSERT_EQ(cudaMemset(a.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(m * k * 2)), cudaSuccess);
  ASSERT_EQ(cudaMemset(b.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(k * n * 2)), cudaSuccess);
  std::vector<std::uint8_t> mask_values(static_cast<std::size_t>(blocks * 4));
  Random random(3);
  for (auto& value : mask_values) value = random() % 2;
  const View mask_view(mask_values.data(), Dtype::bool_, {blocks, 4});
  block_masked_mm(a, b, 64, std::nullopt, mask_view, std::nullopt, {}, out.mutable_view());
  std::vector<bfloat16_t> got(static_cast<std::size_t>(m * n));
  ASSERT_EQ(cudaMemcpy(got.data(), out.data<bfloat16_t>(), got.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
  const double value = core::element_as<double>("\x3c\x3c", Dtype::bfloat16);
  for (std::int64_t i = 0; i < m; i += 7) {
    int live = 0;
    for (int p = 0; p < 4; ++p) live += mask_values[static_cast<std::size_t>(i / 64 * 4 + p)];
    const double exact = live * 64 * value * value,
                 at = static_cast<float>(got[static_cast<std::size_t>(i * n + i % n)]);
    ASSERT_NEAR(at, exact, exact / 128) << i;
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
