#include "cuda/early.cuh"
#include "cuda/epilogue.cuh"
#include "cuda/live.hpp"

namespace maskmm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

/// A warp makes one word: each lane reads two mask values.
template <class Accumulator>
__device__ void make_word(const MaskParams& mask, const BatchShape& shape, std::int64_t index) {
  const std::int64_t row_index = index / mask.words_per_row, word = index - row_index * mask.words_per_row;
  const std::int64_t batch = row_index / mask.rows, row = row_index - batch * mask.rows;
  const std::byte* from = mask.data + batch_offset(shape, mask.batch, batch) + row * mask.row_stride;
  const int lane = threadIdx.x % 32;
  std::uint64_t bits = 0;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t column = word * 64 + half * 32 + lane;
    bool live = false;
    if (column < mask.columns) {
      const Accumulator value = core::element_as<Accumulator>(from + column * mask.col_stride, mask.dtype);
      live = core::is_live(value);
      if (mask.scales) static_cast<Accumulator*>(mask.scales)[row_index * mask.columns + column] = value;
      if (mask.scaled && live && value != Accumulator(1)) *mask.scaled = 1;
    }
    bits |= std::uint64_t{__ballot_sync(kAllLanes, live)} << (32 * half);
  }
  if (lane == 0) mask.words[index] = bits;
}

__device__ std::int64_t words_of(const MaskParams& mask) {
  return mask.data ? mask.batches * mask.rows * mask.words_per_row : 0;
}

template <class Accumulator>
__global__ void __launch_bounds__(kThreads)
    live_kernel(const __grid_constant__ LiveParams params, const Counters counters) {
  ptx::let_next_launch_start();
  if (blockIdx.x == 0 && threadIdx.x < counters.count) counters.words[threadIdx.x] = 0;
  const std::int64_t first = words_of(params.masks[0]), second = first + words_of(params.masks[1]);
  const std::int64_t total = second + words_of(params.masks[2]);
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; i < total; i += step) {
    const int which = i < first ? 0 : i < second ? 1 : 2;
    make_word<Accumulator>(params.masks[which], params.batch, i - (which == 0 ? 0 : which == 1 ? first : second));
  }
}

template <class Element>
__device__ void write_element(const Result& out, std::byte* to, const Element& element) {
  if (out.aligned) {
    *reinterpret_cast<Element*>(to) = element;
  } else {
    memcpy(to, &element, sizeof element);
  }
}

/// Whether an element of the result has parts to read.
__device__ bool has_parts(const ReduceParams& params, const MaskParams& dropped, std::int64_t batch, std::int64_t row,
                          std::int64_t column) {
  if (dropped.data == nullptr) return true;
  const std::byte* matrix = dropped.data + batch_offset(params.batch, dropped.batch, batch);
  return matrix[(row >> params.block_m) * dropped.row_stride + (column >> params.block_n) * dropped.col_stride] !=
         std::byte{0};
}

/// Divisions of 64 bits take a hundred instructions.
__device__ std::int64_t quotient(std::int64_t value, std::int64_t by) {
  constexpr std::int64_t kMost = 0xffffffff;
  return value <= kMost && by <= kMost ? static_cast<unsigned>(value) / static_cast<unsigned>(by) : value / by;
}

/// Four neighbours in a row at once, of a result in float16 or bfloat16 whose rows hold whole vectors, unscaled.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    reduce_quads_kernel(const __grid_constant__ ReduceParams params, const __grid_constant__ MaskParams dropped) {
  ptx::wait_for_launches_before();
  const std::int64_t per_matrix = params.m * params.n, quads = params.batch_size * per_matrix / 4;
  const auto* partial = static_cast<const float4*>(params.partial);
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < quads; i += step) {
    const std::int64_t batch = params.batch_size == 1 ? 0 : i * 4 / per_matrix, in_matrix = i * 4 - batch * per_matrix;
    const std::int64_t row = quotient(in_matrix, params.n), column = in_matrix - row * params.n;
    float4 sum = make_float4(0, 0, 0, 0);
    if (has_parts(params, dropped, batch, row, column)) {
      sum = partial[i];
      for (std::int64_t split = 1; split < params.splits; ++split) {
        const float4 more = partial[split * quads + i];
        sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
      }
    }
    const auto element = [](float value) {
      Element result;
      convert(value == 0.f && signbit(value) ? 0.f : value, result);  // no live triple: see Epilogue
      return result;
    };
    alignas(8) const Element elements[4] = {element(sum.x), element(sum.y), element(sum.z), element(sum.w)};
    std::byte* to = params.out.data + batch_offset(params.batch, params.out.batch, batch) +
                    row * params.out.row_stride + column * params.out.col_stride;
    *reinterpret_cast<uint2*>(to) = *reinterpret_cast<const uint2*>(elements);
  }
}

template <class Element, class Accumulator>
__global__ void __launch_bounds__(kThreads)
    reduce_kernel(const __grid_constant__ ReduceParams params, const __grid_constant__ MaskParams dropped) {
  ptx::wait_for_launches_before();
  const std::int64_t per_matrix = params.m * params.n, total = per_matrix * params.batch_size;
  const auto* partial = static_cast<const Accumulator*>(params.partial);
  const auto* scales = static_cast<const Accumulator*>(params.scale_out.values);
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < total; i += step) {
    const std::int64_t batch = i / per_matrix, in_matrix = i - batch * per_matrix;
    const std::int64_t row = in_matrix / params.n, column = in_matrix - row * params.n;
    Accumulator sum = -Accumulator(0);
    if (has_parts(params, dropped, batch, row, column)) {
      sum = partial[i];
      for (std::int64_t split = 1; split < params.splits; ++split) sum += partial[split * total + i];
    }
    if (sum == Accumulator(0) && signbit(sum)) {  // no live triple: see Epilogue
      sum = Accumulator(0);
    } else if (scales) {
      sum *= scales[batch * params.scale_out.values_per_batch +
                    (row >> params.block_m) * params.scale_out.values_per_row + (column >> params.block_n)];
    }
    Element element[1];
    convert(sum, element[0]);
    std::byte* to = params.out.data + batch_offset(params.batch, params.out.batch, batch) +
                    row * params.out.row_stride + column * params.out.col_stride;
    write_element(params.out, to, element[0]);
  }
}

/// A warp sums the squares of one block: each lane a part, in order, then all lanes.
template <class Accumulator>
__global__ void __launch_bounds__(kThreads) reduce_squares_kernel(const __grid_constant__ ReduceSquaresParams params) {
  ptx::wait_for_launches_before();
  const std::int64_t rows = (params.m + 15) / 16, columns = (params.n + 15) / 16;
  const int shift_m = params.block_m - 4, shift_n = params.block_n - 4;  // blocks in squares
  const std::int64_t block_rows = ((rows - 1) >> shift_m) + 1, block_columns = ((columns - 1) >> shift_n) + 1;
  const std::int64_t blocks = block_rows * block_columns, total = blocks * params.batch_size;
  const auto* scales = static_cast<const Accumulator*>(params.scale_out.values);
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  for (std::int64_t index = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; index < total; index += step) {
    const std::int64_t batch = index / blocks, block = index - batch * blocks;
    const std::int64_t bi = block / block_columns, bj = block - bi * block_columns;
    const int height = static_cast<int>(smaller(std::int64_t{1} << shift_m, rows - (bi << shift_m)));
    const int width = static_cast<int>(smaller(std::int64_t{1} << shift_n, columns - (bj << shift_n)));
    Accumulator sum = -Accumulator(0);
    for (std::int64_t split = 0; split < params.splits; ++split) {
      const auto* squares = static_cast<const Accumulator*>(params.squares) +
                            ((split * params.batch_size + batch) * rows + (bi << shift_m)) * columns + (bj << shift_n);
      for (int i = threadIdx.x % 32; i < height * width; i += 32) sum += squares[i / width * columns + i % width];
    }
#pragma unroll
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(kAllLanes, sum, lanes);
    if (sum == Accumulator(0) && signbit(sum)) {  // no live square: see DotEpilogue
      sum = Accumulator(0);
    } else if (scales) {
      sum *= scales[batch * params.scale_out.values_per_batch + bi * params.scale_out.values_per_row + bj];
    }
    if (threadIdx.x % 32 != 0) continue;
    write_element(params.out,
                  params.out.data + batch_offset(params.batch, params.out.batch, batch) + bi * params.out.row_stride +
                      bj * params.out.col_stride,
                  sum);
  }
}

/// A warp counts the live k blocks of one block of the result.
__global__ void __launch_bounds__(kThreads)
    count_kernel(const __grid_constant__ MultiplyParams params, unsigned long long* count) {
  const std::int64_t rows = ((params.m - 1) >> params.block_m) + 1, columns = ((params.n - 1) >> params.block_n) + 1;
  const std::int64_t total = params.batch_size * rows * columns;
  const std::int64_t step = std::int64_t{gridDim.x} * kWarps;
  const int lane = threadIdx.x % 32;
  unsigned long long found = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32; i < total; i += step) {
    const std::int64_t batch = i / (rows * columns), in_matrix = i - batch * rows * columns;
    const std::int64_t row = in_matrix / columns, column = in_matrix - row * columns;
    const auto words = [&](const BitRows& bits, std::int64_t r) {
      return bits.words ? bits.words + batch * bits.words_per_batch + r * bits.words_per_row : nullptr;
    };
    const std::uint64_t* out = words(params.live_out, row);
    if (out && !(out[column / 64] >> (column % 64) & 1)) continue;
    const std::uint64_t *lhs = words(params.live_lhs, row), *rhs = words(params.live_rhs, column);
    for (std::int64_t word = lane; word * 64 < params.k_blocks; word += 32) {
      std::uint64_t bits = (lhs ? lhs[word] : ~std::uint64_t{0}) & (rhs ? rhs[word] : ~std::uint64_t{0});
      const std::int64_t left = params.k_blocks - word * 64;
      if (left < 64) bits &= (std::uint64_t{1} << left) - 1;
      found += __popcll(bits);
    }
  }
  if (found) atomicAdd(count, found);
}

unsigned grid_for(std::int64_t blocks, int sms) {
  const std::int64_t most = std::int64_t{sms} * 8;
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

template <class Params, class... More>
cudaError_t launch(void (*kernel)(Params, More...), unsigned grid, cudaStream_t stream, Start how, const Params& params,
                   More... more) {
  void* arguments[] = {const_cast<Params*>(&params), &more...};
  return start(reinterpret_cast<const void*>(kernel), grid, kThreads, 0, arguments, stream, how);
}

}  // namespace

cudaError_t launch_live(const LiveParams& params, const Counters& counters, Dtype accumulate, int sms,
                        cudaStream_t stream) {
  std::int64_t words = 0;
  for (const MaskParams& mask : params.masks) words += mask.data ? mask.batches * mask.rows * mask.words_per_row : 0;
  if (words == 0) {
    return counters.count == 0 ? cudaSuccess
                               : cudaMemsetAsync(counters.words, 0, counters.count * sizeof *counters.words, stream);
  }
  const unsigned grid = grid_for((words + kWarps - 1) / kWarps, sms);
  return accumulate == Dtype::float64 ? launch(&live_kernel<double>, grid, stream, Start::in_order, params, counters)
                                      : launch(&live_kernel<float>, grid, stream, Start::in_order, params, counters);
}

cudaError_t launch_reduce(const ReduceParams& params, const MaskParams& dropped, Dtype accumulate, int sms,
                          cudaStream_t stream, Start how) {
  const std::int64_t total = params.m * params.n * params.batch_size;
  const bool quads = params.out.vectors && params.n % 4 == 0 && params.scale_out.values == nullptr;
  void (*kernel)(ReduceParams, MaskParams) = &reduce_kernel<float, float>;
  std::int64_t threads = total;
  if (accumulate == Dtype::float64) {
    kernel = &reduce_kernel<double, double>;
  } else if (params.out.dtype == Dtype::float16 || params.out.dtype == Dtype::bfloat16) {
    const bool half = params.out.dtype == Dtype::float16;
    kernel = quads  ? half ? &reduce_quads_kernel<__half> : &reduce_quads_kernel<__nv_bfloat16>
             : half ? &reduce_kernel<__half, float>
                    : &reduce_kernel<__nv_bfloat16, float>;
    if (quads) threads = total / 4;
  }
  return launch(kernel, grid_for((threads + kThreads - 1) / kThreads, sms), stream, how, params, dropped);
}

cudaError_t launch_reduce_squares(const ReduceSquaresParams& params, Dtype accumulate, int sms, cudaStream_t stream,
                                  Start how) {
  const std::int64_t rows = ((params.m - 1) >> params.block_m) + 1, columns = ((params.n - 1) >> params.block_n) + 1;
  const unsigned grid = grid_for((rows * columns * params.batch_size + kWarps - 1) / kWarps, sms);
  return accumulate == Dtype::float64 ? launch(&reduce_squares_kernel<double>, grid, stream, how, params)
                                      : launch(&reduce_squares_kernel<float>, grid, stream, how, params);
}

cudaError_t launch_count(const MultiplyParams& params, unsigned long long* count, int sms, cudaStream_t stream) {
  return launch(&count_kernel, grid_for(std::int64_t{sms} * 8, sms), stream, Start::in_order, params, count);
}

}  // namespace maskmm::cuda
