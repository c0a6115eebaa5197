// The blocks of the result that mask_out drops, where tiles hold only what it keeps: written by the warps that neither
// load nor multiply.
#pragma once

#include "cuda/schedule.cuh"
#include "cuda/sm90/kept.cuh"

namespace maskmm::cuda::sm90 {

/// `worker` of `workers` warps, of all thread blocks.
__device__ inline void write_dead_blocks(const HopperParams& params, int worker, int workers) {
  const MultiplyParams& p = params.multiply;
  const int rows = static_cast<int>((p.m + kBlock - 1) / kBlock),
            columns = static_cast<int>((p.n + kBlock - 1) / kBlock);
  const int total = static_cast<int>(p.batch_size) * rows * columns, lane = threadIdx.x % 32;
  for (int index = worker; index < total; index += workers) {
    const int line = index / columns, column = (index - line * columns) * kBlock;
    const int batch = line / rows, row = (line - batch * rows) * kBlock;
    if (keeps_some(p, batch, row, column)) continue;
    std::byte* to =
        p.out.data + batch_offset(p.batch, p.out.batch, batch) + row * p.out.row_stride + column * p.out.col_stride;
    const int height = static_cast<int>(smaller(p.m - row, kBlock)),
              width = static_cast<int>(smaller(p.n - column, kBlock));
    const bool across = p.out.vectors && width % 8 == 0, down = !across && params.down && height % 8 == 0;
    if (across || down) {  // lines of up to 64 elements, eight a vector
      const std::int64_t stride = across ? p.out.row_stride : p.out.col_stride;
      const int lines = across ? height : width, length = across ? width : height;
      if (lane % 8 * 8 < length) {
        for (int i = lane / 8; i < lines; i += 4) {
          __stcs(reinterpret_cast<uint4*>(to + i * stride + lane % 8 * 16), make_uint4(0, 0, 0, 0));
        }
      }
    } else {
      for (int i = 0; i < height; ++i) {
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
}

}  // namespace maskmm::cuda::sm90
