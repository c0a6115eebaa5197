#include "core/canonical.hpp"

#include <utility>

#include "core/promote.hpp"

namespace maskmm::core {
namespace {

Operand make_operand(const View& view) {
  Operand operand;
  operand.data = static_cast<std::byte*>(const_cast<void*>(view.data));
  operand.dtype = view.dtype;
  operand.device = view.device;
  if (view.ndim() < 2) return operand;  // an absent mask
  const int batch_axes = view.ndim() - 2;
  operand.row_stride_bytes = view.strides_bytes[batch_axes];
  operand.col_stride_bytes = view.strides_bytes[batch_axes + 1];
  operand.batch_strides_bytes =
      Dims(std::span<const std::int64_t>(view.strides_bytes).first(static_cast<std::size_t>(batch_axes)));
  return operand;
}

/// The result's view with the axes that 1-D operands dropped.
View with_dropped_axes(const Problem& problem, const MutableView& result) {
  const int batch_axes = problem.batch.size();
  View full = result;
  full.shape = problem.batch;
  full.strides_bytes =
      Dims(std::span<const std::int64_t>(result.strides_bytes).first(static_cast<std::size_t>(batch_axes)));
  int next = batch_axes;
  const bool has_rows = problem.result_has_rows, has_cols = problem.result_has_cols;
  full.shape.push_back(problem.M);
  full.strides_bytes.push_back(has_rows ? result.strides_bytes[next++] : 0);
  full.shape.push_back(problem.N);
  full.strides_bytes.push_back(has_cols ? result.strides_bytes[next] : 0);
  return full;
}

struct Operands {
  Operand* items[7];
  int count = 0;
};

/// Axes of size 1 go; neighbours that all operands walk as one become one.
void collapse_batch(Dims& batch, const Operands& operands) {
  int kept = 0;  // axes done, in front
  for (int axis = 0; axis < batch.size(); ++axis) {
    if (batch[axis] == 1) continue;
    bool joins = kept > 0;
    for (int i = 0; joins && i < operands.count; ++i) {
      const Dims& strides = operands.items[i]->batch_strides_bytes;
      joins = strides[kept - 1] == strides[axis] * batch[axis];
    }
    if (joins) {
      batch[kept - 1] *= batch[axis];
    } else {
      batch[kept++] = batch[axis];
    }
    for (int i = 0; i < operands.count; ++i) {
      Dims& strides = operands.items[i]->batch_strides_bytes;
      strides[kept - 1] = strides[axis];
    }
  }
  batch.resize(kept);
  for (int i = 0; i < operands.count; ++i) operands.items[i]->batch_strides_bytes.resize(kept);
}

void transpose(Operand& operand) { std::swap(operand.row_stride_bytes, operand.col_stride_bytes); }

}  // namespace

bool Operand::batched() const {
  for (const std::int64_t stride : batch_strides_bytes) {
    if (stride != 0) return true;
  }
  return false;
}

void swap_roles(Canonical& canonical) {
  std::swap(canonical.m, canonical.n);
  std::swap(canonical.a, canonical.b);
  std::swap(canonical.mask_lhs, canonical.mask_rhs);
  for (Operand* operand : {&canonical.a, &canonical.b, &canonical.out, &canonical.x, &canonical.mask_out,
                           &canonical.mask_lhs, &canonical.mask_rhs}) {
    transpose(*operand);
  }
  canonical.swapped = !canonical.swapped;
}

Canonical canonicalize(const Problem& problem, const MutableView& result) {
  Canonical canonical;
  canonical.m = {problem.M, problem.block_size.m};
  canonical.n = {problem.N, problem.block_size.n};
  canonical.k = {problem.K, problem.block_size.k};
  canonical.batch = problem.batch;
  canonical.a = make_operand(problem.a);
  canonical.b = make_operand(problem.b);
  canonical.out = make_operand(with_dropped_axes(problem, result));
  canonical.mask_out = make_operand(problem.mask_out);
  canonical.mask_lhs = make_operand(problem.mask_lhs);
  canonical.mask_rhs = make_operand(problem.mask_rhs);
  canonical.x = make_operand(problem.x);
  canonical.promoted = problem.operand_dtype;
  canonical.accumulate = problem.accumulate_dtype;
  canonical.precision = problem.precision;
  canonical.device = problem.stream.device;

  Operands operands;
  for (Operand* operand : {&canonical.a, &canonical.b, &canonical.out, &canonical.x, &canonical.mask_out,
                           &canonical.mask_lhs, &canonical.mask_rhs}) {
    if (!operand->batch_strides_bytes.empty()) operands.items[operands.count++] = operand;
  }
  collapse_batch(canonical.batch, operands);
  for (const std::int64_t size : canonical.batch) canonical.batch_size *= size;

  const Operand& walked = problem.is_dot ? canonical.x : canonical.out;
  const std::int64_t item = static_cast<std::int64_t>(size_of(walked.dtype));
  if (canonical.n.extent > 1 && walked.col_stride_bytes != item && walked.row_stride_bytes == item) {
    swap_roles(canonical);
  }
  return canonical;
}

std::byte* batch_data(const Operand& operand, const Dims& batch, std::int64_t index) {
  std::byte* data = operand.data;
  for (int axis = batch.size() - 1; axis >= 0 && index != 0; --axis) {
    data += index % batch[axis] * operand.batch_strides_bytes[axis];
    index /= batch[axis];
  }
  return data;
}

}  // namespace maskmm::core
