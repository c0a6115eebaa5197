#include "with_copies.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/backend.hpp"
#include "core/execute.hpp"
#include "maskmm/array.hpp"
#include "maskmm/error.hpp"
#include "without_gil.hpp"

namespace maskmm::python {
namespace {

/// The same elements in memory of a GPU, row-major but for the axes of stride zero.
class Copied {
 public:
  Copied(const View& view, Device device) : view_(view), storage_(without_repetition(view), device) {
    const View& stored = storage_.view();
    for (int axis = 0; axis < view.ndim(); ++axis) {
      if (view.strides_bytes[axis] != 0) view_.strides_bytes[axis] = stored.strides_bytes[axis];
    }
    view_.data = stored.data;
    view_.device = device;
  }
  const View& view() const { return view_; }

 private:
  static View without_repetition(View view) {
    for (int axis = 0; axis < view.ndim(); ++axis) {
      if (view.strides_bytes[axis] == 0) view.shape[axis] = std::min<std::int64_t>(view.shape[axis], 1);
    }
    return view;
  }

  View view_;
  array storage_;
};

/// The problem as if everything were on the GPU of the call's stream, with operands that are still on the host.
core::Problem problem_of(const Call& call) {
  const Stream& stream = call.stream().stream;
  const auto there = devices();
  if (std::ranges::find(there, stream.device) == there.end()) {
    throw device_error("stream: no " + to_string(stream.device) + " here, there are " +
                       std::to_string(there.size() - 1) + " GPU devices");
  }
  core::Problem problem = call.problem_on({});
  problem.stream = stream;
  return problem;
}

}  // namespace

bool is_on_gpu(const StreamOrDevice& stream) { return stream.given && stream.stream.device.type == DeviceType::gpu; }

nb::object execute_with_copies(const Call& call, nb::handle out) {
  core::Problem problem = problem_of(call);
  MutableView on_host;
  const nb::object result = empty_array(problem.result_shape, problem.result_dtype, on_host);
  without_gil([&] {
    const Device device = problem.stream.device;
    array on_gpu(problem.result_shape, problem.result_dtype, device);
    const Copied a(problem.a, device), b(problem.b, device);
    problem.a = a.view();
    problem.b = b.view();
    std::optional<Copied> x;
    if (problem.is_dot) problem.x = x.emplace(problem.x, device).view();
    synchronize(Stream{device});  // the memory was allocated in the order of that stream
    core::execute(problem, on_gpu.mutable_view());
    synchronize(problem.stream);
    const auto bytes = static_cast<std::size_t>(on_gpu.size()) * size_of(on_gpu.dtype());
    if (bytes > 0) cuda::copy(const_cast<void*>(on_host.data), Device::cpu, on_gpu.view().data, device, bytes);
  });
  if (out.is_none()) return result;
  nb::module_::import_("numpy").attr("copyto")(nb::module_::import_("numpy").attr("asarray")(out), result);
  return nb::borrow(out);
}

Explanation explain_with_copies(const Call& call) {
  core::Problem problem = problem_of(call);
  // Only the masks are read; what matters of the copies is that they will be aligned.
  for (View* const operand : {&problem.a, &problem.b}) {
    View stand_in(reinterpret_cast<const void*>(std::uintptr_t{4096}), operand->dtype, operand->shape,
                  problem.stream.device);
    for (int axis = 0; axis < operand->ndim(); ++axis) {
      if (operand->strides_bytes[axis] == 0) stand_in.strides_bytes[axis] = 0;
    }
    *operand = stand_in;
  }
  problem.out.reset();
  Explanation explanation;
  without_gil([&] { explanation = core::explain(problem); });
  return explanation;
}

}  // namespace maskmm::python
