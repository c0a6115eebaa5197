// Hopper's kernels for results whose tiles run at about one time, against the oracle: every tile, layout, mask, block
// size and edge.
#include "cuda_case.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaWave : public HopperTest {};

void verify(const Case& c, const std::string& kernel) {
  Problem problem(c);
  EXPECT_NE(problem.explain().kernel.find(kernel), std::string::npos) << describe(c) << "\n"
                                                                      << problem.explain().kernel;
  problem.run(default_stream(Device::gpu));
  problem.check();
}

/// Masks by the bits of `which`: lhs, rhs, out.
Case with_masks(std::int64_t m, std::int64_t n, std::int64_t k, int which) {
  Case c;
  c.m = m, c.n = n, c.k = k;
  c.block = 64;
  c.a_dtype = c.b_dtype = which % 2 ? Dtype::float16 : Dtype::bfloat16;
  c.a_lay = kOperandLays[which & 1], c.b_lay = kOperandLays[which >> 1 & 1];
  if (which & 1) c.lhs = mask();
  if (which & 2) c.rhs = mask(0.4);
  if (which & 4) c.out = mask(0.7);
  c.infinite = 1e-5;
  c.seed = static_cast<std::uint64_t>(which);
  return c;
}

TEST_F(CudaWave, Squares) {
  const BlockSize blocks[] = {64, 128, BlockSize(128, 64, 256)};
  for (int layout = 0; layout < 4; ++layout) {
    for (int which = 0; which < 8; ++which) {
      Case c = with_masks(296, 328, 488, which);
      c.block = blocks[(layout + which) % 3];
      c.a_lay = kOperandLays[layout & 1], c.b_lay = kOperandLays[layout >> 1];
      verify(c, "wave 64x64");
      if (HasFailure()) return;
    }
  }
}

TEST_F(CudaWave, MoreTilesThanSquares) {
  for (int which = 0; which < 8; ++which) {
    Case c = with_masks(968, which % 2 ? 1000 : 712, 264, which);
    c.out_lay = which == 4 ? Lay::columns : which == 6 ? Lay::reversed : Lay::rows;
    verify(c, which < 2 ? "wave 64x128" : "wave 128x64");
    if (HasFailure()) return;
  }
}

TEST_F(CudaWave, WideTiles) {
  for (int which = 0; which < 8; ++which) {
    Case c = with_masks(1104, which % 2 ? 1104 : 1320, 200, which);
    if (which == 4) c.out = mask(0.1);
    c.out_lay = which == 3 ? Lay::columns : which == 5 ? Lay::misaligned : Lay::rows;
    verify(c, "wave 128x256");
    if (HasFailure()) return;
  }
}

TEST_F(CudaWave, MoreThanOneWave) {
  for (const int which : {0, 1, 2}) {
    const Case c = with_masks(2312, 2056, 72, which);
    verify(c, "wave 128x256");
    if (HasFailure()) return;
  }
}

TEST_F(CudaWave, PartsOfK) {
  for (int which = 0; which < 8; ++which) {
    Case c = with_masks(600, which % 2 ? 900 : 903, 2304, which);
    if (which == 7) c.lhs = mask(0.05);
    Problem problem(c);
    EXPECT_NE(problem.explain().reason.find("parts"), std::string::npos) << problem.explain().reason;
    verify(c, "wave 128x256");
    if (HasFailure()) return;
  }
}

TEST_F(CudaWave, Batches) {
  for (int which = 0; which < 4; ++which) {
    Case c = with_masks(136, which < 2 ? 264 : 904, 328, which + 4);
    c.a_batch = which == 0 ? Dims{5} : which == 1 ? Dims{} : Dims{2, 3};
    c.b_batch = which == 0 ? Dims{} : which == 3 ? Dims{2, 1} : Dims{3};
    if (which >= 2) c.rhs = mask(), c.rhs.batch = Dims{3};
    if (which == 3) c.out.batch = Dims{2, 3};
    verify(c, "wave");
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
