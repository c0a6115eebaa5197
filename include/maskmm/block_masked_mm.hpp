// The operation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "maskmm/array.hpp"
#include "maskmm/stream.hpp"
#include "maskmm/view.hpp"

namespace maskmm {

/// Rows, columns and inner elements of a block; each of 16, 32, 64, 128, 256.
struct BlockSize {
  std::int64_t m, n, k;
  BlockSize(std::int64_t size) : m(size), n(size), k(size) {}
  BlockSize(std::int64_t m_, std::int64_t n_, std::int64_t k_) : m(m_), n(n_), k(k_) {}
  bool operator==(const BlockSize&) const = default;
};

/// "64", or "(32, 128, 64)" where the three differ.
std::string to_string(const BlockSize& block_size);

/// ieee: float32 products are float32 products. tf32: TF32 tensor cores are allowed where the device has them.
enum class Precision : std::uint8_t { ieee, tf32 };

/// Multiplies matrices of which whole blocks are masked away:
///
///   out[bi,bj] = mask_out[bi,bj] * sum over live bk of mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj])
///
/// A triple (bi, bj, bk) is live where all three masks are nonzero; an absent mask is all ones. What is not live
/// contributes nothing, NaN and Inf included, and is not read; a block with no live triple is +0.
///
/// - a (..., M, K) or (K,), b (..., K, N) or (K,): float16, bfloat16, float32, float64; integers and bool only beside a
///   float operand. Any strides. Types promote; sums run in float32 (float64 for float64). Where cpu_isa() is
///   "amx_bf16" or "avx512_bf16", products of two bfloat16 operands take numbers below 2^-126 for zeros, in operands
///   and in sums.
/// - mask_out (..., ceil(M/m), ceil(N/n)), mask_lhs (..., ceil(M/m), ceil(K/k)), mask_rhs (..., ceil(K/k), ceil(N/n)):
///   bool, integer or float; what is not bool scales its block. Batch axes broadcast together.
/// - stream: where to run; by default the default stream of the inputs' device.
/// - out: written in place and returned (borrowed); must have the result's shape and type and overlap no input.
///
/// On the CPU the call is finished when it returns. Throws shape_error, type_error, device_error, unsupported_error,
/// cuda_error or std::bad_alloc; then nothing was written.
array block_masked_mm(const View& a, const View& b, BlockSize block_size = 64,
                      const std::optional<View>& mask_out = std::nullopt,
                      const std::optional<View>& mask_lhs = std::nullopt,
                      const std::optional<View>& mask_rhs = std::nullopt, StreamOrDevice stream = {},
                      const std::optional<MutableView>& out = std::nullopt, Precision precision = Precision::ieee);

/// What block_masked_mm would do with the same arguments.
struct Explanation {
  Device device;
  std::string kernel;                // e.g. "panel f32 4x64"
  std::string isa;                   // e.g. "avx512"
  std::string reason;                // why this kernel, in a sentence
  int threads = 0;                   // threads that the call would use
  double live_fraction = 0;          // live triples / all triples, 0 where there are none
  std::int64_t workspace_bytes = 0;  // scratch memory of all threads, with the bit rows of the masks
};

/// Checks the arguments as block_masked_mm does and reads the masks; multiplies nothing. With masks on a GPU it waits
/// for the stream.
Explanation explain(const View& a, const View& b, BlockSize block_size = 64,
                    const std::optional<View>& mask_out = std::nullopt,
                    const std::optional<View>& mask_lhs = std::nullopt,
                    const std::optional<View>& mask_rhs = std::nullopt, StreamOrDevice stream = {},
                    const std::optional<MutableView>& out = std::nullopt, Precision precision = Precision::ieee);

}  // namespace maskmm
