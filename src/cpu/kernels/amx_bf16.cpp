// AMX: a tile register holds 16 rows of 64 bytes. Four hold sums, 16x16 floats each, two A and two B: a step of 16
// pairs of bfloat16 is 4 loads and 4 products of 16 cycles each. A is read in place, rows of a tile at any distance.
//
// begin() gives all tiles their full shape, end() gives the registers back. Micro-tiles whose rows are not 16 or 32
// reshape the tiles for themselves. A step always takes the next 16 pairs of the runs, whatever their ends: a product
// sums within a step in another order than from step to step, and runs end where B happens to be packed already. A step
// that spans runs, and the last, which zeros fill up in both operands, go through copies. The products take subnormal
// operands and sums as zeros.
#include <immintrin.h>

#include "cpu/kernels/kernel_set.hpp"

namespace maskmm::cpu {
namespace {

constexpr int kVectorBytes = 64;

#include "cpu/kernels/micro_kernel.inl"
#include "cpu/kernels/packing.inl"
#include "cpu/kernels/packing_pairs.inl"

constexpr int kTileRows = 16, kTileBytes = 64, kTilePairs = 16;

struct PairTiles {
  using Element = float;  // holds the bits of a pair
  static constexpr int kRawRows = 2;
};

// The compiler's own intrinsics do not say that they read and write memory.
template <int Tile>
void load_tile(const float* from, std::int64_t ld) {
  __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(ld * 4), "i"(Tile) : "memory");
}
template <int Tile>
void store_tile(float* to, std::int64_t ld) {
  __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(ld * 4), "i"(Tile) : "memory");
}
template <int Tile>
void clear_tile() {
  __asm__ volatile("tilezero %%tmm%c0" : : "i"(Tile));
}
template <int Sum, int A, int B>
void add_product() {
  __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(Sum), "i"(A), "i"(B));
}

/// Tiles: sums 0 to 3, row by row; A 4 and 5; B 6 and 7.
void shape_tiles(int upper_rows, int lower_rows) {
  struct alignas(64) Shapes {
    std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
    std::uint16_t row_bytes[16] = {};
    std::uint8_t rows[16] = {};
  } shapes;
  const int rows[8] = {upper_rows, upper_rows, lower_rows, lower_rows, upper_rows, lower_rows, kTileRows, kTileRows};
  for (int tile = 0; tile < 8; ++tile) {
    shapes.rows[tile] = static_cast<std::uint8_t>(rows[tile]);
    shapes.row_bytes[tile] = kTileBytes;
  }
  __asm__ volatile("ldtilecfg %0" : : "m"(shapes) : "memory");
}

void begin() { shape_tiles(kTileRows, kTileRows); }
void end() { __asm__ volatile("tilerelease" : : : "memory"); }

/// One step of 16 pairs.
template <int MT, int NT>
void multiply_tiles(const float* a, std::int64_t lda, const float* b, std::int64_t ldb) {
  load_tile<6>(b, ldb);
  load_tile<4>(a, lda);
  add_product<0, 4, 6>();
  if constexpr (NT > 1) {
    load_tile<7>(b + kTilePairs, ldb);
    add_product<1, 4, 7>();
  }
  if constexpr (MT > 1) {
    load_tile<5>(a + kTileRows * lda, lda);
    add_product<2, 5, 6>();
    if constexpr (NT > 1) add_product<3, 5, 7>();
  }
}

/// A step of 16 pairs from stretches that are shorter, copied side by side.
template <int MT, int NT>
class Gather {
 public:
  bool empty() const { return filled_ == 0; }

  /// Adds up to `pairs`, and multiplies when there are 16; how many it took.
  std::int64_t add(const MicroCall<float>& call, const float* a, const float* b, std::int64_t pairs) {
    if (pairs > kTilePairs - filled_) pairs = kTilePairs - filled_;
    const __mmask16 mask = static_cast<__mmask16>((1u << pairs) - 1);
    for (int i = 0; i < call.rows; ++i) {
      _mm512_mask_storeu_epi32(a_ + i * kTilePairs + filled_, mask, _mm512_maskz_loadu_epi32(mask, a + i * call.lda));
    }
    for (std::int64_t k = 0; k < pairs; ++k) {
      for (int j = 0; j < kColumns; j += kTilePairs) {
        _mm512_store_si512(b_ + (filled_ + k) * kColumns + j, _mm512_loadu_si512(b + k * call.ldb + j));
      }
    }
    filled_ += pairs;
    if (filled_ == kTilePairs) multiply();
    return pairs;
  }

  /// Multiplies what is left, with zeros behind it in both operands.
  void finish(int rows) {
    if (empty()) return;
    const __mmask16 mask = static_cast<__mmask16>(0xffffu << filled_);
    for (int i = 0; i < rows; ++i) _mm512_mask_storeu_epi32(a_ + i * kTilePairs, mask, _mm512_setzero_si512());
    for (std::int64_t k = filled_ * kColumns; k < kTilePairs * kColumns; ++k) b_[k] = 0;
    multiply();
  }

 private:
  static constexpr int kColumns = NT * kTilePairs;
  void multiply() {
    multiply_tiles<MT, NT>(a_, kTilePairs, b_, kColumns);
    filled_ = 0;
  }

  alignas(64) float a_[MT * kTileRows * kTilePairs];
  alignas(64) float b_[kTilePairs * kColumns];
  std::int64_t filled_ = 0;
};

/// Loads the sums of all tiles, or clears them.
template <int MT, int NT>
void open_sums(const float* src, std::int64_t lds) {
  if (src == nullptr) {
    clear_tile<0>();
    if constexpr (NT > 1) clear_tile<1>();
    if constexpr (MT > 1) clear_tile<2>();
    if constexpr (MT > 1 && NT > 1) clear_tile<3>();
    return;
  }
  load_tile<0>(src, lds);
  if constexpr (NT > 1) load_tile<1>(src + kTilePairs, lds);
  if constexpr (MT > 1) load_tile<2>(src + kTileRows * lds, lds);
  if constexpr (MT > 1 && NT > 1) load_tile<3>(src + kTileRows * lds + kTilePairs, lds);
}

template <int MT, int NT>
void store_sums(float* dst, std::int64_t ldd) {
  store_tile<0>(dst, ldd);
  if constexpr (NT > 1) store_tile<1>(dst + kTilePairs, ldd);
  if constexpr (MT > 1) store_tile<2>(dst + kTileRows * ldd, ldd);
  if constexpr (MT > 1 && NT > 1) store_tile<3>(dst + kTileRows * ldd + kTilePairs, ldd);
}

template <int MT, int NT>
void store_scaled(const MicroCall<float>& call) {
  constexpr int kColumns = NT * kTilePairs;
  alignas(64) float sums[MT * kTileRows * kColumns];
  store_sums<MT, NT>(sums, kColumns);
  const __m512 scale = _mm512_set1_ps(call.scale), second = _mm512_set1_ps(call.scale_second),
               scale_out = _mm512_set1_ps(call.scale_out);
  for (int i = 0; i < call.rows; ++i) {
    for (int j = 0; j < kColumns; j += kTilePairs) {
      __m512 sum = _mm512_load_ps(sums + i * kColumns + j) * scale * second;
      if (call.src != nullptr) sum += _mm512_loadu_ps(call.src + i * call.lds + j);
      _mm512_storeu_ps(call.dst + i * call.ldd + j, sum * scale_out);
    }
  }
}

template <int MT, int NT>
void multiply_runs(const MicroCall<float>& call) {
  const bool whole = call.rows == MT * kTileRows;
  if (!whole) shape_tiles(MT > 1 ? kTileRows : call.rows, MT > 1 ? call.rows - kTileRows : kTileRows);
  open_sums<MT, NT>(call.scaled ? nullptr : call.src, call.lds);
  prefetch_result(call);
  Prefetcher<PairTiles> prefetcher(call);
  Gather<MT, NT> gather;
  for (const Run<float>* run = call.runs; run != call.runs_end; ++run) {
    const float* a = run->a + call.a_offset;
    const float* b = run->b + call.b_offsets[0];
    for (std::int64_t k = run->k, taken; k > 0; k -= taken, a += taken, b += taken * call.ldb) {
      prefetcher.template step<MT * kTileRows, NT>(call);
      if (k >= kTilePairs && gather.empty()) {
        multiply_tiles<MT, NT>(a, call.lda, b, call.ldb);
        taken = kTilePairs;
      } else {
        taken = gather.add(call, a, b, k);
      }
    }
  }
  gather.finish(call.rows);
  if (call.scaled) {
    store_scaled<MT, NT>(call);
  } else {
    store_sums<MT, NT>(call.dst, call.ldd);
  }
  if (!whole) shape_tiles(kTileRows, kTileRows);
}

constexpr Kernels<float> make_kernels() {
  Kernels<float> kernels{};
  kernels.lanes = kTilePairs;
  kernels.vectors = 2;
  kernels.sliver_vectors = 2;
  kernels.chunk = 256;
  kernels.long_chunk = 256;
  for (int rows = 1; rows <= 2 * kTileRows; ++rows) {
    kernels.micro[1][rows] = rows <= kTileRows ? multiply_runs<1, 1> : multiply_runs<2, 1>;
    kernels.micro[2][rows] = rows <= kTileRows ? multiply_runs<1, 2> : multiply_runs<2, 2>;
  }
  kernels.rows[1] = kernels.rows[2] = 2 * kTileRows;
  kernels.packs_on_the_way = false;
  kernels.fetches_a_once = true;
  kernels.row_step = kTileRows;
  kernels.begin = begin;
  kernels.end = end;
  kernels.copy_panel = copy_pairs;
  kernels.transpose = transpose<float>;
  return kernels;
}

}  // namespace

constexpr Kernels<float> kAmxBfloat16Kernels = make_kernels();

}  // namespace maskmm::cpu
