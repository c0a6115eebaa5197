#include "cuda/operands.hpp"

#include <algorithm>
#include <cstdlib>

namespace maskmm::cuda {

using core::Canonical;
using core::Operand;

namespace {

bool is_multiple(std::int64_t value, std::int64_t of) { return value % of == 0; }

bool all_multiples(const Operand& operand, std::int64_t of) {
  const auto address = static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(operand.data));
  return is_multiple(address, of) && std::ranges::all_of(operand.batch_strides_bytes,
                                                         [of](std::int64_t stride) { return is_multiple(stride, of); });
}

BatchStrides batch_strides(const Operand& operand) {
  BatchStrides result{};
  std::ranges::copy(operand.batch_strides_bytes, result.bytes);
  return result;
}

}  // namespace

Source make_source(const Operand& operand, bool lines_are_rows, std::int64_t lines, std::int64_t k, Dtype element) {
  Source source{};
  source.data = operand.data;
  source.line_stride = lines_are_rows ? operand.row_stride_bytes : operand.col_stride_bytes;
  source.k_stride = lines_are_rows ? operand.col_stride_bytes : operand.row_stride_bytes;
  source.lines = lines;
  source.batch = batch_strides(operand);
  source.dtype = operand.dtype;
  const auto size = static_cast<std::int64_t>(size_of(element));
  source.native = operand.dtype == element && all_multiples(operand, size) && is_multiple(source.line_stride, size) &&
                  is_multiple(source.k_stride, size);
  // An axis of one element has no stride that matters.
  const bool k_runs = source.k_stride == size || k == 1, lines_run = source.line_stride == size || lines == 1;
  const bool aligned = source.native && all_multiples(operand, 16);
  const bool k_vectors = aligned && k_runs && (is_multiple(source.line_stride, 16) || lines == 1);
  const bool line_vectors = aligned && lines_run && (is_multiple(source.k_stride, 16) || k == 1);
  source.vectors = k_vectors || line_vectors;
  source.k_major = source.vectors ? k_vectors : std::abs(source.k_stride) <= std::abs(source.line_stride);
  return source;
}

Result make_result(const Canonical& canonical) {
  const Operand& out = canonical.out;
  const auto size = static_cast<std::int64_t>(size_of(out.dtype));
  Result result{};
  result.data = out.data;
  result.row_stride = out.row_stride_bytes;
  result.col_stride = out.col_stride_bytes;
  result.batch = batch_strides(out);
  result.dtype = out.dtype;
  result.vectors = (out.col_stride_bytes == size || canonical.n.extent == 1) && all_multiples(out, 16) &&
                   (is_multiple(out.row_stride_bytes, 16) || canonical.m.extent == 1);
  result.aligned =
      all_multiples(out, size) && is_multiple(out.row_stride_bytes, size) && is_multiple(out.col_stride_bytes, size);
  return result;
}

DotX make_x(const Canonical& canonical, Dtype element) {
  const Operand& x = canonical.x;
  DotX result{};
  if (!x.present()) return result;
  result.data = x.data;
  result.row_stride = x.row_stride_bytes;
  result.col_stride = x.col_stride_bytes;
  result.batch = batch_strides(x);
  result.dtype = x.dtype;
  const auto size = static_cast<std::int64_t>(size_of(x.dtype));
  const bool plain = (x.col_stride_bytes == size || canonical.n.extent == 1) && all_multiples(x, size) &&
                     is_multiple(x.row_stride_bytes, size);
  result.reading = plain && x.dtype == canonical.accumulate ? DotX::Reading::accumulator
                   : plain && x.dtype == element            ? DotX::Reading::element
                                                            : DotX::Reading::one_by_one;
  return result;
}

}  // namespace maskmm::cuda
