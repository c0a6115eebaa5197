// Hopper's kernel for small problems with blocks of less than 64 against the oracle: every layout, mask and edge.
#include "cuda_case.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaSmall : public HopperTest {};

void verify(const Case& c, const std::string& kernel) {
  Problem problem(c);
  EXPECT_NE(problem.explain().kernel.find(kernel), std::string::npos) << describe(c) << "\n"
                                                                      << problem.explain().kernel;
  problem.run(default_stream(Device::gpu));
  problem.check();
}

TEST_F(CudaSmall, LayoutsMasksAndBlocks) {
  const BlockSize blocks[] = {16, 32, BlockSize(64, 16, 32)};
  for (int layout = 0; layout < 4; ++layout) {
    for (int which = 1; which < 8; ++which) {
      for (const BlockSize& block : blocks) {
        Case c;
        c.m = 296, c.n = 328, c.k = 488;
        c.block = block;
        c.a_dtype = c.b_dtype = which % 2 ? Dtype::float16 : Dtype::bfloat16;
        c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
        if (which & 1) c.lhs = mask();
        if (which & 2) c.rhs = mask(0.4);
        if (which & 4) c.out = mask(0.7);
        c.infinite = 1e-4;
        c.seed = static_cast<std::uint64_t>(layout * 8 + which);
        verify(c, "small 64x64");
        if (HasFailure()) return;
      }
    }
  }
}

TEST_F(CudaSmall, TilesOf128Rows) {
  for (int which = 1; which < 8; ++which) {
    for (const std::int64_t n : {1000, 712}) {
      Case c;
      c.m = 968, c.n = n, c.k = which % 2 ? 1096 : 2048;
      c.block = 32;
      c.a_dtype = c.b_dtype = Dtype::bfloat16;
      c.a_lay = kOperandLays[which & 1], c.b_lay = kOperandLays[which >> 1 & 1];
      c.out_lay = which == 5 ? Lay::columns : which == 6 ? Lay::reversed : Lay::rows;
      if (which & 1) c.lhs = mask(which == 7 ? 0.02 : 0.5);
      if (which & 2) c.rhs = mask();
      if (which & 4) c.out = mask();
      c.infinite = 1e-6;
      verify(c, "small 128x64");
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaSmall, Batches) {
  for (int which = 0; which < 4; ++which) {
    Case c;
    c.m = 136, c.n = 264, c.k = 328;
    c.block = 32;
    c.a_dtype = c.b_dtype = Dtype::float16;
    c.a_batch = which == 0 ? Dims{5} : which == 1 ? Dims{} : Dims{2, 3};
    c.b_batch = which == 0 ? Dims{} : which == 3 ? Dims{2, 1} : Dims{3};
    c.lhs = mask();
    if (which == 2) c.lhs.batch = Dims{2, 1};
    if (which >= 2) c.rhs = mask(), c.rhs.batch = Dims{3};
    if (which == 3) c.out = mask(), c.out.batch = Dims{2, 3};
    verify(c, "small 64x64");
    if (HasFailure()) return;
  }
}

TEST_F(CudaSmall, FewRows) {
  for (int layout = 0; layout < 4; ++layout) {
    for (int which = 0; which < 9; ++which) {
      Case c;
      c.m = which % 2 ? 64 : 17 + 5 * which, c.n = which == 8 ? 1096 : which % 3 ? 8520 : 4296;
      c.k = which % 3 && which < 8 ? 8 + 72 * which : 2120;
      c.block = which % 4 == 1 ? BlockSize(64, 128, 256) : 64;
      c.a_dtype = c.b_dtype = layout % 3 ? Dtype::float16 : Dtype::bfloat16;
      c.a_lay = c.m % 8 ? Lay::padded : kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
      if (which & 1) c.rhs = mask(which == 5 ? 0.05 : 0.5);
      if (which & 2) c.lhs = mask();
      if (which & 4) c.out = mask(0.7);
      if (which == 8) c.a_batch = {2, 3}, c.b_batch = {3}, c.rhs = mask(), c.rhs.batch = {2, 1};
      c.infinite = 1e-5;
      c.seed = static_cast<std::uint64_t>(layout * 8 + which);
      verify(c, "sm90 " + std::string(name_of(c.a_dtype)) + " 64 rows");
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaSmall, FewColumns) {
  for (const Lay lay : kOperandLays) {
    Case c;
    c.m = 8520, c.n = 40, c.k = 2120;
    c.block = 64;
    c.a_dtype = c.b_dtype = Dtype::bfloat16;
    c.a_lay = c.b_lay = lay;
    c.lhs = mask(), c.out = mask();
    verify(c, "sm90 bfloat16 64 rows");
  }
}

TEST_F(CudaSmall, OddSizes) {
  for (const std::int64_t m : {17, 65, 129}) {
    for (const std::int64_t k : {1, 63, 65, 1999}) {
      Case c;
      c.m = m, c.n = 16 * ((1 << 24) / (m * k * 16) + 2) + 1, c.k = k;
      if (c.n > 4000) continue;
      c.block = 16;
      c.a_dtype = c.b_dtype = Dtype::float16;
      c.a_lay = c.b_lay = Lay::padded;
      c.lhs = mask(), c.rhs = mask(0.8);
      verify(c, "small");
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
