// Operands into shared memory: one stage holds kLines lines (rows of a, columns of b) by 128 bytes of k, in 16-byte
// vectors. Only what is live is read; what lies outside the matrix becomes zeros.
//
//   k-major:     line * 128 bytes + (vector along k ^ swizzle(line)) * 16
//   line-major:  k * kLines * sizeof(Element) + (vector along lines ^ swizzle(k)) * 16
//
// The swizzles keep both these writes and the kernels' reads free of bank conflicts.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "core/mask_value.hpp"
#include "cuda/params.hpp"
#include "cuda/ptx.cuh"

namespace maskmm::cuda {

inline constexpr int kStageKBytes = 128;  // bytes of k in a stage: 64 16-bit, 32 float32 or 16 float64 elements
inline constexpr unsigned kAllLanes = 0xffffffffu;

template <class Element>
__device__ constexpr int swizzle(int line_or_k) {
  return sizeof(Element) == 8 ? (line_or_k & 3) << 1 : line_or_k & 7;
}

/// The element at `address`, converted as NumPy's astype does.
template <class Element>
__device__ inline Element load_element(const std::byte* address, Dtype dtype) {
  if constexpr (sizeof(Element) == 8) {
    return core::element_as<double>(address, dtype);
  } else if constexpr (sizeof(Element) == 4) {
    return core::element_as<float>(address, dtype);
  } else {
    constexpr bool is_half = std::is_same_v<Element, __half>;
    Element result;
    if (dtype == (is_half ? Dtype::float16 : Dtype::bfloat16)) {
      const std::uint16_t bits = core::load_unaligned<std::uint16_t>(address);
      memcpy(&result, &bits, sizeof bits);
    } else if constexpr (is_half) {
      result = __float2half_rn(core::element_as<float>(address, dtype));
    } else {
      result = __float2bfloat16_rn(core::element_as<float>(address, dtype));
    }
    return result;
  }
}

/// What one stage needs of one operand. A stage is made of up to four parts, one for each live k block in it; lane i of
/// the loading warp holds part i, or every lane the only one.
struct StageParts {
  std::int64_t k;       // first element along k
  unsigned live_lines;  // bit i: line block i of the tile is needed
  int part_shift;       // log2 of the elements of k in a part
  int block_shift;      // log2 of the lines of a block
  bool single;

  struct Part {
    std::int64_t k;
    unsigned live_lines;
    int block_shift;
    __device__ bool live(int line) const { return (live_lines >> (line >> block_shift)) & 1; }
  };
  /// The part that lies `offset` elements into the stage, from there on.
  __device__ Part at(int offset) const {
    if (single) return {k + offset, live_lines, block_shift};
    const int index = offset >> part_shift;
    return {__shfl_sync(kAllLanes, k, index) + (offset & ((1 << part_shift) - 1)),
            __shfl_sync(kAllLanes, live_lines, index), block_shift};
  }
};

/// One warp loads a stage.
template <class Element, int kLines>
struct Loader {
  static constexpr int kSize = sizeof(Element);
  static constexpr int kPerVector = 16 / kSize;
  static constexpr int kStageK = kStageKBytes / kSize;
  static constexpr int kBytes = kLines * kStageKBytes;
  static constexpr int kVectorsPerK = kLines * kSize / 16;

  const std::byte* base;  // line 0 of the tile, k = 0
  int lines_left;         // lines of the tile that lie in the matrix

  __device__ void load(const Source& source, std::int64_t k_extent, const StageParts& parts, std::uint32_t to) const {
    if (!source.vectors) {
      load_elements(source, k_extent, parts, to);
    } else if (source.k_major) {
      load_k_major(source, k_extent, parts, to);
    } else {
      load_line_major(source, k_extent, parts, to);
    }
  }

 private:
  static __device__ int lane() { return threadIdx.x % 32; }

  static __device__ int bytes_inside(std::int64_t elements_left) {
    return elements_left >= kPerVector ? 16 : elements_left <= 0 ? 0 : static_cast<int>(elements_left) * kSize;
  }

  /// A lane has one vector of k, in every fourth line. The copies of a stage that lies inside the matrix stay free of
  /// all tests but that for dead blocks (of 16 lines or more).
  __device__ void load_k_major(const Source& source, std::int64_t k_extent, const StageParts& parts,
                               std::uint32_t to) const {
    const int vector = lane() % 8, first = lane() / 8;
    const StageParts::Part part = parts.at(vector * kPerVector);
    const int bytes = bytes_inside(k_extent - part.k);
    const std::byte* from = base + part.k * kSize + first * source.line_stride;
    const std::int64_t step = 4 * source.line_stride;
    std::uint32_t even = to + first * kStageKBytes + ((vector ^ swizzle<Element>(first)) << 4);
    std::uint32_t odd = to + (first + 4) * kStageKBytes + ((vector ^ swizzle<Element>(first + 4)) << 4);
    if (__all_sync(kAllLanes, bytes == 16 && lines_left >= kLines)) {
      // Four addresses that do not wait for one another.
      const std::byte* froms[4] = {from, from + step, from + 2 * step, from + 3 * step};
      // Of float32's 256 lines, all at once would take registers from the multiplying warps.
      constexpr int kAtOnce = kSize == 4 ? 8 : kLines / 16;
#pragma unroll kAtOnce
      for (int line = 0; line < kLines; line += 16) {
        if (part.live(line)) {
          ptx::copy_16(even + line * kStageKBytes, froms[0]);
          ptx::copy_16(odd + line * kStageKBytes, froms[1]);
          ptx::copy_16(even + (line + 8) * kStageKBytes, froms[2]);
          ptx::copy_16(odd + (line + 8) * kStageKBytes, froms[3]);
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) froms[i] += 4 * step;
      }
    } else {
#pragma unroll 1
      for (int line = 0; line < kLines; line += 4) {
        if (part.live(line)) ptx::copy_16(line % 8 ? odd : even, from, line + first < lines_left ? bytes : 0);
        from += step;
        (line % 8 ? odd : even) += 8 * kStageKBytes;
      }
    }
  }

  /// A lane has one vector of lines (or more) in every kStep-th k.
  __device__ void load_line_major(const Source& source, std::int64_t k_extent, const StageParts& parts,
                                  std::uint32_t to) const {
    constexpr int kStep = kVectorsPerK < 32 ? 32 / kVectorsPerK : 1;
    static_assert(16 % kStep == 0);
    const int first = lane() / kVectorsPerK % kStep;
    const std::int64_t step = kStep * source.k_stride;
#pragma unroll 1
    for (int vector = lane() % kVectorsPerK; vector < kVectorsPerK; vector += 32) {
      const int line = vector * kPerVector, bytes = bytes_inside(lines_left - line);
      if (parts.single && __all_sync(kAllLanes, bytes == 16 && k_extent - parts.k >= kStageK)) {
        if (!parts.at(0).live(line)) continue;
        const std::byte* from = base + (parts.k + first) * source.k_stride + line * kSize;
        const std::byte* froms[4] = {from, from + step, from + 2 * step, from + 3 * step};
        const std::uint32_t column = to + (vector << 4) + first * (kLines * kSize);
#pragma unroll
        for (int i = 0; i < kStageK; i += kStep) {
          ptx::copy_16((column ^ swizzle<Element>(i + first) << 4) + i * (kLines * kSize), froms[i / kStep % 4]);
          froms[i / kStep % 4] += 4 * step;
        }
        continue;
      }
#pragma unroll 1
      for (int slice = 0; slice < kStageK; slice += 16) {
        const StageParts::Part part = parts.at(slice);
        const std::byte* from = base + (part.k + first) * source.k_stride + line * kSize;
        const std::int64_t k_left = k_extent - part.k;
        const std::uint32_t column = to + (vector << 4) + (slice + first) * (kLines * kSize);
        const bool is_live = part.live(line);
        if (__all_sync(kAllLanes, bytes == 16 && k_left >= 16)) {
          if (!is_live) continue;
#pragma unroll
          for (int i = 0; i < 16; i += kStep) {
            ptx::copy_16((column ^ swizzle<Element>(i + first) << 4) + i * (kLines * kSize), from);
            from += step;
          }
        } else {
          if (!is_live) continue;
#pragma unroll 1
          for (int i = 0; i < 16; i += kStep) {
            ptx::copy_16((column ^ swizzle<Element>(i + first) << 4) + i * (kLines * kSize), from,
                         i + first < k_left ? bytes : 0);
            from += step;
          }
        }
      }
    }
  }

  /// Any strides, any type: element by element.
  __device__ void load_elements(const Source& source, std::int64_t k_extent, const StageParts& parts,
                                std::uint32_t to) const {
#pragma unroll 1
    for (int index = lane(); index < kBytes / 16; index += 32) {
      const int line = source.k_major ? index / 8 : index % kVectorsPerK * kPerVector;
      const int k_offset = source.k_major ? index % 8 * kPerVector : index / kVectorsPerK;
      const StageParts::Part part = parts.at(k_offset);
      if (!part.live(line)) continue;
      const std::byte* from = base + line * source.line_stride + part.k * source.k_stride;
      const std::int64_t step = source.k_major ? source.k_stride : source.line_stride;
      const int count = line >= lines_left || part.k >= k_extent ? 0
                        : source.k_major                         ? bytes_inside(k_extent - part.k) / kSize
                                                                 : bytes_inside(lines_left - line) / kSize;
      union {
        Element elements[kPerVector];
        uint4 vector;
      } packed;
      packed.vector = make_uint4(0, 0, 0, 0);
#pragma unroll
      for (int i = 0; i < kPerVector; ++i) {
        if (i < count) {
          packed.elements[i] =
              source.native ? *reinterpret_cast<const Element*>(from) : load_element<Element>(from, source.dtype);
        }
        from += step;
      }
      const int offset = source.k_major
                             ? line * kStageKBytes + ((index % 8 ^ swizzle<Element>(line)) << 4)
                             : k_offset * (kLines * kSize) + ((index % kVectorsPerK ^ swizzle<Element>(k_offset)) << 4);
      ptx::store_shared_16(to + offset, packed.vector);
    }
  }
};

}  // namespace maskmm::cuda
