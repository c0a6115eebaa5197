// Sums out of the registers of a warpgroup: mask_out, the result's type, edges and strides; or the parts of a split k.
#pragma once

#include "cuda/epilogue.cuh"
#include "cuda/sm90/kept.cuh"
#include "cuda/sm90/ptx.cuh"

namespace maskmm::cuda::sm90 {

/// Where the sums of a warpgroup go: 64 rows by kBlocks times 64 columns. Thread (warp w, lane l) holds, of each eight
/// columns o, the elements (16 w + l / 4 + 8 h, 8 o + 2 (l % 4) + c) in sums[4 o + 2 h + c].
template <class Element, int kBlocks>
struct Writer {
  std::byte* start;  // of row 0, column 0 of the matrix
  std::int64_t row_stride, column_stride;
  int rows;                // that are left
  int4 columns;            // first one of each 64; -1: none
  int all_columns;         // of the matrix
  bool across, down;       // rows (columns) may be written in aligned vectors of eight
  bool aligned;            // every element lies at a multiple of its size
  unsigned started = ~0u;  // the columns of blocks that hold sums; the others are zero

  __device__ void write(const float (&sums)[128]) const {
    if (across) {
      write_rows(sums);
    } else if (down) {
      write_columns(sums);
    } else {
      write_elements(sums);
    }
  }

  static __device__ int lane() { return threadIdx.x % 32; }
  static __device__ int first_row() { return threadIdx.x % 128 / 32 * 16; }

  static __device__ int first(int4 columns, int block) {
    return block == 0 ? columns.x : block == 1 ? columns.y : block == 2 ? columns.z : columns.w;
  }
  __device__ int left(int first) const { return first < 0 ? 0 : all_columns - first; }

  static __device__ unsigned pack(float low, float high) {
    Element pair[2];
    convert(low, pair[0]), convert(high, pair[1]);
    unsigned bits;
    memcpy(&bits, pair, sizeof bits);
    return bits;
  }

  /// Four lanes hold four words each; lane q gets word q of all four.
  static __device__ uint4 exchange(unsigned (&words)[4]) {
    const int q = lane() % 4;
#pragma unroll
    for (int i = 0; i < 4; i += 2) {
      const unsigned got = __shfl_xor_sync(0xffffffffu, q & 1 ? words[i] : words[i + 1], 1);
      (q & 1 ? words[i] : words[i + 1]) = got;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const unsigned got = __shfl_xor_sync(0xffffffffu, q & 2 ? words[i] : words[i + 2], 2);
      (q & 2 ? words[i] : words[i + 2]) = got;
    }
    return make_uint4(words[0], words[1], words[2], words[3]);
  }

  __device__ void write_rows(const float (&sums)[128]) const {
    const std::int64_t stride = row_stride;
    std::byte* to = start;
    const int i = first_row() + lane() / 4, j = lane() % 4 * 8;
    to += i * stride + j * std::int64_t{sizeof(Element)};
#pragma unroll
    for (int g = 0; g < 2 * kBlocks; ++g) {
      const int column = first(columns, g / 2), right = g % 2 * 32;
      std::byte* at = to + (column + right) * std::int64_t{sizeof(Element)};
      if (!(started >> (g / 2) & 1)) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (i + 8 * h < rows && j + right < left(column)) {
            __stcs(reinterpret_cast<uint4*>(at + h * 8 * stride), make_uint4(0, 0, 0, 0));
          }
        }
        continue;
      }
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        unsigned words[4];
#pragma unroll
        for (int o = 0; o < 4; ++o) words[o] = pack(sums[16 * g + 4 * o + 2 * h], sums[16 * g + 4 * o + 2 * h + 1]);
        const uint4 vector = exchange(words);
        if (i + 8 * h < rows && j + right < left(column)) {
          __stcs(reinterpret_cast<uint4*>(at + h * 8 * stride), vector);
        }
      }
    }
  }

  __device__ void write_columns(const float (&sums)[128]) const {
    const std::int64_t stride = column_stride;
    std::byte* to = start;
    const int i = first_row() + lane() % 2 * 8, j = lane() / 4 + lane() % 4 / 2 * 8;
    to += i * std::int64_t{sizeof(Element)} + j * stride;
#pragma unroll
    for (int g = 0; g < 4 * kBlocks; ++g) {
      const int column = first(columns, g / 4), right = g % 4 * 16;
      unsigned words[4];
#pragma unroll
      for (int w = 0; w < 4; ++w) words[w] = ptx::transpose_8x8(pack(sums[8 * g + 2 * w], sums[8 * g + 2 * w + 1]));
      const uint4 vector = exchange(words);
      if (i < rows && j + right < left(column)) {
        __stcs(reinterpret_cast<uint4*>(to + (column + right) * stride), vector);
      }
    }
  }

  __device__ void write_elements(const float (&sums)[128]) const {
    std::byte* to = start;
    const int i = first_row() + lane() / 4, j = lane() % 4 * 2;
    to += i * row_stride + j * column_stride;
#pragma unroll
    for (int c = 0; c < kBlocks; ++c) {
      const int column = first(columns, c);
      std::byte* at = to + column * column_stride;
      for_each<32>(
          sums, 32 * c, rows - i, left(column) - j,
          [&](float sum, int down) {
            Element element;
            convert(sum, element);
            if (aligned) {
              *reinterpret_cast<Element*>(at + down * row_stride) = element;
            } else {
              memcpy(at + down * row_stride, &element, sizeof element);
            }
          },
          [&](int columns_on) { at += columns_on * column_stride; });
    }
  }

  /// Calls write(sum, row) for each element inside, row counted from this thread's first; step(columns) goes right.
  template <int kCount, class Write, class Step>
  static __device__ void for_each(const float (&sums)[128], int begin, int rows, int columns, const Write& write,
                                  const Step& step) {
#pragma unroll
    for (int e = begin; e < begin + kCount; e += 4) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (columns > 0 && rows > 0) write(sums[e + c], 0);
        if (columns > 0 && rows > 8) write(sums[e + 2 + c], 8);
        step(c == 0 ? 1 : 7);
        columns -= c == 0 ? 1 : 7;
        asm volatile(""
                     : "+r"(columns));  // or the compiler works out all comparisons and addresses at once, and spills
      }
    }
  }
};

/// A tile's part of a warpgroup: 64 rows by 256 columns.
template <class Config>
struct Store {
  using Element = typename Config::Element;

  const HopperParams& params;
  const unsigned owned;           // gathered columns that are meant
  const int row, column, matrix;  // as in StageState

  /// `started`: the columns of blocks that hold sums.
  __device__ void run(float (&sums)[128], unsigned started) const {
    const MultiplyParams& p = params.multiply;
    int4 columns = make_int4(column, column + kBlock, column + 2 * kBlock, column + 3 * kBlock);
    if constexpr (Config::kGathers) {
      columns = *reinterpret_cast<const int4*>(params.gathered.tiles[column].columns);
      columns.x = first_if_kept(columns.x, owned & 1);
      columns.y = first_if_kept(columns.y, owned & 2);
      columns.z = first_if_kept(columns.z, owned & 4);
      columns.w = first_if_kept(columns.w, owned & 8);
    }
    if (row >= p.m || columns.x >= p.n) return;
    const int splits = static_cast<int>(p.schedule.splits), batch = splits == 1 ? matrix : matrix / splits;
    if (p.partial != nullptr) {
      if constexpr (!Config::kGathers) store_partial(sums, started, batch, matrix - batch * splits);
      return;
    }
    if constexpr (Config::kGathers) {
      keep(sums, started, batch, columns);
    } else {
      scale(sums, started, batch, columns);
    }
    const int rows_left = static_cast<int>(smaller(p.m - row, kBlock));
    Writer<Element, kColumnBlocks>{p.out.data + batch_offset(p.batch, p.out.batch, batch) + row * p.out.row_stride,
                                   p.out.row_stride,
                                   p.out.col_stride,
                                   rows_left,
                                   columns,
                                   static_cast<int>(p.n),
                                   p.out.vectors && p.n % 8 == 0,
                                   params.down && rows_left % 8 == 0,
                                   p.out.aligned,
                                   Config::kSkip == Skip::pairs ? started : ~0u}
        .write(sums);
  }

 private:
  using Place = Writer<Element, kColumnBlocks>;

  /// Of a gathered column; -1 where this row of blocks does not keep it.
  __device__ int first_if_kept(int gathered, bool is_meant) const {
    const bool kept = is_meant && gathered >= 0 && gathered >> (row / kBlock % kGatheredRows) & 1;
    return kept ? gathered & ~(kBlock - 1) : -1;
  }

  __device__ bool inside(int column) const { return column >= 0 && column < params.multiply.n; }

  __device__ void scale(float (&sums)[128], unsigned started, int batch, int4 columns) const {
    const MultiplyParams& p = params.multiply;
    const auto* scales = static_cast<const float*>(p.scale_out.values);
    if (started == (1u << kColumnBlocks) - 1 && scales == nullptr) return;
    if (scales != nullptr)
      scales += batch * p.scale_out.values_per_batch + (row >> p.block_m) * p.scale_out.values_per_row;
#pragma unroll
    for (int c = 0; c < kColumnBlocks; ++c) {
      const bool holds = started >> c & 1;
      const float value = scales != nullptr && holds && inside(Place::first(columns, c))
                              ? scales[Place::first(columns, c) >> p.block_n]
                              : 1.f;
#pragma unroll
      for (int i = 0; i < 32; ++i) sums[32 * c + i] = holds ? sums[32 * c + i] * value : 0.f;
    }
  }

  /// The same for gathered columns, where a block of 64 may hold some of 32 that mask_out drops.
  __device__ void keep(float (&sums)[128], unsigned started, int batch, int4 columns) const {
    const MultiplyParams& p = params.multiply;
    const auto* scales = static_cast<const float*>(p.scale_out.values);
    const int first_row = row + Place::first_row();
    const bool halves = kHalf >> p.block_m != 0 || kHalf >> p.block_n != 0;
    if (scales != nullptr)
      scales += batch * p.scale_out.values_per_batch + (first_row >> p.block_m) * p.scale_out.values_per_row;
#pragma unroll
    for (int h = 0; h < 2 * kColumnBlocks; ++h) {
      const int first = Place::first(columns, h / 2), column = first + h % 2 * kHalf;
      bool kept = started >> (h / 2) & 1 && first >= 0 && column < p.n && first_row < p.m;
      if (halves && kept) kept = keeps(p, batch, first_row, column);
      const float value = scales != nullptr && kept ? scales[column >> p.block_n] : 1.f;
#pragma unroll
      for (int i = 16 * h; i < 16 * h + 16; ++i) sums[i] = kept ? sums[i] * value : 0.f;
    }
  }

  /// A block without a live triple is written as -0: see Epilogue.
  __device__ void store_partial(float (&sums)[128], unsigned started, int batch, int split) const {
    const MultiplyParams& p = params.multiply;
    const int i = Place::first_row() + Place::lane() / 4, j = Place::lane() % 4 * 2;
#pragma unroll
    for (int e = 0; e < 128; ++e) sums[e] = started >> (e / 32) & 1 ? sums[e] + 0.f : -0.f;
    float* to = static_cast<float*>(p.partial) + ((std::int64_t{split} * p.batch_size + batch) * p.m + row + i) * p.n +
                column + j;
    Place::template for_each<128>(
        sums, 0, static_cast<int>(smaller(p.m - row, kBlock)) - i,
        static_cast<int>(smaller(p.n - column, kColumns)) - j, [&](float sum, int down) { to[down * p.n] = sum; },
        [&](int columns) { to += columns; });
  }
};

}  // namespace maskmm::cuda::sm90
