#include "cuda/sm90/launch.hpp"

#include <algorithm>

#include "cuda/check.hpp"
#include "cuda/launch.hpp"
#include "cuda/sm90/config.hpp"
#include "cuda/sm90/gather.hpp"
#include "cuda/sm90/small.hpp"
#include "cuda/sm90/tensor_map.hpp"
#include "cuda/sm90/wave.hpp"
#include "cuda/start.hpp"

namespace maskmm::cuda::sm90 {
namespace {

/// Whether the result's columns may be written in aligned 16-byte vectors.
bool runs_down(const MultiplyParams& p) {
  const auto aligned = [](std::int64_t bytes) { return bytes % 16 == 0; };
  bool good = p.out.row_stride == 2 && aligned(p.out.col_stride) &&
              aligned(static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(p.out.data)));
  for (int axis = 0; axis < p.batch.rank; ++axis) good = good && aligned(p.out.batch.bytes[axis]);
  return good;
}

BatchSteps steps_of(const Source& source, const BatchShape& batch) {
  const auto moves = [&](int axis) { return axis >= 0 && source.batch.bytes[axis] != 0 ? 1 : 0; };
  return {moves(batch.rank - 1), moves(batch.rank - 2)};
}

/// As many rows of blocks a piece as make one piece for each worker of the last wave.
Tail tail_of(const Launch& launch) {
  const std::int64_t workers = launch.blocks / launch.kernel.cluster, total = launch.schedule.total;
  const std::int64_t left = total % workers, whole = launch.kernel.rows / kBlock;
  Tail tail{static_cast<int>(total - left), static_cast<int>(total), 1, static_cast<int>(whole)};
  if (left != 0 && launch.schedule.splits == 1) {
    tail.rows = static_cast<int>(std::clamp(core::ceil_div(left * whole, workers), std::int64_t{1}, whole));
    tail.pieces = static_cast<int>(core::ceil_div(whole, tail.rows));
    tail.total = tail.first + static_cast<int>(left) * tail.pieces;
  }
  tail.rows *= kBlock / launch.kernel.block;
  return tail;
}

/// Whether WaveRows can have all rows of mask_lhs, and pays.
bool sorts_rows(const Launch& launch, const sm80::DirectParams& direct, int device) {
  const MultiplyParams& p = direct.multiply;
  const MaskParams& mask = direct.mask_lhs;
  const auto address = reinterpret_cast<std::uintptr_t>(mask.data);
  return mask.data != nullptr && launch.schedule.total <= limits_of(device).sms && mask.col_stride == 1 &&
         mask.row_stride > 0 && mask.row_stride % 16 == 0 && address % 16 == 0 && mask.batches == 1 &&
         launch.schedule.splits == 1 && 1 << p.block_m == kBlock && 1 << p.block_k == kBlock && mask.rows <= 128 &&
         mask.columns % 32 == 0;
}

void launch_wave(const Launch& launch, SmallParams& params, int device, cudaStream_t stream) {
  const Kernel& kernel = launch.kernel;
  const Schedule& schedule = launch.schedule;
  allow_shared_bytes(kernel.function, kernel.stage_bytes, device);
  const dim3 grid(static_cast<unsigned>(schedule.tiles_m), static_cast<unsigned>(schedule.tiles_n),
                  static_cast<unsigned>(params.direct.multiply.batch_size * schedule.splits));
  void* arguments[] = {&params};
  check(cudaLaunchKernel(kernel.function, grid, dim3(static_cast<unsigned>(kernel.threads)), arguments,
                         static_cast<std::size_t>(kernel.stage_bytes), stream),
        kernel.name);
}

}  // namespace

void launch(const Launch& launch, const WorkspaceLayout& layout, std::byte* workspace, const MultiplyParams& multiply,
            int device, cudaStream_t stream) {
  HopperParams params{};
  params.multiply = multiply;
  const int cluster = launch.kernel.cluster;
  const auto map = [&](const Source& source, Box box) {
    return make_tensor_map(source, multiply.k, multiply.batch, box);
  };
  const bool b_runs = multiply.b.k_major || multiply.n % kBlock == 0;
  if (launch.kernel.block == 32) {
    constexpr int kTile = 192;
    params.a = map(multiply.a, {32, 32, 1});
    params.other = multiply.a.k_major ? map(multiply.a, {32, kTile, 1}) : params.a;
    params.b_whole = b_runs;
    if (launch.kernel.skips_pairs) {
      params.b_whole = multiply.b.k_major || multiply.n % 32 == 0;
      params.b = map(multiply.b, {32, 32, 1});
      if (params.b_whole)
        params.b_tile = map(multiply.b, multiply.b.k_major ? Box{32, kTile, 1} : Box{32, 32, kTile / 32});
    } else {
      params.b = map(multiply.b, multiply.b.k_major ? Box{32, kTile, 1} : Box{kBlock, 32, b_runs ? kTile / kBlock : 1});
    }
  } else {
    const bool by_block = launch.kernel.skips_pairs || launch.kernel.gathers;
    params.a = map(multiply.a, {kBlock, kBlock / cluster, 1});
    params.b_whole = !by_block && b_runs;
    const Box whole = multiply.b.k_major ? Box{kBlock, kColumns, 1} : Box{kBlock, kBlock, kColumnBlocks};
    params.b = map(multiply.b, params.b_whole ? whole : Box{kBlock, kBlock, 1});
  }
  if (multiply.x.data != nullptr) {
    const DotX& x = multiply.x;
    const bool by_rows = x.col_stride == 2;
    const Source source{x.data, x.row_stride, x.col_stride, multiply.m, x.batch, x.dtype, by_rows, true, true};
    params.other = make_tensor_map(source, multiply.n, multiply.batch, {kBlock, kBlock, 1});
    params.x_batch = steps_of(source, multiply.batch);
  }
  params.a_batch = steps_of(multiply.a, multiply.batch);
  params.b_batch = steps_of(multiply.b, multiply.batch);
  params.down = runs_down(multiply);
  params.tail = tail_of(launch);

  auto* counters = reinterpret_cast<unsigned*>(workspace + layout.counters);
  params.ticket_counter = counters + 3;
  if (launch.kernel.gathers) {
    params.gathered = {reinterpret_cast<GatheredTile*>(workspace + layout.gathered), counters, layout.gathered_capacity,
                       counters + 16};
    check(launch_gather(multiply, params.gathered, stream), "the launch that gathers columns");
  }
  const int shared = launch.stages * launch.kernel.stage_bytes;
  allow_shared_bytes(launch.kernel.function, shared, device);
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(launch.blocks));
  config.blockDim = dim3(static_cast<unsigned>(launch.kernel.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(shared);
  config.stream = stream;
  cudaLaunchAttribute attributes[2]{};
  config.attrs = attributes;
  if (cluster > 1) {
    cudaLaunchAttribute& attribute = attributes[config.numAttrs++];
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = static_cast<unsigned>(cluster);
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
  }
  const bool after_mask_pass = multiply.live_out.words || multiply.live_lhs.words || multiply.live_rhs.words;
  if (after_mask_pass) attributes[config.numAttrs++] = starts_early();
  void* arguments[] = {&params};
  check(cudaLaunchKernelExC(&config, launch.kernel.function, arguments), launch.kernel.name);
}

void launch_small(const Launch& launch, const sm80::DirectParams& direct, int device, cudaStream_t stream) {
  const MultiplyParams& multiply = direct.multiply;
  const auto map = [&](const Source& source) {
    return make_tensor_map(source, multiply.k, multiply.batch, {kBlock, kBlock, 1});
  };
  SmallParams params{direct,
                     map(multiply.a),
                     map(multiply.b),
                     steps_of(multiply.a, multiply.batch),
                     steps_of(multiply.b, multiply.batch),
                     sorts_rows(launch, direct, device),
                     runs_down(multiply)};
  if (launch.kernel.wave) return launch_wave(launch, params, device, stream);
  launch_kernel(launch.kernel.function, launch.blocks, launch.kernel.threads, launch.kernel.stage_bytes, &params,
                device, stream, launch.kernel.name);
}

}  // namespace maskmm::cuda::sm90
