#include "cuda_case.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <thread>

#include "core/block_grid.hpp"
#include "core/promote.hpp"

namespace maskmm::cuda_test {
namespace {

Dims broadcast(const Dims& x, const Dims& y) {
  Dims result;
  const int n = std::max(x.size(), y.size());
  for (int axis = 0; axis < n; ++axis) {
    const int i = axis - (n - x.size()), j = axis - (n - y.size());
    const std::int64_t p = i < 0 ? 1 : x[i], q = j < 0 ? 1 : y[j];
    result.push_back(p == 1 ? q : p);
  }
  return result;
}

Dims with_matrix(const Dims& batch, std::int64_t rows, std::int64_t columns) {
  Dims shape = batch;
  shape.push_back(rows);
  shape.push_back(columns);
  return shape;
}

struct Format {
  int digits, least_exponent;  // of the significand, of the smallest normal number
  double largest;
};

Format format_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::float16:
      return {11, -14, 65504};
    case Dtype::bfloat16:
      return {8, -126, 3.3895313892515355e38};
    case Dtype::float32:
      return {24, -126, std::numeric_limits<float>::max()};
    default:
      return {53, -1022, std::numeric_limits<double>::max()};
  }
}

double half_ulp(double value, const Format& format) {
  int exponent = format.least_exponent;
  if (value != 0 && std::isfinite(value)) exponent = std::max(exponent, std::ilogb(value));
  return std::ldexp(1.0, exponent - format.digits);
}

/// Calls `call(i)` for each i below `count`, on all processors.
template <class Call>
void in_parallel(std::int64_t count, const Call& call) {
  std::atomic<std::int64_t> next = 0;
  std::vector<std::thread> threads;
  const unsigned most = std::max(1u, std::thread::hardware_concurrency());
  for (unsigned t = 0; t < most && t < count; ++t) {
    threads.emplace_back([&] {
      for (std::int64_t i; (i = next++) < count;) call(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

std::string describe(const Case& c) {
  const auto mask = [](const MaskSpec& spec) {
    if (!spec.dtype) return std::string("none");
    return std::string(name_of(*spec.dtype)) + "@" + std::to_string(spec.density) + to_string(spec.batch) + "lay" +
           std::to_string(static_cast<int>(spec.lay)) + (spec.on_host ? "host" : "");
  };
  return std::to_string(c.m) + "x" + std::to_string(c.n) + "x" + std::to_string(c.k) + " block " + to_string(c.block) +
         " " + name_of(c.a_dtype) + to_string(c.a_batch) + " " + name_of(c.b_dtype) + to_string(c.b_batch) + " lays " +
         std::to_string(static_cast<int>(c.a_lay)) + std::to_string(static_cast<int>(c.b_lay)) +
         std::to_string(static_cast<int>(c.out_lay)) + " out " + mask(c.out) + " lhs " + mask(c.lhs) + " rhs " +
         mask(c.rhs) + " infinite " + std::to_string(c.infinite) + " seed " + std::to_string(c.seed);
}

Problem::Problem(const Case& c) : case_(c) {
  batch_ = broadcast(c.a_batch, c.b_batch);
  for (const MaskSpec* spec : {&c.out, &c.lhs, &c.rhs}) batch_ = broadcast(batch_, spec->batch);
  for (const std::int64_t size : batch_) batch_size_ *= size;
  a_ = make_buffer(with_matrix(c.a_batch, c.m, c.k), c.a_dtype, c.a_lay);
  b_ = make_buffer(with_matrix(c.b_batch, c.k, c.n), c.b_dtype, c.b_lay);
  out_ = make_buffer(with_matrix(batch_, c.m, c.n), core::promote(c.a_dtype, c.b_dtype), c.out_lay);
  const std::int64_t bm = core::ceil_div(c.m, c.block.m), bn = core::ceil_div(c.n, c.block.n),
                     bk = core::ceil_div(c.k, c.block.k);
  const auto make_mask = [](const MaskSpec& spec, std::int64_t rows, std::int64_t columns) {
    return spec.dtype ? make_buffer(with_matrix(spec.batch, rows, columns), *spec.dtype, spec.lay) : Buffer();
  };
  mask_out_ = make_mask(c.out, bm, bn);
  mask_lhs_ = make_mask(c.lhs, bm, bk);
  mask_rhs_ = make_mask(c.rhs, bk, bn);
  randomize(c.seed);
}

void Problem::randomize(std::uint64_t seed) {
  Random random(seed);
  fill(a_, random, case_.a_size);
  fill(b_, random, 1);
  if (case_.out.dtype) fill_mask(mask_out_, case_.out, random);
  if (case_.lhs.dtype) fill_mask(mask_lhs_, case_.lhs, random);
  if (case_.rhs.dtype) fill_mask(mask_rhs_, case_.rhs, random);
  poison_dead();
  for (std::byte& byte : out_.host) byte = std::byte{0xff};  // NaN in every float type
  upload();
}

void Problem::upload() {
  a_.upload();
  b_.upload();
  out_.upload();
  if (case_.out.dtype) mask_out_.upload();
  if (case_.lhs.dtype) mask_lhs_.upload();
  if (case_.rhs.dtype) mask_rhs_.upload();
}

void Problem::fill(Buffer& operand, Random& random, double size_of_values) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const std::size_t size = size_of(operand.dtype);
  const bool integral = !is_floating(operand.dtype);
  for (std::size_t at = static_cast<std::size_t>(operand.offset_bytes) % size; at + size <= operand.host.size();
       at += size) {
    double value = integral ? std::round(normal(random) * 5) : size_of_values * normal(random);
    if (!integral && uniform(random) < case_.infinite) value = std::numeric_limits<double>::infinity();
    put(operand.host.data() + at, operand.dtype, value);
  }
}

void Problem::fill_mask(Buffer& mask, const MaskSpec& spec, Random& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const std::size_t size = size_of(mask.dtype);
  for (std::size_t at = static_cast<std::size_t>(mask.offset_bytes) % size; at + size <= mask.host.size(); at += size) {
    double value = 0;
    if (uniform(random) < spec.density) {
      value = spec.zero_one || mask.dtype == Dtype::bool_ ? 1
              : is_floating(mask.dtype)                   ? spec.size * normal(random)
                                                          : 1 + std::round(3 * uniform(random));
    } else if (is_floating(mask.dtype) && uniform(random) < 0.5) {
      value = -0.0;
    }
    put(mask.host.data() + at, mask.dtype, value);
  }
}

double Problem::mask_value(const Buffer& mask, const MaskSpec& spec, std::int64_t index, std::int64_t row,
                           std::int64_t column) const {
  if (!spec.dtype) return 1;
  const View view = mask.host_view();
  const std::int64_t offset = offset_of(view, batch_, index, row, column);
  if (out_.dtype == Dtype::float64) return get(view, offset);
  return core::element_as<float>(static_cast<const std::byte*>(view.data) + offset, view.dtype);
}

void Problem::poison_dead() {
  const BlockSize block = case_.block;
  const std::int64_t bm = core::ceil_div(case_.m, block.m), bn = core::ceil_div(case_.n, block.n),
                     bk = core::ceil_div(case_.k, block.k);
  const auto flag = [](Buffer& operand, std::vector<bool>& used) {
    const std::size_t size = size_of(operand.dtype);
    used.resize(operand.host.size() / size + 1);
    return size;
  };
  std::vector<bool> a_used, b_used;  // elements that some live triple looks at
  const std::size_t a_size = flag(a_, a_used), b_size = flag(b_, b_used);
  const View a = a_.host_view(), b = b_.host_view();
  const auto mark = [&](const Buffer& operand, const View& view, std::vector<bool>& used, std::size_t size,
                        std::int64_t index, std::int64_t row0, std::int64_t row1, std::int64_t column0,
                        std::int64_t column1) {
    for (std::int64_t i = row0; i < row1; ++i) {
      for (std::int64_t j = column0; j < column1; ++j) {
        const std::int64_t at = operand.offset_bytes + offset_of(view, batch_, index, i, j);
        used[static_cast<std::size_t>(at) / size] = true;
      }
    }
  };
  for (std::int64_t index = 0; index < batch_size_; ++index) {
    std::vector<bool> a_block(static_cast<std::size_t>(bm * bk)), b_block(static_cast<std::size_t>(bk * bn));
    for (std::int64_t bi = 0; bi < bm; ++bi) {
      for (std::int64_t p = 0; p < bk; ++p) {
        if (mask_value(mask_lhs_, case_.lhs, index, bi, p) == 0) continue;
        for (std::int64_t bj = 0; bj < bn; ++bj) {
          if (mask_value(mask_rhs_, case_.rhs, index, p, bj) == 0 ||
              mask_value(mask_out_, case_.out, index, bi, bj) == 0)
            continue;
          a_block[static_cast<std::size_t>(bi * bk + p)] = b_block[static_cast<std::size_t>(p * bn + bj)] = true;
        }
      }
    }
    for (std::int64_t bi = 0; bi < bm; ++bi) {
      for (std::int64_t p = 0; p < bk; ++p) {
        if (!a_block[static_cast<std::size_t>(bi * bk + p)]) continue;
        mark(a_, a, a_used, a_size, index, bi * block.m, std::min(case_.m, (bi + 1) * block.m), p * block.k,
             std::min(case_.k, (p + 1) * block.k));
      }
    }
    for (std::int64_t p = 0; p < bk; ++p) {
      for (std::int64_t bj = 0; bj < bn; ++bj) {
        if (!b_block[static_cast<std::size_t>(p * bn + bj)]) continue;
        mark(b_, b, b_used, b_size, index, p * block.k, std::min(case_.k, (p + 1) * block.k), bj * block.n,
             std::min(case_.n, (bj + 1) * block.n));
      }
    }
  }
  const auto poison = [](Buffer& operand, const std::vector<bool>& used, std::size_t size) {
    if (!is_floating(operand.dtype)) return;
    for (std::size_t at = static_cast<std::size_t>(operand.offset_bytes) % size; at + size <= operand.host.size();
         at += size) {
      if (!used[at / size]) put(operand.host.data() + at, operand.dtype, std::numeric_limits<double>::quiet_NaN());
    }
  };
  poison(a_, a_used, a_size);
  poison(b_, b_used, b_size);
}

std::optional<View> Problem::view(Buffer& mask, const MaskSpec& spec) {
  if (!spec.dtype) return std::nullopt;
  return spec.on_host ? mask.host_view() : View(mask.device_view());
}

void Problem::run(const Stream& stream) {
  block_masked_mm(a_.device_view(), b_.device_view(), case_.block, view(mask_out_, case_.out),
                  view(mask_lhs_, case_.lhs), view(mask_rhs_, case_.rhs), stream, out_.device_view(), case_.precision);
}

Explanation Problem::explain() {
  return maskmm::explain(a_.device_view(), b_.device_view(), case_.block, view(mask_out_, case_.out),
                         view(mask_lhs_, case_.lhs), view(mask_rhs_, case_.rhs), {}, out_.device_view(),
                         case_.precision);
}

void Problem::check() {
  const std::vector<std::byte> got = result();
  std::vector<bool> written(got.size());
  const View a = a_.host_view(), b = b_.host_view(), out = out_.host_view();
  const Format format = format_of(out.dtype);
  const bool wide = out.dtype == Dtype::float64;
  const bool tf32 = out.dtype == Dtype::float32 && case_.precision == Precision::tf32;
  const double eps = wide ? 0x1p-52 : 0x1p-23;
  const double tiny = std::ldexp(1.0, format.least_exponent - format.digits + 1) + (wide ? 0 : 0x1p-149);
  const BlockSize block = case_.block;
  const std::int64_t m = case_.m, n = case_.n, k = case_.k;
  std::vector<double> a_values(static_cast<std::size_t>(m * k)), b_values(static_cast<std::size_t>(k * n));
  std::atomic<int> shown = 0;
  std::mutex marking;
  for (std::int64_t index = 0; index < batch_size_; ++index) {
    std::uint64_t scratch;
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t p = 0; p < k; ++p)
        a_values[static_cast<std::size_t>(i * k + p)] =
            put(&scratch, out.dtype, get(a, offset_of(a, batch_, index, i, p)));
    }
    for (std::int64_t p = 0; p < k; ++p) {
      for (std::int64_t j = 0; j < n; ++j)
        b_values[static_cast<std::size_t>(p * n + j)] =
            put(&scratch, out.dtype, get(b, offset_of(b, batch_, index, p, j)));
    }
    const auto check_row = [&](std::int64_t i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const double scale_out = mask_value(mask_out_, case_.out, index, i / block.m, j / block.n);
        long double sum = 0, size = 0;
        std::int64_t live_k = 0;
        for (std::int64_t p0 = 0; scale_out != 0 && p0 < k; p0 += block.k) {
          const double lhs = mask_value(mask_lhs_, case_.lhs, index, i / block.m, p0 / block.k);
          const double rhs = lhs == 0 ? 0 : mask_value(mask_rhs_, case_.rhs, index, p0 / block.k, j / block.n);
          if (lhs == 0 || rhs == 0) continue;
          long double part = 0, part_size = 0;
          for (std::int64_t p = p0; p < std::min(k, p0 + block.k); ++p, ++live_k) {
            const long double product = static_cast<long double>(a_values[static_cast<std::size_t>(i * k + p)]) *
                                        b_values[static_cast<std::size_t>(p * n + j)];
            part += product, part_size += std::fabs(product);
          }
          const long double scale = static_cast<long double>(lhs) * rhs * scale_out;
          sum += scale * part, size += std::fabs(scale) * part_size;
        }
        const std::int64_t offset = out_.offset_bytes + offset_of(out, batch_, index, i, j);
        const double value = core::element_as<double>(got.data() + offset, out.dtype);
        const double exact = static_cast<double>(sum);
        bool good;
        if (std::isnan(exact)) {
          good = std::isnan(value);
        } else if (std::isinf(exact)) {
          good = value == exact;
        } else if (live_k == 0) {
          good = value == 0 && !std::signbit(value);
        } else {
          // TF32 drops bits of both factors: 2^-10 of each at most.
          const double rounding = (static_cast<double>(live_k) + 4) * eps + (tf32 ? 0x1p-9 : 0);
          const double bound = rounding * static_cast<double>(size) + half_ulp(exact, format) + tiny;
          good = std::isinf(value) ? std::fabs(exact) + bound >= format.largest && (value > 0) == (exact > 0)
                                   : std::fabs(value - exact) <= bound * 1.0000001;
        }
        if (!good && shown++ < 3) {
          const std::lock_guard lock(marking);
          ADD_FAILURE() << describe(case_) << "\n  batch " << index << " (" << i << ", " << j << "): got " << value
                        << ", expected " << exact << ", live k " << live_k;
        }
        if (shown >= 3) return;
      }
    };
    in_parallel(m * n * k > 200000 ? m : 0, check_row);
    if (m * n * k <= 200000) {
      for (std::int64_t i = 0; i < m; ++i) check_row(i);
    }
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        const std::int64_t offset = out_.offset_bytes + offset_of(out, batch_, index, i, j);
        std::fill_n(written.begin() + offset, size_of(out.dtype), true);
      }
    }
    if (shown >= 3) return;
  }
  for (std::size_t byte = 0; byte < got.size(); ++byte) {
    if (!written[byte] && got[byte] != std::byte{0xff}) {
      ADD_FAILURE() << describe(case_) << "\n  byte " << byte << " outside the result was written";
      return;
    }
  }
}

}  // namespace maskmm::cuda_test
