// KernelSet: what one instruction set offers to the CPU back end. Only plain types: the files that include this are
// compiled for processors that the rest of the library must not require, so nothing inline may leave them.
#pragma once

#include <cstdint>

namespace maskmm::cpu {

/// A stretch of the inner dimension: `k` columns of A beside `k` rows of packed B.
template <class T>
struct Run {
  const T* a;
  T* b;
  const void* raw_b;  // where B is plain and not packed yet: its row before packing; or null
  std::int64_t k;
  bool fresh;    // B is not packed yet
  bool fresh_a;  // A may not be in the second-level cache: worth a prefetch
};

/// Vectors of the widest micro-tile that reads packed B.
inline constexpr int kMaxPacked = 4;

/// One call of a micro-kernel: dst = scale_out * (src + scale * (sum over the runs of A B)) for a micro-tile. Its
/// vectors may lie anywhere in B and in the result; those past the first kMaxPacked lie beside the first.
template <class T>
struct MicroCall {
  const Run<T>* runs;
  const Run<T>* runs_end;
  const Run<T>* next;  // what the following calls will read: prefetched, never loaded. next == next_end: nothing
  const Run<T>* next_end;
  int rows;               // of the micro-tile
  int next_lines;         // of each row of A, prefetched in each step of kStep elements
  std::int64_t a_offset;  // of the first row of the micro-tile from Run::a, in elements
  std::int64_t lda;       // from one row of A to the next
  std::int64_t a_step;    // from one column of A to the next: 1, unless A is read down its columns
  std::int64_t next_a_offset;
  std::int64_t next_lda;
  std::int64_t next_a_bytes;                   // of a column of the unit, where A is read down its columns
  std::int64_t b_offsets[kMaxPacked];          // of each vector from Run::b
  std::int64_t ldb;                            // from one row of packed B to the next
  bool apart;                                  // slivers of B are one vector wide, and vectors may be from any of them
  bool reads_raw;                              // B of runs that have raw_b comes from there, and is packed on the way
  std::int64_t raw_offsets_bytes[kMaxPacked];  // from Run::raw_b
  std::int64_t raw_ldb_bytes;
  std::int64_t copy_ldb;  // as ldb; 0 where nobody would read a copy: then B of `next` is prefetched row by row
  std::int64_t next_b_offsets[kMaxPacked];
  std::int64_t next_raw_offsets_bytes[kMaxPacked];
  bool next_side_by_side;   // the vectors of `next` are neighbours in B
  std::int64_t next_b_row;  // of each kStep rows of B in `next`, the rows [next_b_row, next_b_end) are prefetched
  std::int64_t next_b_end;
  bool into_first_level;  // that prefetch row by row fetches into the first-level cache, not the second-level one
  bool next_a;            // prefetch A too
  const T* src;           // partial sums of earlier runs, or null
  std::int64_t lds;
  T* dst;
  std::int64_t ldd;
  std::int64_t dst_offsets[kMaxPacked];
  void* result;  // where the rows of the micro-tile go at last, prefetched for writing; or null
  std::int64_t result_ld_bytes;
  std::int64_t result_offsets_bytes[kMaxPacked];  // of each stretch of a row
  std::int64_t result_bytes[kMaxPacked];
  int result_stretches;
  bool scaled;  // false: all scales are 1
  T scale;      // of this sum; its second factor is 1 unless the product of two would leave T's range
  T scale_second;
  T scale_out;
};

/// Rows of B -> a sliver of packed B.
template <class T>
struct PanelCopy {
  const void* from;  // aligned to T; rows for pairs may be anywhere
  std::int64_t ldf_bytes;
  std::int64_t rows;     // of `from`
  std::int64_t columns;  // filled up with zeros to a multiple of the vector
  T* to;
  std::int64_t ldt;
};

/// Columns [j, j + columns) of rows of B, and what their products are multiplied by, as in MicroCall.
template <class T>
struct RowStretch {
  std::int64_t j, columns;
  T scale, scale_second;
};

/// Adds one row of A times some columns of rows of B, which are plain, to `sums`.
template <class T>
struct RowCall {
  const T* a;
  const void* b;  // column 0
  std::int64_t ldb_bytes;
  std::int64_t k;  // elements of A, rows of B
  const RowStretch<T>* stretches;
  const RowStretch<T>* stretches_end;
  bool scaled;  // false: all scales are 1
  T* sums;      // of column 0
};

/// Elements of a cache line: the step in which a micro-kernel walks k and prefetches.
template <class T>
inline constexpr int kStep = 64 / sizeof(T);

inline constexpr int kMaxVectors = 16;
inline constexpr int kMaxRows = 32;
inline constexpr int kFewRows = 16;

/// Kernels of sums of T. Elements of A and B are T too, or pairs: two bfloat16, neighbours along k, the first in the
/// low half of T's bits. The inner axis is then counted in pairs, and where K is odd, the last pair of both has a zero.
template <class T>
struct Kernels {
  using MicroKernel = void (*)(const MicroCall<T>&);
  int lanes;                                         // elements of a vector
  int vectors;                                       // of the widest micro-tile
  int sliver_vectors;                                // of a sliver of packed B whose rows are copied as they are
  int chunk;                                         // inner elements to multiply at a time
  int long_chunk;                                    // where all k are live
  MicroKernel micro[kMaxVectors + 1][kMaxRows + 1];  // [vectors][rows]; null where there is none. [v][1] always exists
  MicroKernel micro_down[kMaxVectors + 1][kMaxRows + 1];  // the same where A is read down its columns, or null
  int rows[kMaxVectors + 1];                              // of the tallest micro-tile that is `vectors` wide
  MicroKernel narrow[3][kMaxRows + 1];  // [vectors][rows]: with sums of an order of their own; or null
  int narrow_rows[3];
  int row_vectors;               // of the widest micro-tile of one row, or 0: `vectors`
  bool packs_on_the_way = true;  // micro-kernels obey MicroCall::reads_raw
  bool fetches_a_once = false;   // prefetching what may have left the cache again costs more than it gains
  int row_step = 1;              // micro-tiles are fastest with a multiple of so many rows
  void (*begin)();               // before the first micro-kernel of a task, on its thread; or null
  void (*end)();
  void (*add_row)(const RowCall<T>&);
  void (*copy_panel)(const PanelCopy<T>&);  // from rows of T; of bfloat16, where elements are pairs
  /// to[j * ldt + i] = from[i * ldf + j] for i < rows, j < columns.
  void (*transpose)(const T* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, T* to, std::int64_t ldt);
  /// The sum of x[i * ldx + j] * sums[i * lds + j] for i < rows, j < columns.
  T (*sum_products)(const T* x, std::int64_t ldx, const T* sums, std::int64_t lds, std::int64_t rows,
                    std::int64_t columns);
};

struct KernelSet {
  const char* name;
  const char* needs;  // processor features, for messages
  Kernels<float> f32;
  Kernels<double> f64;
  const Kernels<float>* bfloat16_pairs;      // or null: bfloat16 is widened
  const Kernels<float>* few_bfloat16_pairs;  // where A has fewer than kFewRows
  /// Rows of neighbouring elements, at any address.
  using Widen = void (*)(const void* from, std::int64_t stride_bytes, std::int64_t rows, std::int64_t columns,
                         float* to, std::int64_t ldt);
  Widen widen_float16;
  Widen widen_bfloat16;
  /// Rounded to nearest even.
  using Narrow = void (*)(const float* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, void* to,
                          std::int64_t stride_bytes);
  Narrow narrow_float16;
  Narrow narrow_bfloat16;
};

extern const KernelSet kAvx512Kernels;
void narrow_bfloat16_avx512_bf16(const float* from, std::int64_t ldf, std::int64_t rows, std::int64_t columns, void* to,
                                 std::int64_t stride_bytes);
extern const Kernels<float> kAvx512Bfloat16Kernels;
extern const Kernels<float> kAmxBfloat16Kernels;
extern const KernelSet kAvx2Kernels;
extern const KernelSet kNeonKernels;
extern const KernelSet kPortableKernels;

}  // namespace maskmm::cpu
