// Random problems for the CPU back end, and the triple loop over live blocks in float64 that judges the results.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "core/canonical.hpp"
#include "core/mask_value.hpp"
#include "core/problem.hpp"
#include "maskmm/maskmm.hpp"

namespace maskmm::test {

using Random = std::mt19937_64;

inline std::int64_t pick(Random& random, std::initializer_list<std::int64_t> from) {
  return from.begin()[random() % from.size()];
}

/// Elements with strides of their own inside a buffer, of which they are a part.
struct Strided {
  std::vector<std::byte> memory;
  View view;
};

inline void store(std::byte* to, Dtype dtype, double value) {
  const auto put = [&](auto stored) { std::memcpy(to, &stored, sizeof stored); };
  switch (dtype) {
    case Dtype::bool_:
      return put(static_cast<std::uint8_t>(value != 0 ? 1 + static_cast<int>(std::fabs(value)) % 250 : 0));
    case Dtype::uint8:
      return put(static_cast<std::uint8_t>(std::fabs(value)));
    case Dtype::int8:
      return put(static_cast<std::int8_t>(value));
    case Dtype::uint16:
      return put(static_cast<std::uint16_t>(std::fabs(value)));
    case Dtype::int16:
      return put(static_cast<std::int16_t>(value));
    case Dtype::uint32:
      return put(static_cast<std::uint32_t>(std::fabs(value)));
    case Dtype::int32:
      return put(static_cast<std::int32_t>(value));
    case Dtype::uint64:
      return put(static_cast<std::uint64_t>(std::fabs(value)));
    case Dtype::int64:
      return put(static_cast<std::int64_t>(value));
    case Dtype::float16:
      return put(float16_t(static_cast<float>(value)));
    case Dtype::bfloat16:
      return put(bfloat16_t(static_cast<float>(value)));
    case Dtype::float32:
      return put(static_cast<float>(value));
    default:
      return put(value);
  }
}

inline std::byte* element(const View& view, const std::vector<std::int64_t>& index) {
  std::byte* address = static_cast<std::byte*>(const_cast<void*>(view.data));
  for (int axis = 0; axis < view.ndim(); ++axis)
    address += index[static_cast<std::size_t>(axis)] * view.strides_bytes[axis];
  return address;
}

template <class F>
void for_each_index(const Dims& shape, F f) {
  std::vector<std::int64_t> index(static_cast<std::size_t>(shape.size()), 0);
  for (int axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 0) return;
  }
  while (true) {
    f(index);
    int axis = shape.size() - 1;
    for (; axis >= 0; --axis) {
      if (++index[static_cast<std::size_t>(axis)] < shape[axis]) break;
      index[static_cast<std::size_t>(axis)] = 0;
    }
    if (axis < 0) return;
  }
}

/// Memory for `shape`, with a random order of axes, gaps, signs and alignment. `plain`: contiguous instead.
inline Strided make_strided(Random& random, const Dims& shape, Dtype dtype, bool plain, bool broadcast = false) {
  Strided result;
  const std::int64_t size = static_cast<std::int64_t>(size_of(dtype));
  result.view = View(nullptr, dtype, shape);
  std::vector<int> order;
  for (int axis = shape.size() - 1; axis >= 0; --axis) order.push_back(axis);
  if (!plain) {
    if (random() % 2 && order.size() >= 2) std::swap(order[0], order[1]);
    if (random() % 4 == 0) std::shuffle(order.begin(), order.end(), random);
  }
  std::int64_t stride = plain || random() % 3 ? size : size * 2 + static_cast<std::int64_t>(random() % 2);
  std::int64_t offset = plain || random() % 4 ? 0 : 1;
  for (const int axis : order) {
    if (broadcast && random() % 6 == 0) {
      result.view.strides_bytes[axis] = 0;
      continue;
    }
    const std::int64_t extent = std::max<std::int64_t>(shape[axis], 1);
    const bool reversed = !plain && random() % 5 == 0;
    result.view.strides_bytes[axis] = reversed ? -stride : stride;
    if (reversed) offset += stride * (extent - 1);
    stride *= extent;
    if (!plain && random() % 3 == 0) stride += size * static_cast<std::int64_t>(random() % 5);
  }
  result.memory.assign(static_cast<std::size_t>(stride + size + 1), std::byte{0xff});
  result.view.data = result.memory.data() + offset;
  return result;
}

inline void fill(Random& random, const Strided& operand) {
  std::normal_distribution<double> normal;
  const double spread = is_floating(operand.view.dtype) ? 1 : 20;
  for_each_index(operand.view.shape, [&](const auto& index) {
    store(element(operand.view, index), operand.view.dtype, spread * normal(random));
  });
}

struct Case {
  BlockSize block_size = 64;
  Strided a, b, out;
  std::optional<Strided> mask_out, mask_lhs, mask_rhs;

  core::Problem problem() const {
    const auto view = [](const std::optional<Strided>& mask) {
      return mask ? std::optional<View>(mask->view) : std::nullopt;
    };
    const std::optional<View> out_mask = view(mask_out), lhs = view(mask_lhs), rhs = view(mask_rhs);
    const std::optional<MutableView> no_out;
    return core::make_problem({a.view, b.view, block_size, out_mask, lhs, rhs, {}, no_out, Precision::ieee});
  }
  MutableView result() {
    return MutableView(out.memory.data() + (static_cast<const std::byte*>(out.view.data) - out.memory.data()),
                       out.view.dtype, out.view.shape, out.view.strides_bytes, Device::cpu);
  }
};

/// What the CPU back end gets. Masks and operands as they are; for the oracle, which reads Canonical's elements.
inline double read(const core::Canonical& c, const core::Operand& operand, std::int64_t batch, std::int64_t i,
                   std::int64_t j, Dtype rounded) {
  const std::byte* at =
      core::batch_data(operand, c.batch, batch) + i * operand.row_stride_bytes + j * operand.col_stride_bytes;
  double value = core::element_as<double>(at, operand.dtype);
  if (is_floating(operand.dtype)) return value;
  if (rounded == Dtype::float64) return value;
  const float narrow = core::element_as<float>(at, operand.dtype);
  if (rounded == Dtype::float16) return static_cast<float>(float16_t(narrow));
  if (rounded == Dtype::bfloat16) return static_cast<float>(bfloat16_t(narrow));
  return narrow;
}

inline double mask_value(const core::Canonical& c, const core::Operand& mask, std::int64_t batch, std::int64_t i,
                         std::int64_t j) {
  if (!mask.present()) return 1;
  const std::byte* at = core::batch_data(mask, c.batch, batch) + i * mask.row_stride_bytes + j * mask.col_stride_bytes;
  return c.accumulate == Dtype::float64 ? core::element_as<double>(at, mask.dtype)
                                        : static_cast<double>(core::element_as<float>(at, mask.dtype));
}

/// The first element that breaks SPEC's bound, in words; empty where all keep to it.
inline std::string verify(const core::Canonical& c) {
  const bool wide = c.accumulate == Dtype::float64;
  const double eps = wide ? 0x1p-52 : 0x1p-23;
  double ulp = eps, tiny = wide ? 0 : 0x1p-149;  // of the result type
  if (c.out.dtype == Dtype::float16) ulp = 0x1p-10, tiny = 0x1p-24;
  if (c.out.dtype == Dtype::bfloat16) ulp = 0x1p-7;
  std::vector<long double> terms;
  for (std::int64_t batch = 0; batch < c.batch_size; ++batch) {
    for (std::int64_t i = 0; i < c.m.extent; ++i) {
      for (std::int64_t j = 0; j < c.n.extent; ++j) {
        const std::int64_t bi = i / c.m.block, bj = j / c.n.block;
        const double scale_out = mask_value(c, c.mask_out, batch, bi, bj);
        long double exact = 0, sum = 0;
        std::int64_t live = 0;
        for (std::int64_t bk = 0; bk < c.k.count() && scale_out != 0; ++bk) {
          const long double scale = static_cast<long double>(mask_value(c, c.mask_lhs, batch, bi, bk)) *
                                    mask_value(c, c.mask_rhs, batch, bk, bj);
          if (mask_value(c, c.mask_lhs, batch, bi, bk) == 0 || mask_value(c, c.mask_rhs, batch, bk, bj) == 0) continue;
          for (std::int64_t k = c.k.begin(bk); k < c.k.begin(bk) + c.k.size(bk); ++k) {
            const long double product = scale * scale_out * read(c, c.a, batch, i, k, c.out.dtype) *
                                        static_cast<long double>(read(c, c.b, batch, k, j, c.out.dtype));
            exact += product;
            sum += std::fabs(product);
            ++live;
          }
        }
        const double got = read(c, c.out, batch, i, j, c.out.dtype);
        const std::string where = "batch " + std::to_string(batch) + " [" + std::to_string(i) + ", " +
                                  std::to_string(j) + "]: expected " + std::to_string(static_cast<double>(exact)) +
                                  ", got " + std::to_string(got);
        if (live == 0) {
          if (!(got == 0) || std::signbit(got)) return "dead, " + where;
          continue;
        }
        const double bound = static_cast<double>((static_cast<long double>(live) + 4) * eps * sum +
                                                 0.5L * ulp * std::fabs(exact) * (1 + eps) + tiny);
        if (!(std::fabs(static_cast<double>(got - exact)) <= bound)) return where + ", bound " + std::to_string(bound);
      }
    }
  }
  return "";
}

}  // namespace maskmm::test
