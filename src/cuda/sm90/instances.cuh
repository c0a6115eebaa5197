// The instances of one element type and layout of a.
#pragma once

#include "cuda/sm90/kernel.cuh"
#include "cuda/sm90/kernels.hpp"

namespace maskmm::cuda::sm90 {

template <class Element, Layout kA, Layout kB>
Kernel kernel(Shape shape) {
  switch (shape) {
    case Shape::wide_pair:
      return kernel_of<Config<Element, kA, kB, 3, 2, Skip::rows>>("sm90 192x512");
    case Shape::single:
      return kernel_of<Config<Element, kA, kB, 2, 1, Skip::rows>>("sm90 128x256");
    case Shape::gathered:
      return kernel_of<Config<Element, kA, kB, 3, 1, Skip::rows, Columns::gathered>>("sm90 192x256 gathered");
    case Shape::blocks_32:
      return kernel_of<Config32<Element, kA, kB, Skip::rows>>("sm90 192x192 blocks of 32");
    case Shape::any_masks_32:
      return kernel_of<Config32<Element, kA, kB, Skip::pairs>>("sm90 192x192 blocks of 32, any masks");
    case Shape::any_masks:
      return kernel_of<Config<Element, kA, kB, 3, 1, Skip::pairs>>("sm90 192x256 any masks");
    case Shape::dot_wide_pair:
      return kernel_of<Config<Element, kA, kB, 3, 2, Skip::rows, Columns::neighbours, Finish::dot>>("sm90 192x512 dot");
    default:
      return kernel_of<Config<Element, kA, kB, 3, 1, Skip::pairs, Columns::neighbours, Finish::dot>>(
          "sm90 192x256 dot, any masks");
  }
}

template <class Element, Layout kA, Layout kB>
Kernel scaling_kernel(int block, Skip skip) {
  if (block == 32) {
    return skip == Skip::rows
               ? kernel_of<ScalingConfig32<Element, kA, kB, Skip::rows>>("sm90 192x192 blocks of 32 scaling")
               : kernel_of<ScalingConfig32<Element, kA, kB, Skip::pairs>>(
                     "sm90 192x192 blocks of 32, any masks scaling");
  }
  return skip == Skip::rows
             ? kernel_of<ScalingConfig<Element, kA, kB, 2, Skip::rows>>("sm90 128x512 scaling")
             : kernel_of<ScalingConfig<Element, kA, kB, 1, Skip::pairs>>("sm90 128x256 any masks scaling");
}

template <class Element, Layout kA>
Kernel scaling_kernel(int block, Skip skip, Layout b) {
  return b == Layout::k_major ? scaling_kernel<Element, kA, Layout::k_major>(block, skip)
                              : scaling_kernel<Element, kA, Layout::line_major>(block, skip);
}

template <class Element, Layout kA>
Kernel kernel(Shape shape, Layout b) {
  return b == Layout::k_major ? kernel<Element, kA, Layout::k_major>(shape)
                              : kernel<Element, kA, Layout::line_major>(shape);
}

}  // namespace maskmm::cuda::sm90
