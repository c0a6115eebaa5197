// The blocks of the result that mask_out drops, where tiles hold only what it keeps: each loading warp looks at one
// between two stages, so that they are written all along and cost no time of their own.
#pragma once

#include "cuda/schedule.cuh"
#include "cuda/sm90/kept.cuh"

namespace maskmm::cuda::sm90 {

struct DeadBlocks {
  int next;        // block of 64 x 64 of the result
  const int step;  // of all warps that share the work

  /// Writes the next block if it is dead; false where all are written.
  __device__ bool write(const HopperParams& params) {
    const MultiplyParams& p = params.multiply;
    const int rows = static_cast<int>((p.m + kBlock - 1) / kBlock),
              columns = static_cast<int>((p.n + kBlock - 1) / kBlock);
    const int line = next / columns, column = (next - line * columns) * kBlock;
    const int batch = line / rows, row = (line - batch * rows) * kBlock;
    if (batch >= p.batch_size) return false;
    next += step;
    if (!keeps_some(p, batch, row, column)) fill(params, batch, row, column);
    return true;
  }

 private:
  static __device__ void fill(const HopperParams& params, int batch, int row, int column) {
    const MultiplyParams& p = params.multiply;
    const int lane = threadIdx.x % 32;
    std::byte* to =
        p.out.data + batch_offset(p.batch, p.out.batch, batch) + row * p.out.row_stride + column * p.out.col_stride;
    const int height = static_cast<int>(smaller(p.m - row, kBlock)),
              width = static_cast<int>(smaller(p.n - column, kBlock));
    const bool across = p.out.vectors && width % 8 == 0, down = !across && params.down && height % 8 == 0;
    if (across || down) {  // lines of up to 64 elements, eight a vector
      const std::int64_t stride = across ? p.out.row_stride : p.out.col_stride;
      const int lines = across ? height : width, length = across ? width : height;
      if (lane % 8 * 8 < length) {
#pragma unroll 2
        for (int i = lane / 8; i < lines; i += 4) {
          __stcs(reinterpret_cast<uint4*>(to + i * stride + lane % 8 * 16), make_uint4(0, 0, 0, 0));
        }
      }
    } else {
#pragma unroll 1
      for (int i = 0; i < height; ++i) {
#pragma unroll 1
        for (int j = lane; j < width; j += 32) {
          const std::uint16_t zero = 0;
          std::byte* at = to + i * p.out.row_stride + j * p.out.col_stride;
          if (p.out.aligned) {
            *reinterpret_cast<std::uint16_t*>(at) = zero;
          } else {
            memcpy(at, &zero, sizeof zero);
          }
        }
      }
    }
  }
};

}  // namespace maskmm::cuda::sm90
