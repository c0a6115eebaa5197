// The Hopper kernels for results whose tiles all run at one time; see wave.cuh. They take a SmallParams.
#pragma once

#include "cuda/sm90/small.hpp"

namespace maskmm::cuda::sm90 {

/// The tile of a thread block: 64 x 64, 64 x 128, 128 x 64, 128 x 256.
enum class WaveKind { square, flat, tall, wide };

inline constexpr int kMostWaveStages = 128;  // of 64 of k, in a part

Kernel float16_wave_kernel(WaveKind kind, Skip skip, Layout a, Layout b);
Kernel bfloat16_wave_kernel(WaveKind kind, Skip skip, Layout a, Layout b);

}  // namespace maskmm::cuda::sm90
