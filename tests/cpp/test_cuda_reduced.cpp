// A reduced table for compute-sanitizer's tools, under which everything is slow: a small case for each kernel, which
// says itself that it ran. docs/design/cuda.md, Checks.
#include <cstdlib>

#include "cuda_case.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaReduced : public HopperTest {
 protected:
  void TearDown() override { ASSERT_EQ(unsetenv("MASKMM_CUDA_KERNELS"), 0); }

  /// `family`: as in MASKMM_CUDA_KERNELS, or empty. `kernel`: the end of its name.
  static void verify(const char* family, const std::string& kernel, Case c) {
    ASSERT_EQ(setenv("MASKMM_CUDA_KERNELS", family, 1), 0);
    if (c.infinite == 0) c.infinite = 1e-5;
    Problem problem(c);
    const std::string name = problem.explain().kernel;
    EXPECT_EQ(name.substr(name.size() - std::min(name.size(), kernel.size())), kernel) << describe(c) << "\n"
                                                                                       << problem.explain().reason;
    problem.run(default_stream(Device::gpu));
    problem.check();
  }
};

Case sized(Dtype dtype, std::int64_t m, std::int64_t n, std::int64_t k, BlockSize block, int layout = 0) {
  Case c;
  c.m = m, c.n = n, c.k = k;
  c.block = block;
  c.a_dtype = c.b_dtype = dtype;
  c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1 & 1];
  return c;
}

MaskSpec scales(double density = 0.5) {
  MaskSpec spec = mask(density);
  spec.dtype = Dtype::float32;
  return spec;
}

/// A small case that the kernels for small problems leave to the general ones: mask_out is not bool.
Case general(Dtype dtype, int layout) {
  Case c = sized(dtype, 200, 168, 144, layout % 2 ? 32 : 16, layout);
  c.lhs = mask(), c.out = scales(0.8);
  return c;
}

TEST_F(CudaReduced, SixteenBits) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    const std::string type = name_of(dtype);
    for (int layout = 0; layout < 4; ++layout) verify("sm80", type + " 64x64", general(dtype, layout));
    Case c = sized(dtype, 1504, 2904, 72, BlockSize(32, 64, 16), dtype == Dtype::float16 ? 3 : 0);
    c.lhs = mask();
    verify("sm80", type + " 128x256", c);
    c.lhs = {}, c.rhs = mask(), c.m = 2904, c.n = 1504;
    verify("sm80", type + " 256x128", c);
    c = sized(dtype, 130, 200, 150, 32);
    c.lhs = scales(), c.rhs = mask();
    verify("sm80", type + " 128x128 scaling", c);
    c.a_lay = Lay::misaligned, c.lhs = mask();
    verify("sm80", type + " 64x64", c);
  }
}

TEST_F(CudaReduced, Float32) {
  for (int layout = 0; layout < 4; ++layout) verify("", "128x128", general(Dtype::float32, layout));
  for (int layout = 0; layout < 4; ++layout) {
    Case c = sized(Dtype::float32, 136, 200, 152, 32, layout);
    c.lhs = mask(), c.out = mask();
    verify("", "float32 direct 32x32", c);
    c.lhs = scales();
    verify("", "128x128 scaling", c);
  }
  Case c = sized(Dtype::float32, 60, 130, 1500, 64);  // parts of k
  c.lhs = mask(0.3), c.out = scales();
  verify("", "float32 128x128", c);
}

TEST_F(CudaReduced, Float64AndTf32) {
  for (int layout = 0; layout < 4; ++layout) {
    Case c = general(Dtype::float64, layout);
    verify("", "float64 128x128", c);
    c.lhs = scales();
    verify("", "float64 128x64 scaling", c);
    c = general(Dtype::float32, layout);
    c.precision = Precision::tf32;
    verify("", "tf32 64x64", c);
    c.lhs = scales();
    verify("", "tf32 128x128 scaling", c);
  }
  Case c = sized(Dtype::float32, 1504, 2904, 72, BlockSize(32, 64, 16));
  c.precision = Precision::tf32;
  c.lhs = mask();
  verify("", "tf32 128x256", c);
  c.lhs = {}, c.rhs = mask(), c.m = 2904, c.n = 1504;
  verify("", "tf32 256x128", c);
}

/// Enough products for a plan, most of which mask_out drops: small tiles.
TEST_F(CudaReduced, Planned) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float32, Dtype::float64}) {
    Case c = sized(dtype, 1304, 1296, 1288, BlockSize(64, 64, 128));
    c.out = mask(0.05), c.lhs = mask(0.3);
    verify("sm80", dtype == Dtype::bfloat16 ? "64x64" : "128x128", c);
    c.block = 64;
    c.out = {}, c.lhs = mask(0.05);
    verify("sm80", dtype == Dtype::bfloat16 ? "64x64" : "128x128", c);
    c.lhs = {}, c.rhs = mask(0.05);
    verify("sm80", dtype == Dtype::bfloat16 ? "64x64" : "128x128", c);
  }
}

TEST_F(CudaReduced, FewRowsAndSmallProblems) {
  for (const Dtype dtype : {Dtype::bfloat16, Dtype::float16}) {
    const std::string type = name_of(dtype);
    for (int layout = 0; layout < 4; layout += 2) {
      for (const std::int64_t m : {16, 64}) {
        Case c = sized(dtype, m, 200, 2104, 64, layout);
        c.rhs = mask(0.3);
        verify("sm80", "sm80 " + type + (m == 16 ? " 16 rows" : " 64 rows"), c);
      }
    }
    for (int layout = 0; layout < 4; ++layout) {
      Case c = sized(dtype, 120, 136, 200, layout % 2 ? 32 : 16, layout);
      c.lhs = mask(), c.out = mask(0.7);
      verify("sm80", type + " direct 32x32", c);
      c = sized(dtype, 768, 776, 72, 32, layout);
      c.rhs = mask();
      verify("sm80", type + " direct 64x64", c);
      c = sized(dtype, 296, 328, 488, layout % 2 ? 32 : 16, layout);
      c.rhs = mask();
      verify("", type + " small 64x64", c);
      c = sized(dtype, 40, 8520, 200, 64, layout);
      c.rhs = mask();
      verify("", "sm90 " + type + " 64 rows", c);
      c = sized(dtype, 968, 1000, 200, 32, layout);
      c.lhs = mask();
      verify("", type + " small 128x64", c);
    }
  }
}

TEST_F(CudaReduced, Wave) {
  for (int layout = 0; layout < 4; ++layout) {
    const Dtype dtype = layout % 2 ? Dtype::float16 : Dtype::bfloat16;
    Case c = sized(dtype, 296, 328, 264, 64, layout);
    c.lhs = mask();
    verify("", "wave 64x64", c);
    c.m = c.n = 840;
    verify("", "wave 64x128", c);
    c.m = c.n = 1104;
    verify("", "wave 128x256", c);
    c.out = mask(0.5);
    verify("", "wave 128x256", c);
    c = sized(dtype, 600, 904, 2304, 64, layout);  // parts of k
    c.out = mask(0.5);
    verify("", "wave 128x256", c);
  }
}

TEST_F(CudaReduced, Hopper) {
  for (int layout = 0; layout < 4; ++layout) {
    const Dtype dtype = layout % 2 ? Dtype::float16 : Dtype::bfloat16;
    Case c = sized(dtype, 456, 584, 200, 64, layout);
    c.lhs = mask();
    verify("sm90", "sm90 128x256", c);
    c.out = mask(0.7);
    verify("sm90", "sm90 192x256 any masks", c);
    c.rhs = mask(), c.out = scales();
    verify("sm90", "sm90 192x256 any masks", c);
    c.lhs = scales();
    verify("sm90", "sm90 128x256 any masks scaling", c);
    c = sized(dtype, 440, 392, 200, 32, layout);
    c.lhs = mask();
    verify("sm90", "sm90 192x192 blocks of 32", c);
    c.rhs = mask();
    verify("sm90", "sm90 192x192 blocks of 32, any masks", c);
  }
  for (int layout = 0; layout < 4; layout += 3) {
    Case c = sized(Dtype::bfloat16, 3000, 4400, 136, 64, layout);
    c.lhs = mask();
    verify("sm90", "sm90 192x512", c);
    c.lhs = {}, c.out = mask(0.3);
    verify("sm90", "sm90 192x256 gathered", c);
    c.out = {}, c.lhs = scales();
    verify("sm90", "sm90 128x512 scaling", c);
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
