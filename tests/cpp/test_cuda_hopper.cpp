// The Hopper kernel against the oracle: every layout, mask, edge and shape of its tiles.
#include <cstdlib>

#include "cuda_case.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaHopper : public HopperTest {
 protected:
  void SetUp() override {
    HopperTest::SetUp();
    ASSERT_EQ(setenv("MASKMM_CUDA_KERNELS", "sm90", 1), 0);
  }
  void TearDown() override { ASSERT_EQ(unsetenv("MASKMM_CUDA_KERNELS"), 0); }
};

void verify(const Case& c) {
  Problem problem(c);
  EXPECT_EQ(problem.explain().kernel.substr(0, 5), "sm90 ") << describe(c) << "\n" << problem.explain().reason;
  problem.run(default_stream(Device::gpu));
  problem.check();
}

TEST_F(CudaHopper, LayoutsAndMasks) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    for (int layout = 0; layout < 4; ++layout) {
      for (int which = 0; which < 8; ++which) {
        for (const std::int64_t block : {64, 128}) {
          Case c;
          c.m = 456, c.n = 584, c.k = 392;
          c.block = block;
          c.a_dtype = c.b_dtype = dtype;
          c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
          if (which & 1) c.lhs = mask();
          if (which & 2) c.rhs = mask();
          if (which & 4) c.out = mask(0.7);
          c.infinite = 1e-4;
          c.seed = static_cast<std::uint64_t>(layout * 8 + which);
          verify(c);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaHopper, LargeTiles) {
  for (int layout = 0; layout < 4; ++layout) {
    for (int which = 0; which < 6; ++which) {
      Case c;
      c.m = 3000, c.n = 4712, c.k = 136;
      if (which > 3) c.m = 1000, c.n = 1608;  // which 3: enough gathered tiles
      c.block = BlockSize(64, which < 3 && which != 1 ? 16 : 64, 64);
      c.a_dtype = c.b_dtype = layout == 1 ? Dtype::float16 : Dtype::bfloat16;
      c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
      if (which == 0 || which == 4) c.lhs = mask();
      if (which == 1 || which == 5) c.rhs = mask();
      if (which >= 3) c.out = mask(0.4);
      if (which == 4) c.out.dtype = Dtype::float32;
      c.infinite = 1e-5;
      verify(c);
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaHopper, MasksThatScale) {
  for (int layout = 0; layout < 4; ++layout) {
    for (int which = 1; which < 8; ++which) {
      for (const std::int64_t block : {64, 128}) {
        Case c;
        c.m = 456, c.n = 584, c.k = 392;
        if (which == 1 && block == 64) c.m = 4504, c.n = 4000;  // enough tiles for clusters
        c.block = block;
        c.a_dtype = c.b_dtype = layout % 3 == 0 ? Dtype::bfloat16 : Dtype::float16;
        c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
        for (MaskSpec* spec : {&c.lhs, &c.rhs, &c.out}) {
          if (!(which >> (spec == &c.lhs ? 0 : spec == &c.rhs ? 1 : 2) & 1)) continue;
          *spec = mask(block == 64 ? 0.5 : 1);
          if (spec != &c.rhs || which == 2) spec->dtype = Dtype::float32;
        }
        c.infinite = 1e-5;
        verify(c);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaHopper, BatchesAndPartsOfKThatScale) {
  for (int which = 0; which < 4; ++which) {
    Case c;
    c.m = 136, c.n = 264, c.k = which < 2 ? 328 : 8000;
    c.a_dtype = c.b_dtype = Dtype::float16;
    c.lhs = mask(0.3), c.lhs.dtype = Dtype::float32;
    if (which & 1) c.rhs = mask(), c.rhs.dtype = Dtype::int32;
    if (which < 2) c.a_batch = Dims{2, 3}, c.lhs.batch = which == 0 ? Dims{2, 1} : Dims{3};
    verify(c);
  }
}

TEST_F(CudaHopper, MasksOfBlocksOf32ThatScale) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    for (int layout = 0; layout < 4; ++layout) {
      for (const int which : {1, 2, 3, 5, 6, 7}) {
        for (const double density : {0.1, 0.6, 1.0}) {
          Case c;
          c.m = 440, c.n = 392, c.k = 424;
          if (layout == 2) c.m = 1000, c.n = 2100, c.k = 200;
          if (layout == 1) c.a_batch = Dims{2, 3};
          c.block = density == 0.1 && which < 6 ? BlockSize(32, 64, 64) : density == 1.0 ? BlockSize(64, 32, 128) : 32;
          c.a_dtype = c.b_dtype = dtype;
          c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
          if (which & 1) c.lhs = mask(density), c.lhs.dtype = which == 5 ? Dtype::int8 : Dtype::float32;
          if (layout == 1 && which & 1) c.lhs.batch = Dims{3};
          if (which & 2) c.rhs = mask(density);
          if (which == 2 || which > 5) c.rhs.dtype = Dtype::float32;
          if (which & 4) c.out = mask(0.6);
          if (which == 7) c.out.dtype = Dtype::float32;
          c.infinite = layout == 3 ? 0 : 1e-4;
          c.seed = static_cast<std::uint64_t>(layout * 8 + which);
          verify(c);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaHopper, FewRowsAndOddSizesThatScaleByBlocksOf32) {
  for (const std::int64_t m : {65, 72, 131, 200}) {
    for (const std::int64_t n : {72, 257, 520}) {
      for (int lay = 0; lay < 7; ++lay) {
        Case c;
        c.m = m, c.n = n, c.k = 1032 + 72 * lay;
        c.block = 32;
        c.a_dtype = c.b_dtype = Dtype::bfloat16;
        c.a_lay = c.b_lay = Lay::padded;
        c.out_lay = static_cast<Lay>(lay);
        c.lhs = mask(0.4), c.lhs.dtype = Dtype::float32;
        if (n != 257) c.rhs = c.lhs;
        verify(c);
        if (HasFailure()) return;
      }
    }
  }
}

/// float32 has mask_lhs and mask_rhs, but not their product.
TEST_F(CudaHopper, ScalesWhoseProductFloat32DoesNotHold) {
  struct Sizes {
    double a, lhs, rhs;
  };
  for (const std::int64_t block : {64, 32}) {
    for (const Sizes& sizes : {Sizes{1e25, 1e-25, 1e-18}, Sizes{1e-20, 1e25, 1e15}, Sizes{1e30, 1e-41, 1}}) {
      for (const double density : {0.5, 1.0}) {
        Case c;
        c.m = 200, c.n = 264, c.k = 328;
        c.block = block;
        c.a_dtype = c.b_dtype = Dtype::bfloat16;
        c.a_size = sizes.a;
        c.lhs = c.rhs = mask(density);
        c.lhs.dtype = c.rhs.dtype = Dtype::float32;
        c.lhs.size = sizes.lhs, c.rhs.size = sizes.rhs;
        verify(c);
        if (sizes.rhs != 1) continue;
        c.rhs = {};  // mask_lhs alone is subnormal
        verify(c);
      }
    }
  }
}

TEST_F(CudaHopper, SmallBlocksOfKThatNoMaskLooksAt) {
  for (const std::int64_t block_k : {16, 32}) {
    for (const bool out : {false, true}) {
      Case c;
      c.m = 600, c.n = 1100, c.k = 328;
      c.block = BlockSize(64, 64, block_k);
      c.a_dtype = c.b_dtype = Dtype::bfloat16;
      c.a_lay = c.b_lay = Lay::padded;
      if (out) c.out = mask();
      verify(c);
    }
  }
}

TEST_F(CudaHopper, BlocksOf32) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    for (int layout = 0; layout < 4; ++layout) {
      for (const bool rhs : {false, true}) {
        for (const double density : {0.1, 0.6, 1.0}) {
          Case c;
          c.m = 440, c.n = 392, c.k = 424;
          if (layout == 2) c.m = 2000, c.n = 2100, c.k = 200;
          c.block = density == 0.1 ? BlockSize(32, 32, 64) : BlockSize(32);
          c.a_dtype = c.b_dtype = dtype;
          c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
          (rhs ? c.rhs : c.lhs) = mask(density);
          c.infinite = 1e-4;
          verify(c);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaHopper, BlocksOf32UnderSeveralMasks) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    for (int layout = 0; layout < 4; ++layout) {
      for (const int which : {3, 5, 6, 7}) {
        for (const double density : {0.1, 0.6, 1.0}) {
          Case c;
          c.m = 440, c.n = 392, c.k = 424;
          if (layout == 2) c.m = 1000, c.n = 2100, c.k = 200;
          if (layout == 1) c.a_batch = Dims{2, 3};
          c.block = density == 0.1 && which < 6 ? BlockSize(32, 64, 64) : density == 1.0 ? BlockSize(64, 32, 128) : 32;
          c.a_dtype = c.b_dtype = dtype;
          c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
          if (which & 1) c.lhs = mask(density);
          if (layout == 1 && which & 1) c.lhs.batch = Dims{3};
          if (which & 2) c.rhs = mask(density);
          if (which & 4) c.out = mask(0.6);
          if (which == 7) c.out.dtype = Dtype::float32;
          c.infinite = layout == 3 ? 0 : 1e-4;
          c.seed = static_cast<std::uint64_t>(layout * 8 + which);
          verify(c);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaHopper, BlocksOf32OfTheResult) {
  for (int layout = 0; layout < 4; ++layout) {
    for (const double density : {0.1, 0.5, 1.0}) {
      for (const Dtype dtype : {Dtype::bool_, Dtype::float32}) {
        Case c;
        c.m = 424, c.n = 1000, c.k = 200;
        if (layout == 3) c.m = 24, c.n = 2104;
        c.block = layout == 1 ? BlockSize(32, 64, 16) : layout == 2 ? BlockSize(64, 32, 32) : BlockSize(32);
        c.a_dtype = c.b_dtype = layout % 2 ? Dtype::float16 : Dtype::bfloat16;
        c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
        c.out_lay = layout == 2 ? Lay::columns : c.out_lay;
        c.out = mask(density);
        c.out.dtype = dtype;
        c.infinite = 1e-4;
        verify(c);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaHopper, BlocksOf32AndOddSizes) {
  for (const std::int64_t m : {1, 72, 131, 200}) {
    for (const std::int64_t n : {8, 257, 520}) {
      for (int lay = 0; lay < 7; ++lay) {
        Case c;
        c.m = m, c.n = n, c.k = 8 + 72 * lay;
        c.block = 32;
        c.a_dtype = c.b_dtype = Dtype::bfloat16;
        c.a_lay = c.b_lay = Lay::padded;
        c.out_lay = static_cast<Lay>(lay);
        c.lhs = mask(0.4);
        c.a_batch = lay % 2 ? Dims{3} : Dims{};
        verify(c);
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaHopper, HeavyRowsFirst) {
  Case c;
  c.m = 4000, c.n = 2048, c.k = 4096;
  c.a_dtype = c.b_dtype = Dtype::bfloat16;
  array a({c.m, c.k}, c.a_dtype, Device::gpu), b({c.k, c.n}, c.a_dtype, Device::gpu),
      out({c.m, c.n}, c.a_dtype, Device::gpu);
  ASSERT_EQ(cudaMemset(a.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(c.m * c.k) * 2), cudaSuccess);
  ASSERT_EQ(cudaMemset(b.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(c.k * c.n) * 2), cudaSuccess);
  const std::int64_t rows = 63, columns = 64;
  std::vector<std::uint8_t> causal(static_cast<std::size_t>(rows * columns));
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) causal[static_cast<std::size_t>(i * columns + j)] = 1;
  }
  block_masked_mm(a, b, 64, std::nullopt, View(causal.data(), Dtype::bool_, {rows, columns}), std::nullopt, {},
                  out.mutable_view());
  std::vector<bfloat16_t> got(static_cast<std::size_t>(c.m * c.n));
  ASSERT_EQ(cudaMemcpy(got.data(), out.data<bfloat16_t>(), got.size() * 2, cudaMemcpyDeviceToHost), cudaSuccess);
  const double value = core::element_as<double>("\x3c\x3c", Dtype::bfloat16);
  for (std::int64_t i = 0; i < c.m; ++i) {
    const double exact = double(i / 64 + 1) * 64 * value * value;
    for (std::int64_t j = 0; j < c.n; j += 3) {
      ASSERT_NEAR(static_cast<float>(got[static_cast<std::size_t>(i * c.n + j)]), exact, exact / 128) << i << " " << j;
    }
  }
}

/// Dozens of tiles for each thread block, some of them empty.
TEST_F(CudaHopper, ManyTiles) {
  const std::int64_t size = 16384, k = 128;
  array a({size, k}, Dtype::bfloat16, Device::gpu), b({k, size}, Dtype::bfloat16, Device::gpu),
      out({size, size}, Dtype::bfloat16, Device::gpu);
  ASSERT_EQ(cudaMemset(a.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(a.size()) * 2), cudaSuccess);
  ASSERT_EQ(cudaMemset(b.data<bfloat16_t>(), 0x3c, static_cast<std::size_t>(b.size()) * 2), cudaSuccess);
  const double value = core::element_as<double>("\x3c\x3c", Dtype::bfloat16);
  for (const int which : {1, 3, 4, 5, 7, 32 + 1, 32 + 4}) {
    const std::int64_t block = which & 32 ? 32 : 64, across = size / block, deep = k / block;
    const auto lhs = [&](std::int64_t i, std::int64_t p) { return !(which & 1) || (i / 5 + p) % 3 == 0; };
    const auto rhs = [&](std::int64_t p, std::int64_t j) { return !(which & 2) || (p + j / 7) % 4 == 0; };
    const auto kept = [&](std::int64_t i, std::int64_t j) { return !(which & 4) || (i * 3 + j / 2) % 5 == 0; };
    std::vector<std::uint8_t> left(static_cast<std::size_t>(across * deep)), right(left.size()),
        whole(static_cast<std::size_t>(across * across));
    for (std::int64_t i = 0; i < across; ++i) {
      for (std::int64_t p = 0; p < deep; ++p) left[static_cast<std::size_t>(i * deep + p)] = lhs(i, p);
      for (std::int64_t p = 0; p < deep; ++p) right[static_cast<std::size_t>(p * across + i)] = rhs(p, i);
      for (std::int64_t j = 0; j < across; ++j) whole[static_cast<std::size_t>(i * across + j)] = kept(i, j);
    }
    const auto view = [](bool used, const std::vector<std::uint8_t>& mask, std::int64_t rows, std::int64_t columns) {
      return used ? std::optional<View>(View(mask.data(), Dtype::bool_, {rows, columns})) : std::nullopt;
    };
    ASSERT_EQ(cudaMemset(out.data<bfloat16_t>(), 0xff, static_cast<std::size_t>(out.size()) * 2), cudaSuccess);
    block_masked_mm(a, b, block, view(which & 4, whole, across, across), view(which & 1, left, across, deep),
                    view(which & 2, right, deep, across), {}, out.mutable_view());
    std::vector<bfloat16_t> row(static_cast<std::size_t>(size));
    for (std::int64_t i = 0; i < size; i += 61) {
      ASSERT_EQ(cudaMemcpy(row.data(), out.data<bfloat16_t>() + i * size, row.size() * 2, cudaMemcpyDefault),
                cudaSuccess);
      for (std::int64_t j = 0; j < size; j += 3) {
        std::int64_t live = 0;
        for (std::int64_t p = 0; p < deep; ++p) live += lhs(i / block, p) && rhs(p, j / block);
        if (!kept(i / block, j / block)) live = 0;
        const double exact = static_cast<double>(live * block) * value * value;
        ASSERT_NEAR(static_cast<float>(row[static_cast<std::size_t>(j)]), exact, exact / 128)
            << which << " " << i << " " << j;
      }
    }
  }
}

TEST_F(CudaHopper, OddSizesAndResults) {
  for (const std::int64_t m : {1, 72, 131, 200}) {
    for (const std::int64_t n : {8, 257, 520}) {
      for (const std::int64_t k : {8, 64, 264}) {
        for (int lay = 0; lay < 7; ++lay) {
          Case c;
          c.m = m, c.n = n, c.k = k;
          c.a_dtype = c.b_dtype = Dtype::bfloat16;
          c.a_lay = c.b_lay = Lay::padded;
          c.out_lay = static_cast<Lay>(lay);
          c.lhs = mask(0.7);
          if (lay % 2) c.out = mask(0.7), c.out.dtype = Dtype::float32;
          verify(c);
          if (HasFailure()) return;
        }
      }
    }
  }
}

TEST_F(CudaHopper, Batches) {
  for (int which = 0; which < 4; ++which) {
    Case c;
    c.m = 136, c.n = 264, c.k = 328;
    c.a_dtype = c.b_dtype = Dtype::float16;
    c.a_batch = which == 0 ? Dims{5} : which == 1 ? Dims{} : Dims{2, 3};
    c.b_batch = which == 0 ? Dims{} : which == 3 ? Dims{2, 1} : Dims{3};
    c.lhs = mask();
    if (which == 2) c.lhs.batch = Dims{2, 1};
    if (which >= 2) c.rhs = mask(), c.rhs.batch = Dims{3};
    verify(c);
    if (HasFailure()) return;
  }
}

TEST_F(CudaHopper, SplitK) {
  for (const int which : {0, 1, 2, 6}) {
    Case c;
    c.m = 200, c.n = 264, c.k = 8000;
    c.a_dtype = c.b_dtype = Dtype::bfloat16;
    if (which & 1) c.lhs = mask(0.2);
    if (which & 2) c.rhs = mask(0.2);
    if (which & 4) c.lhs = mask(0.1), c.out = mask(), c.out.dtype = Dtype::float32;
    verify(c);
  }
}

TEST_F(CudaHopper, IsNamedByTheEnvironment) {
  Case c;
  c.a_dtype = c.b_dtype = Dtype::bfloat16;
  ASSERT_EQ(setenv("MASKMM_CUDA_KERNELS", "sm80", 1), 0);
  EXPECT_EQ(Problem(c).explain().kernel.substr(0, 5), "sm80 ");
  ASSERT_EQ(setenv("MASKMM_CUDA_KERNELS", "sm70", 1), 0);
  try {
    Problem(c).explain();
    ADD_FAILURE();
  } catch (const unsupported_error& error) {
    EXPECT_STREQ(error.what(), "MASKMM_CUDA_KERNELS: expected sm80 or sm90, got sm70");
  }
}

TEST_F(CudaHopper, TheSameBitsOverAndOver) {
  Case c;
  c.m = 1600, c.n = 1600, c.k = 1600;
  c.a_dtype = c.b_dtype = Dtype::bfloat16;
  c.lhs = mask(0.3);
  Problem problem(c), busy(c);
  const Stream stream = new_stream(Device::gpu), other = new_stream(Device::gpu);
  problem.run(stream);
  synchronize(stream);
  const auto first = problem.result();
  for (int repeat = 0; repeat < 50; ++repeat) {
    busy.run(other);
    problem.run(stream);
    synchronize(stream);
    ASSERT_EQ(problem.result(), first) << repeat;
  }
  synchronize(other);
}

}  // namespace
}  // namespace maskmm::cuda_test
