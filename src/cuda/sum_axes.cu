// Sums over axes, and conversions, for gradients: a thread for each element of the result.
#include <algorithm>

#include "core/backend.hpp"
#include "core/mask_value.hpp"
#include "cuda/check.hpp"
#include "cuda/epilogue.cuh"

namespace maskmm::cuda {
namespace {

constexpr int kThreads = 256;

struct SumAxesParams {
  const std::byte* from;
  std::byte* to;
  Dtype from_dtype;
  std::int64_t count;  // of the result, which is row-major
  std::int64_t parts;  // that each element is summed of
  ShapeOf<kMaxDims> kept, summed;
  StridesOf<kMaxDims> kept_strides, summed_strides;
};

template <class Element, class Accumulator>
__global__ void __launch_bounds__(kThreads) sum_axes_kernel(const __grid_constant__ SumAxesParams params) {
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < params.count; i += step) {
    const std::byte* const from = params.from + batch_offset(params.kept, params.kept_strides, i);
    Accumulator sum = 0;
    for (std::int64_t part = 0; part < params.parts; ++part) {
      sum += core::element_as<Accumulator>(from + batch_offset(params.summed, params.summed_strides, part),
                                           params.from_dtype);
    }
    Element element;
    convert(sum, element);
    reinterpret_cast<Element*>(params.to)[i] = element;
  }
}

template <class Element, class Accumulator>
void launch(SumAxesParams params, cudaStream_t stream) {
  const std::int64_t blocks = std::min<std::int64_t>((params.count + kThreads - 1) / kThreads, 4096);
  void* arguments[] = {&params};
  check(cudaLaunchKernel(reinterpret_cast<const void*>(&sum_axes_kernel<Element, Accumulator>),
                         dim3(static_cast<unsigned>(blocks)), dim3(kThreads), arguments, 0, stream),
        "the launch of the sum over axes");
}

void add_axis(ShapeOf<kMaxDims>& shape, StridesOf<kMaxDims>& strides, std::int64_t size, std::int64_t stride) {
  shape.size[shape.rank] = size;
  strides.bytes[shape.rank++] = stride;
}

}  // namespace

void sum_axes(const View& from, const MutableView& to, const Stream& stream) {
  SumAxesParams params{};
  params.from = static_cast<const std::byte*>(from.data);
  params.to = static_cast<std::byte*>(const_cast<void*>(to.data));
  params.from_dtype = from.dtype;
  params.count = params.parts = 1;
  for (int axis = 0; axis < from.ndim(); ++axis) {
    params.count *= to.shape[axis];
    if (to.shape[axis] == from.shape[axis]) {
      add_axis(params.kept, params.kept_strides, from.shape[axis], from.strides_bytes[axis]);
    } else {
      add_axis(params.summed, params.summed_strides, from.shape[axis], from.strides_bytes[axis]);
      params.parts *= from.shape[axis];
    }
  }
  if (params.count == 0) return;
  const DeviceScope scope(stream.device.index);
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  const bool wide = from.dtype == Dtype::float64 || to.dtype == Dtype::float64;
  switch (to.dtype) {
    case Dtype::float16:
      return wide ? launch<__half, double>(params, handle) : launch<__half, float>(params, handle);
    case Dtype::bfloat16:
      return wide ? launch<__nv_bfloat16, double>(params, handle) : launch<__nv_bfloat16, float>(params, handle);
    case Dtype::float32:
      return wide ? launch<float, double>(params, handle) : launch<float, float>(params, handle);
    default:
      return launch<double, double>(params, handle);
  }
}

}  // namespace maskmm::cuda
