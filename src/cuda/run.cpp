// One call on a GPU: choose -> workspace -> masks -> kernel -> sums of a split k. Everything is enqueued on the stream.
#include <cuda_runtime_api.h>

#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "core/backend.hpp"
#include "cuda/check.hpp"
#include "cuda/choose.hpp"
#include "cuda/launch.hpp"
#include "cuda/live.hpp"
#include "cuda/plan.hpp"
#include "cuda/sm90/launch.hpp"
#include "cuda/trace.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

using core::Canonical;
using core::Operand;

/// A mask as rows of bits along its `columns`: mask_rhs with its axes exchanged.
struct MaskRows {
  const char* name;
  const Operand* operand;
  std::int64_t rows, columns;
  bool transposed;

  std::int64_t row_stride() const { return transposed ? operand->col_stride_bytes : operand->row_stride_bytes; }
  std::int64_t column_stride() const { return transposed ? operand->row_stride_bytes : operand->col_stride_bytes; }
  std::int64_t batches(const Canonical& canonical) const { return operand->batched() ? canonical.batch_size : 1; }
  std::int64_t elements(const Canonical& canonical) const { return batches(canonical) * rows * columns; }
  bool on_host() const { return operand->present() && operand->device.type == DeviceType::cpu; }
};

bool is_capturing(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "cudaStreamIsCapturing");
  return status != cudaStreamCaptureStatusNone;
}

/// A mask that lies on the host, packed and copied in the order of the stream; none at all for one on the device.
Workspace copy_of_host_mask(const Canonical& canonical, const MaskRows& mask, cudaStream_t stream) {
  if (!mask.on_host()) return Workspace(0, canonical.device.index, stream);
  if (is_capturing(stream)) {
    throw device_error(std::string(mask.name) + ": expected an array on " + to_string(canonical.device) +
                       " while the stream is being captured, got one on " + to_string(mask.operand->device));
  }
  const std::size_t size = size_of(mask.operand->dtype);
  std::vector<std::byte> packed(static_cast<std::size_t>(mask.elements(canonical)) * size);
  std::byte* to = packed.data();
  for (std::int64_t batch = 0; batch < mask.batches(canonical); ++batch) {
    const std::byte* matrix = core::batch_data(*mask.operand, canonical.batch, batch);
    for (std::int64_t row = 0; row < mask.rows; ++row) {
      for (std::int64_t column = 0; column < mask.columns; ++column, to += size) {
        std::memcpy(to, matrix + row * mask.row_stride() + column * mask.column_stride(), size);
      }
    }
  }
  Workspace copy(packed.size(), canonical.device.index, stream);
  if (!packed.empty()) {  // from pageable memory: the bytes are taken before the call returns
    check(cudaMemcpyAsync(copy.data(), packed.data(), packed.size(), cudaMemcpyHostToDevice, stream),
          "cudaMemcpyAsync");
  }
  return copy;
}

/// The masks of a call, ready for the kernels.
class LiveMasks {
 public:
  /// `pack`: into bit rows and scales, by the mask pass.
  LiveMasks(const Canonical& canonical, const Choice& choice, bool pack, std::byte* workspace, int sms,
            cudaStream_t stream)
      : canonical_(canonical),
        out_{"mask_out", &canonical.mask_out, canonical.m.count(), canonical.n.count(), false},
        lhs_{canonical.swapped ? "mask_rhs" : "mask_lhs", &canonical.mask_lhs, canonical.m.count(), canonical.k.count(),
             false},
        rhs_{canonical.swapped ? "mask_lhs" : "mask_rhs", &canonical.mask_rhs, canonical.n.count(), canonical.k.count(),
             true},
        copies_{copy_of_host_mask(canonical, out_, stream), copy_of_host_mask(canonical, lhs_, stream),
                copy_of_host_mask(canonical, rhs_, stream)} {
    const WorkspaceLayout& layout = choice.workspace;
    if (choice.scaling.kernel.function) {
      scaled_ = reinterpret_cast<unsigned*>(workspace + layout.scaled);
      check(cudaMemsetAsync(scaled_, 0, sizeof *scaled_, stream), "cudaMemsetAsync");
    }
    LiveParams& params = raw_;
    params.batch = batch_shape(canonical);
    params.masks[0] = prepare(out_, copies_[0], workspace + layout.words_out, workspace + layout.scales_out, false);
    params.masks[1] = prepare(lhs_, copies_[1], workspace + layout.words_lhs, workspace + layout.scales_lhs, true);
    params.masks[2] = prepare(rhs_, copies_[2], workspace + layout.words_rhs, workspace + layout.scales_rhs, true);
    if (!pack) return;
    Counters counters;
    if (choice.choosing.kernel.cluster > 0 && !choice.reads_masks()) {
      counters = {reinterpret_cast<unsigned*>(workspace + layout.counters), kCounters};
    } else if (choice.plans) {
      counters = {reinterpret_cast<unsigned*>(workspace + layout.plan), sizeof(PlanHeader) / sizeof(unsigned)};
    }
    check(launch_live(params, counters, canonical.accumulate, sms, stream), "the launch of the mask pass");
    for (int i = 0; i < 3; ++i) {
      const MaskParams& mask = params.masks[i];
      if (!mask.data) continue;
      const std::int64_t batch_step = mask.batches > 1 ? mask.rows : 0;
      bits_[i] = {mask.words, mask.words_per_row, batch_step * mask.words_per_row};
      scales_[i] = {mask.scales, mask.columns, batch_step * mask.columns};
    }
  }

  void give(MultiplyParams& params) const {
    params.live_out = bits_[0], params.live_lhs = bits_[1], params.live_rhs = bits_[2];
    params.scale_out = scales_[0], params.scale_lhs = scales_[1], params.scale_rhs = scales_[2];
    params.scaled = scaled_;
  }

  /// The masks as they are, on the device.
  const LiveParams& raw() const { return raw_; }

  static BatchShape batch_shape(const Canonical& canonical) {
    BatchShape shape{};
    shape.rank = canonical.batch.size();
    for (int axis = 0; axis < shape.rank; ++axis) shape.size[axis] = canonical.batch[axis];
    return shape;
  }

 private:
  MaskParams prepare(const MaskRows& mask, const Workspace& copy, std::byte* words, std::byte* scales,
                     bool tells_scaled) const {
    MaskParams params{};
    if (!mask.operand->present()) return params;
    params.dtype = mask.operand->dtype;
    params.rows = mask.rows, params.columns = mask.columns;
    params.words_per_row = core::ceil_div(mask.columns, 64);
    params.batches = mask.batches(canonical_);
    params.words = reinterpret_cast<std::uint64_t*>(words);
    params.scales = params.dtype == Dtype::bool_ ? nullptr : scales;
    params.scaled = tells_scaled ? scaled_ : nullptr;
    if (mask.on_host()) {
      const auto size = static_cast<std::int64_t>(size_of(params.dtype));
      params.data = copy.data();
      params.row_stride = mask.columns * size, params.col_stride = size;
      std::int64_t stride = mask.rows * mask.columns * size;
      for (int axis = canonical_.batch.size() - 1; axis >= 0; --axis) {
        params.batch.bytes[axis] = stride;
        stride *= canonical_.batch[axis];
      }
    } else {
      params.data = mask.operand->data;
      params.row_stride = mask.row_stride(), params.col_stride = mask.column_stride();
      for (int axis = 0; axis < mask.operand->batch_strides_bytes.size(); ++axis) {
        params.batch.bytes[axis] = mask.operand->batch_strides_bytes[axis];
      }
    }
    return params;
  }

  const Canonical& canonical_;
  MaskRows out_, lhs_, rhs_;
  Workspace copies_[3];
  unsigned* scaled_ = nullptr;
  LiveParams raw_{};
  BitRows bits_[3]{};
  Scales scales_[3]{};
};

int log2_of(std::int64_t block) { return __builtin_ctzll(static_cast<unsigned long long>(block)); }

MultiplyParams make_params(const Canonical& canonical, const Choice& choice, const LiveMasks& masks,
                           std::byte* workspace) {
  MultiplyParams params{};
  params.m = canonical.m.extent, params.n = canonical.n.extent, params.k = canonical.k.extent;
  params.k_blocks = canonical.k.count();
  params.block_m = log2_of(canonical.m.block);
  params.block_n = log2_of(canonical.n.block);
  params.block_k = log2_of(canonical.k.block);
  params.a = choice.a, params.b = choice.b, params.out = choice.out, params.x = choice.x;
  params.batch = LiveMasks::batch_shape(canonical);
  params.batch_size = canonical.batch_size;
  masks.give(params);
  if (choice.choosing.schedule.splits > 1 || params.x.data) params.partial = workspace + choice.workspace.partial;
  return params;
}

const Launch* launch_of(const Choice& choice, int candidate) {
  return candidate == 0 ? &choice.choosing : candidate == 1 ? &choice.small : &choice.scaling;
}

/// Where the plan keeps what it says of a candidate.
TileList list_of(const Choice& choice, int candidate, std::byte* workspace) {
  if (!choice.plans) return {};
  auto* header = reinterpret_cast<PlanHeader*>(workspace + choice.workspace.plan);
  return {reinterpret_cast<const unsigned*>(workspace + choice.workspace.tiles[candidate]), header->counts[candidate]};
}

void plan(const Choice& choice, const MultiplyParams& params, std::byte* workspace, int sms, cudaStream_t stream,
          Start how) {
  auto* header = reinterpret_cast<PlanHeader*>(workspace + choice.workspace.plan);
  PlanParams plan{};
  plan.m = params.m, plan.n = params.n, plan.k_blocks = params.k_blocks, plan.batch_size = params.batch_size;
  plan.block_m = params.block_m, plan.block_n = params.block_n;
  plan.live_out = params.live_out, plan.live_lhs = params.live_lhs, plan.live_rhs = params.live_rhs;
  plan.scaled = params.scaled;
  plan.finished = &header->finished;
  for (int i = 0; i < kCandidates; ++i) {
    const Launch& launch = *launch_of(choice, i);
    if (!launch.kernel.function) continue;
    Candidate& candidate = plan.candidates[i];
    candidate.schedule = launch.schedule;
    candidate.rows = launch.kernel.rows, candidate.columns = launch.kernel.columns;
    candidate.busy_cost = launch.kernel.busy_cost, candidate.idle_cost = launch.kernel.idle_cost;
    candidate.sorts = launch.kernel.sorts;
    candidate.cost = &header->cost[i];
    candidate.weights = reinterpret_cast<unsigned*>(workspace + choice.workspace.weights[i]);
    candidate.tiles = reinterpret_cast<unsigned*>(workspace + choice.workspace.tiles[i]);
    candidate.counts = header->counts[i];
  }
  check(launch_plan(plan, sms, stream, how), "the launch of the plan");
}

void launch(const Launch& launch, const WorkspaceLayout& layout, std::byte* workspace, MultiplyParams params,
            const TileList& list, int device, cudaStream_t stream, Start how) {
  params.list = list;
  params.schedule = launch.schedule;
  params.stages = launch.stages;
  if (launch.kernel.cluster > 0) return sm90::launch(launch, layout, workspace, params, device, stream);
  launch_kernel(launch.kernel.function, launch.blocks, launch.kernel.threads, launch.stages * launch.kernel.stage_bytes,
                &params, device, stream, launch.kernel.name, how);
}

void launch_few_rows(const Choice& choice, const MultiplyParams& params, const LiveMasks& masks, int device,
                     cudaStream_t stream) {
  sm80::FewRowsParams few{};
  few.m = params.m, few.n = params.n, few.k = params.k, few.k_blocks = params.k_blocks;
  few.block_m = params.block_m, few.block_n = params.block_n, few.block_k = params.block_k;
  few.a = params.a, few.b = params.b, few.out = params.out;
  few.batch = params.batch, few.batch_size = params.batch_size;
  few.mask_out = masks.raw().masks[0], few.mask_lhs = masks.raw().masks[1], few.mask_rhs = masks.raw().masks[2];
  few.partial = static_cast<float*>(params.partial);
  few.schedule = choice.choosing.schedule;
  launch_kernel(choice.few_rows.function, choice.choosing.blocks, choice.few_rows.threads, choice.few_rows.shared_bytes,
                &few, device, stream, choice.few_rows.name);
}

void launch_direct(const Choice& choice, const MultiplyParams& params, const LiveMasks& masks, int device,
                   cudaStream_t stream) {
  sm80::DirectParams direct{};
  direct.multiply = params;
  direct.multiply.schedule = choice.choosing.schedule;
  direct.mask_out = masks.raw().masks[0], direct.mask_lhs = masks.raw().masks[1];
  direct.mask_rhs = masks.raw().masks[2];
  const Launch& launch = choice.choosing;
  if (launch.kernel.cluster > 0) return sm90::launch_small(launch, direct, device, stream);
  launch_kernel(launch.kernel.function, launch.blocks, launch.kernel.threads, launch.kernel.stage_bytes, &direct,
                device, stream, launch.kernel.name);
}

void reduce_squares(const Canonical& canonical, const MultiplyParams& params, std::int64_t splits, int sms,
                    cudaStream_t stream, Start how) {
  ReduceSquaresParams reduce{};
  reduce.m = params.m, reduce.n = params.n, reduce.batch_size = params.batch_size;
  reduce.splits = splits;
  reduce.block_m = params.block_m, reduce.block_n = params.block_n;
  reduce.squares = params.partial;
  reduce.out = params.out;
  reduce.batch = params.batch;
  reduce.scale_out = params.scale_out;
  check(launch_reduce_squares(reduce, canonical.accumulate, sms, stream, how), "the launch of the sum over blocks");
}

/// Calls `call` with every slice of the batch that has at most kBatchAxes axes: the last ones.
template <class Call>
void for_each_slice(const Canonical& given, Call call) {
  const int outer_axes = given.batch.size() - kBatchAxes;
  if (outer_axes <= 0) return call(given);
  const auto split = static_cast<std::size_t>(outer_axes);
  const std::span<const std::int64_t> sizes = given.batch;
  const Dims outer(sizes.first(split));
  Canonical slice = given;
  slice.batch = Dims(sizes.subspan(split));
  slice.batch_size = 1;
  for (const std::int64_t size : slice.batch) slice.batch_size *= size;
  for (std::int64_t index = 0; index < given.batch_size / slice.batch_size; ++index) {
    for (const auto operand : {&Canonical::a, &Canonical::b, &Canonical::out, &Canonical::x, &Canonical::mask_out,
                               &Canonical::mask_lhs, &Canonical::mask_rhs}) {
      const Operand& whole = given.*operand;
      if (!whole.present()) continue;
      const std::span<const std::int64_t> strides = whole.batch_strides_bytes;
      (slice.*operand).data = core::batch_data(whole, outer, index);
      (slice.*operand).batch_strides_bytes = Dims(strides.subspan(split));
    }
    call(slice);
  }
}

void run_slice(const Canonical& given, const Stream& stream, core::ScratchSource* scratch) {
  const DeviceLimits limits = limits_of(given.device.index);
  const Canonical canonical = orient(given, limits);
  const Choice choice = choose(canonical, limits);
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  const Workspace workspace(static_cast<std::size_t>(choice.workspace.bytes), canonical.device.index, handle, scratch);
  const LiveMasks masks(canonical, choice, !choice.reads_masks(), workspace.data(), limits.sms, handle);
  const MultiplyParams params = make_params(canonical, choice, masks, workspace.data());
  // Between kernels of this call. The first waits for whatever is in front.
  const Start next = limits.capability == 90 && limits.hopper_code ? Start::early : Start::in_order;
  const bool mask_pass = params.live_out.words || params.live_lhs.words || params.live_rhs.words;
  if (choice.plans) plan(choice, params, workspace.data(), limits.sms, handle, next);
  if (choice.few_rows.function) launch_few_rows(choice, params, masks, given.device.index, handle);
  if (choice.direct) launch_direct(choice, params, masks, given.device.index, handle);
  for (int i = 0; i < kCandidates && !choice.direct; ++i) {
    if (!launch_of(choice, i)->kernel.function) continue;
    launch(*launch_of(choice, i), choice.workspace, workspace.data(), params, list_of(choice, i, workspace.data()),
           given.device.index, handle, mask_pass ? next : Start::in_order);
  }
  if (params.x.data) {
    reduce_squares(canonical, params, choice.choosing.schedule.splits, limits.sms, handle, next);
  } else if (params.partial) {
    ReduceParams reduce{};
    reduce.m = params.m, reduce.n = params.n, reduce.batch_size = params.batch_size;
    reduce.splits = choice.choosing.schedule.splits;
    reduce.block_m = params.block_m, reduce.block_n = params.block_n;
    reduce.partial = params.partial;
    reduce.out = params.out;
    reduce.batch = params.batch;
    reduce.scale_out = params.scale_out;
    const MaskParams dropped = choice.choosing.kernel.wave ? masks.raw().masks[0] : MaskParams{};
    check(launch_reduce(reduce, dropped, canonical.accumulate, limits.sms, handle, next),
          "the launch of the sum over parts of k");
  }
}

Explanation explain_slice(const Canonical& given, const Stream& stream) {
  const DeviceLimits limits = limits_of(given.device.index);
  const Canonical canonical = orient(given, limits);
  Choice choice = choose(canonical, limits);
  const std::int64_t workspace_bytes = choice.workspace.bytes;
  if (choice.reads_masks()) choice.workspace = make_workspace(canonical, choice, true);  // bits, to count them
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  if (is_capturing(handle))
    throw device_error("explain: reads the masks, which cannot be while the stream is captured");
  const Workspace workspace(static_cast<std::size_t>(choice.workspace.bytes), canonical.device.index, handle);
  const LiveMasks masks(canonical, choice, true, workspace.data(), limits.sms, handle);
  const MultiplyParams params = make_params(canonical, choice, masks, workspace.data());

  struct {
    unsigned long long live = 0;
    unsigned scaled = 0;
  } found;
  const Workspace count(sizeof found.live, canonical.device.index, handle);
  auto* live = reinterpret_cast<unsigned long long*>(count.data());
  check(cudaMemsetAsync(live, 0, sizeof *live, handle), "cudaMemsetAsync");
  check(launch_count(params, live, limits.sms, handle), "the launch of the count");
  check(cudaMemcpyAsync(&found.live, live, sizeof *live, cudaMemcpyDeviceToHost, handle), "cudaMemcpyAsync");
  if (params.scaled) {
    check(cudaMemcpyAsync(&found.scaled, params.scaled, sizeof found.scaled, cudaMemcpyDeviceToHost, handle),
          "cudaMemcpyAsync");
  }
  check(cudaStreamSynchronize(handle), "cudaStreamSynchronize");

  const Launch& used = found.scaled ? choice.scaling : choice.choosing;
  Explanation result;
  result.device = canonical.device;
  result.kernel = used.kernel.name;
  result.isa = "sm_" + std::to_string(limits.capability);
  result.reason = choice.reason;
  result.threads = static_cast<int>(used.blocks) * used.kernel.threads;
  const double triples = static_cast<double>(canonical.batch_size) * static_cast<double>(canonical.m.count()) *
                         static_cast<double>(canonical.n.count()) * static_cast<double>(canonical.k.count());
  result.live_fraction = triples > 0 ? static_cast<double>(found.live) / triples : 0;
  result.workspace_bytes = workspace_bytes;
  return result;
}

}  // namespace

void run(const Canonical& given, const Stream& stream, core::ScratchSource* scratch) {
  const TraceRange range(given.x.present() ? "maskmm.block_masked_dot" : "maskmm.block_masked_mm");
  const DeviceScope scope(given.device.index);
  for_each_slice(given, [&](const Canonical& slice) { run_slice(slice, stream, scratch); });
}

Explanation explain(const Canonical& given, const Stream& stream) {
  const DeviceScope scope(given.device.index);
  Explanation result;
  double live = 0, slices = 0;
  for_each_slice(given, [&](const Canonical& slice) {
    result = explain_slice(slice, stream);
    live += result.live_fraction, ++slices;
  });
  result.live_fraction = live / slices;
  return result;
}

}  // namespace maskmm::cuda
