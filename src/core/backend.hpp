// What a back end offers. src/cpu, src/cuda and, where CUDA is not built, src/no_cuda define these.
#pragma once

#include <cstddef>
#include <memory>

#include "core/canonical.hpp"
#include "core/scratch_source.hpp"

namespace maskmm::cpu {

/// Finished on return. M, N and batch_size are at least 1; K may be 0.
void run(const core::Canonical& canonical);
Explanation explain(const core::Canonical& canonical);
/// to = the sums of `from` over the axes in which `to` has size 1, in a fixed order, in float32 (float64 for float64),
/// rounded once. Floating types, row-major, as many axes in both.
void sum_axes(const View& from, const MutableView& to);

}  // namespace maskmm::cpu

namespace maskmm::cuda {

/// 0 where there is no driver or no device; never throws.
int device_count();
/// Enqueues on the stream; M, N and batch_size are at least 1; K may be 0. `scratch`: as in core::execute.
void run(const core::Canonical& canonical, const Stream& stream, core::ScratchSource* scratch);
Explanation explain(const core::Canonical& canonical, const Stream& stream);
/// As cpu::sum_axes, enqueued on the stream.
void sum_axes(const View& from, const MutableView& to, const Stream& stream);

Stream new_stream(Device device);
void synchronize(const Stream& stream);
/// Memory that is allocated and freed in the order of the stream. Throws std::bad_alloc.
std::shared_ptr<void> allocate(std::size_t bytes, const Stream& stream);
/// Between host and device, or within a device; finished on return.
void copy(void* to, Device to_device, const void* from, Device from_device, std::size_t bytes);

}  // namespace maskmm::cuda
