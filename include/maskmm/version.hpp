#pragma once

#include <string>

#define MASKMM_VERSION "0.1.0"

namespace maskmm {

/// The version of the library that is linked, "major.minor.patch".
std::string version();
/// The instruction set that the CPU kernels use: "amx_bf16" or "avx512_bf16" (AVX-512, and tiles or dot products for
/// bfloat16), "avx512", "avx2", "neon" or "portable". MASKMM_ISA forces one.
std::string cpu_isa();

}  // namespace maskmm
