// Times block_masked_mm on the GPU against cuBLAS on the same shapes, and writes json.
//
//   bench_cuda OUT.json LIBCUBLAS.so [only]     `only`: cases whose name contains it
//
// Every case is verified against cuBLAS on operands whose dead blocks were set to zero, then timed between two timings
// of cuBLAS on the dense operands, hot: x = time / (live fraction * mean of the two). The mask pass is part of the
// time.
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "cases.hpp"
#include "maskmm/maskmm.hpp"

namespace {

using namespace maskmm;
using bench::Case;

void require(bool good, const char* what) {
  if (good) return;
  std::fprintf(stderr, "bench_cuda: %s failed\n", what);
  std::exit(1);
}
#define REQUIRE_CUDA(call) require((call) == cudaSuccess, #call)

/// The few functions of cuBLAS that are needed, without its headers.
struct Cublas {
  using Create = int (*)(void**);
  using Gemm = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int,
                       const void*, void*, int, int, int, int);
  using SetStream = int (*)(void*, cudaStream_t);
  using SetWorkspace = int (*)(void*, void*, std::size_t);
  using GetVersion = int (*)(void*, int*);
  void* handle = nullptr;
  Gemm gemm;
  SetStream set_stream;
  int version = 0;

  explicit Cublas(const char* path) {
    void* library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!library) std::fprintf(stderr, "%s\n", dlerror());
    require(library != nullptr, "dlopen");
    const auto create = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
    gemm = reinterpret_cast<Gemm>(dlsym(library, "cublasGemmEx"));
    set_stream = reinterpret_cast<SetStream>(dlsym(library, "cublasSetStream_v2"));
    require(create(&handle) == 0, "cublasCreate");
    void* workspace = nullptr;
    REQUIRE_CUDA(cudaMalloc(&workspace, 64 << 20));
    require(reinterpret_cast<SetWorkspace>(dlsym(library, "cublasSetWorkspace_v2"))(handle, workspace, 64 << 20) == 0,
            "cublasSetWorkspace");
    reinterpret_cast<GetVersion>(dlsym(library, "cublasGetVersion_v2"))(handle, &version);
  }

  /// Row-major c (m x n) = a (m x k) b (k x n), sums in float32 (float64); a or b may be stored transposed.
  void multiply(const Case& what, const void* a, const void* b, void* c, cudaStream_t stream) const {
    const Dtype dtype = what.dtype;
    const int m = int(what.m), n = int(what.n), k = int(what.k);
    const bool a_across = what.layout[0] == 'T', b_across = what.layout[1] == 'T';
    const int type = dtype == Dtype::float16 ? 2 : dtype == Dtype::bfloat16 ? 14 : dtype == Dtype::float32 ? 0 : 1;
    // CUBLAS_COMPUTE_64F, _32F, _32F_FAST_TF32
    const int compute = dtype == Dtype::float64 ? 70 : what.precision == Precision::ieee ? 68 : 77;
    const float one = 1, zero = 0;
    const double one64 = 1, zero64 = 0;
    const bool wide = dtype == Dtype::float64;
    set_stream(handle, stream);
    const void* one_of = wide ? static_cast<const void*>(&one64) : &one;
    const void* zero_of = wide ? static_cast<const void*>(&zero64) : &zero;
    require(gemm(handle, b_across, a_across, n, m, k, one_of, b, type, b_across ? k : n, a, type, a_across ? m : k,
                 zero_of, c, type, n, compute, -1) == 0,
            "cublasGemmEx");
  }
};

std::vector<float> make_mask(std::int64_t rows, std::int64_t columns, const Case& c, std::mt19937& random) {
  std::vector<float> mask(static_cast<std::size_t>(rows * columns));
  std::uniform_real_distribution<double> uniform;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j) {
      const double at = (i + 0.5) / double(rows), other = (j + 0.5) / double(columns);
      bool live = uniform(random) < c.density;
      if (c.pattern == "causal") live = other <= at + 1e-9;
      if (c.pattern == "band") live = std::fabs(at - other) <= 0.0665;
      if (c.pattern == "groups") live = std::int64_t(at * 8) == std::int64_t(other * 8);
      mask[static_cast<std::size_t>(i * columns + j)] =
          live ? (c.kind == "scale" ? 0.5f + float(uniform(random)) : 1.f) : 0.f;
    }
  }
  return mask;
}

array upload_mask(const std::vector<float>& values, std::int64_t rows, std::int64_t columns, bool as_bool) {
  const Dims shape{rows, columns};
  if (!as_bool) return array(View(values.data(), Dtype::float32, shape), Device::gpu);
  std::vector<std::uint8_t> bytes(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) bytes[i] = values[i] != 0;
  return array(View(bytes.data(), Dtype::bool_, shape), Device::gpu);
}

/// Random normal elements; dead blocks (and only they) zero where a mask is given. Scales are applied.
array random_matrix(std::int64_t rows, std::int64_t columns, Dtype dtype, unsigned seed) {
  static std::vector<float> normals = [] {
    std::vector<float> values(1 << 22);
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    return values;
  }();
  const std::size_t count = static_cast<std::size_t>(rows * columns), size = size_of(dtype);
  std::vector<std::byte> host(count * size);
  std::size_t at = seed * 77777u % normals.size();
  for (std::size_t i = 0; i < count; ++i) {
    const float value = normals[at];
    if (++at == normals.size()) at = (i * 31 + seed) % 997;
    if (dtype == Dtype::float64) {
      const double wide = value;
      std::memcpy(&host[i * size], &wide, size);
    } else if (dtype == Dtype::float32) {
      std::memcpy(&host[i * size], &value, size);
    } else if (dtype == Dtype::float16) {
      const float16_t half(value);
      std::memcpy(&host[i * size], &half, size);
    } else {
      const bfloat16_t half(value);
      std::memcpy(&host[i * size], &half, size);
    }
  }
  return array(View(host.data(), dtype, {rows, columns}), Device::gpu);
}

void* raw(const array& x) { return const_cast<void*>(x.view().data); }

/// Median of single runs in ms, each between two events, for about `budget` ms.
double time_ms(const std::function<void()>& call, cudaStream_t stream, double budget) {
  cudaEvent_t first, last;
  REQUIRE_CUDA(cudaEventCreate(&first));
  REQUIRE_CUDA(cudaEventCreate(&last));
  std::vector<float> times;
  REQUIRE_CUDA(cudaEventRecord(first, stream));
  call();
  REQUIRE_CUDA(cudaEventRecord(last, stream));
  REQUIRE_CUDA(cudaEventSynchronize(last));
  float once = 0;
  REQUIRE_CUDA(cudaEventElapsedTime(&once, first, last));
  const int count = std::clamp(int(budget / std::max(once, 0.001f)), 5, 400);
  std::vector<cudaEvent_t> events(static_cast<std::size_t>(count) + 1);
  for (cudaEvent_t& event : events) REQUIRE_CUDA(cudaEventCreate(&event));
  REQUIRE_CUDA(cudaEventRecord(events[0], stream));
  for (int i = 0; i < count; ++i) {
    call();
    REQUIRE_CUDA(cudaEventRecord(events[static_cast<std::size_t>(i) + 1], stream));
  }
  REQUIRE_CUDA(cudaEventSynchronize(events.back()));
  for (int i = 0; i < count; ++i) {
    float time = 0;
    REQUIRE_CUDA(
        cudaEventElapsedTime(&time, events[static_cast<std::size_t>(i)], events[static_cast<std::size_t>(i) + 1]));
    times.push_back(time);
  }
  for (cudaEvent_t event : events) cudaEventDestroy(event);
  cudaEventDestroy(first);
  cudaEventDestroy(last);
  std::ranges::sort(times);
  return times[times.size() / 2];
}

/// Median time of one of 20 calls in a graph, so that the host's part does not count.
double time_in_graph_ms(const std::function<void()>& call, cudaStream_t stream) {
  constexpr int kCalls = 20;
  cudaGraph_t graph;
  cudaGraphExec_t replay;
  call();
  REQUIRE_CUDA(cudaStreamSynchronize(stream));
  REQUIRE_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kCalls; ++i) call();
  REQUIRE_CUDA(cudaStreamEndCapture(stream, &graph));
  REQUIRE_CUDA(cudaGraphInstantiate(&replay, graph, 0));
  const double time = time_ms([&] { REQUIRE_CUDA(cudaGraphLaunch(replay, stream)); }, stream, 10) / kCalls;
  cudaGraphExecDestroy(replay);
  cudaGraphDestroy(graph);
  return time;
}

double element(const std::vector<std::byte>& bytes, std::size_t i, Dtype dtype) {
  const std::byte* at = &bytes[i * size_of(dtype)];
  const auto read = [at](auto value) {
    std::memcpy(&value, at, sizeof value);
    return value;
  };
  switch (dtype) {
    case Dtype::float16:
      return static_cast<float>(read(float16_t()));
    case Dtype::bfloat16:
      return static_cast<float>(read(bfloat16_t()));
    case Dtype::float32:
      return read(float());
    default:
      return read(double());
  }
}

std::vector<std::byte> download(const array& x) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(x.size()) * size_of(x.dtype()));
  REQUIRE_CUDA(cudaMemcpy(bytes.data(), raw(x), bytes.size(), cudaMemcpyDeviceToHost));
  return bytes;
}

/// Largest error of 200 sampled elements, in units of what rounding allows.
double sampled_error(const Case& c, const std::vector<std::byte>& a, const std::vector<std::byte>& b,
                     const std::vector<std::byte>& out, const std::vector<float>& lhs, const std::vector<float>& rhs,
                     const std::vector<float>& mask_out) {
  std::mt19937_64 random(9);
  const std::int64_t kb = (c.k + c.block - 1) / c.block, nb = (c.n + c.block - 1) / c.block;
  const double unit = c.dtype == Dtype::float16    ? 0x1p-11
                      : c.dtype == Dtype::bfloat16 ? 0x1p-8
                      : c.dtype == Dtype::float32  ? 0x1p-24
                                                   : 0x1p-53;
  const double eps = c.dtype == Dtype::float64 ? 0x1p-52 : 0x1p-23;
  double worst = 0;
  for (int sample = 0; sample < 200; ++sample) {
    const auto i = std::int64_t(random() % std::uint64_t(c.m)), j = std::int64_t(random() % std::uint64_t(c.n));
    double sum = 0, size = 0;
    const double scale_out = mask_out.empty() ? 1 : mask_out[std::size_t(i / c.block * nb + j / c.block)];
    for (std::int64_t p = 0; p < c.k && scale_out != 0; ++p) {
      const double scale = (lhs.empty() ? 1 : lhs[std::size_t(i / c.block * kb + p / c.block)]) *
                           (rhs.empty() ? 1 : rhs[std::size_t(p / c.block * nb + j / c.block)]) * scale_out;
      if (scale == 0) continue;
      const std::int64_t of_a = c.layout[0] == 'T' ? p * c.m + i : i * c.k + p;
      const std::int64_t of_b = c.layout[1] == 'T' ? j * c.k + p : p * c.n + j;
      const double product = scale * element(a, std::size_t(of_a), c.dtype) * element(b, std::size_t(of_b), c.dtype);
      sum += product, size += std::fabs(product);
    }
    const double factors = c.precision == Precision::tf32 ? 0x1p-9 : 0;  // two of ten bits
    const double bound = (double(c.k + 4) * eps + factors) * size + std::fabs(sum) * unit + 1e-30;
    const double error = std::fabs(element(out, std::size_t(i * c.n + j), c.dtype) - sum) / bound;
    worst = std::isnan(error) ? 1e9 : std::max(worst, error);
  }
  return worst;
}

double live_fraction(const Case& c, const std::vector<float>& lhs, const std::vector<float>& rhs,
                     const std::vector<float>& out) {
  const std::int64_t mb = (c.m + c.block - 1) / c.block, nb = (c.n + c.block - 1) / c.block,
                     kb = (c.k + c.block - 1) / c.block;
  double live = 0;
  for (std::int64_t i = 0; i < mb; ++i) {
    for (std::int64_t p = 0; p < kb; ++p) {
      if (!lhs.empty() && lhs[std::size_t(i * kb + p)] == 0) continue;
      for (std::int64_t j = 0; j < nb; ++j)
        live +=
            (rhs.empty() || rhs[std::size_t(p * nb + j)] != 0) && (out.empty() || out[std::size_t(i * nb + j)] != 0);
    }
  }
  return live / (double(mb) * double(nb) * double(kb));
}

}  // namespace

int main(int count, char** arguments) {
  require(count >= 3, "usage: bench_cuda OUT.json LIBCUBLAS.so [only]; reading the arguments");
  const std::string only = count > 3 ? arguments[3] : "";
  const Cublas cublas(arguments[2]);
  cudaDeviceProp properties;
  REQUIRE_CUDA(cudaGetDeviceProperties(&properties, 0));
  std::FILE* json = std::fopen(arguments[1], "w");
  require(json != nullptr, "opening the json file");
  std::fprintf(json, "{\"card\": \"%s\", \"maskmm\": \"%s\", \"commit\": \"%s\", \"cublas\": %d, \"results\": [",
               properties.name, version().c_str(), std::getenv("COMMIT") ? std::getenv("COMMIT") : "", cublas.version);
  const Stream stream = new_stream(Device::gpu);
  const auto handle = static_cast<cudaStream_t>(stream.handle);
  bool comma = false;
  std::string held;
  array a, b, out, dense;
  std::vector<std::byte> host_a, host_b;
  for (const Case& c : bench::all_cases()) {
    if (c.name.find(only) == std::string::npos) continue;
    const std::string shape =
        std::to_string(c.m) + "," + std::to_string(c.n) + "," + std::to_string(c.k) + "," + name_of(c.dtype);
    if (shape != held) {
      a = random_matrix(c.m, c.k, c.dtype, 1);
      b = random_matrix(c.k, c.n, c.dtype, 2);
      out = array({c.m, c.n}, c.dtype, Device::gpu);
      dense = array({c.m, c.n}, c.dtype, Device::gpu);
      host_a = download(a), host_b = download(b);
      held = shape;
    }
    std::mt19937 random(5);
    const std::int64_t mb = (c.m + c.block - 1) / c.block, nb = (c.n + c.block - 1) / c.block,
                       kb = (c.k + c.block - 1) / c.block;
    const auto has = [&](char which) { return c.masks.find(which) != std::string::npos; };
    const bool as_bool = c.kind == "bool";
    std::vector<float> lhs, rhs, mask_out;
    std::optional<View> lhs_view, rhs_view, out_view;
    array lhs_array, rhs_array, out_array;
    if (has('l')) lhs = make_mask(mb, kb, c, random), lhs_view = (lhs_array = upload_mask(lhs, mb, kb, as_bool)).view();
    if (has('r')) rhs = make_mask(kb, nb, c, random), rhs_view = (rhs_array = upload_mask(rhs, kb, nb, as_bool)).view();
    if (has('o'))
      mask_out = make_mask(mb, nb, c, random), out_view = (out_array = upload_mask(mask_out, mb, nb, as_bool)).view();
    const double fraction = live_fraction(c, lhs, rhs, mask_out);
    REQUIRE_CUDA(cudaMemset(raw(out), 0xff, static_cast<std::size_t>(out.size()) * size_of(c.dtype)));

    const auto laid_out = [](const array& x, std::int64_t rows, std::int64_t columns, bool across) {
      return across ? View(raw(x), x.dtype(), {columns, rows}, Device::gpu).transposed()
                    : View(raw(x), x.dtype(), {rows, columns}, Device::gpu);
    };
    const View lhs_operand = laid_out(a, c.m, c.k, c.layout[0] == 'T');
    const View rhs_operand = laid_out(b, c.k, c.n, c.layout[1] == 'T');
    const auto ours = [&] {
      block_masked_mm(lhs_operand, rhs_operand, c.block, out_view, lhs_view, rhs_view, stream, out.mutable_view(),
                      c.precision);
    };
    const auto peer = [&] { cublas.multiply(c, raw(a), raw(b), raw(dense), handle); };
    ours();
    REQUIRE_CUDA(cudaStreamSynchronize(handle));
    const double error =
        std::getenv("NO_CHECK") ? 0 : sampled_error(c, host_a, host_b, download(out), lhs, rhs, mask_out);
    const bool small = double(c.m) * double(c.n) * double(c.k) <= 5e9;
    const auto measure = [&](const std::function<void()>& call) {
      return small ? time_in_graph_ms(call, handle) : time_ms(call, handle, 25);
    };
    const double before = measure(peer), time = measure(ours), after = measure(peer);
    const double reference = (before + after) / 2, x = time / (fraction * reference);
    const double flops = 2.0 * double(c.m) * double(c.n) * double(c.k);
    std::printf("%-58s live %.4f ours %.4f ms cublas %.4f %.4f x %.3f  %.0f live TFLOP/s %s\n", c.name.c_str(),
                fraction, time, before, after, x, fraction * flops / time / 1e9, error <= 1 ? "" : "WRONG");
    std::fflush(stdout);
    std::fprintf(json,
                 "%s\n  {\"name\": \"%s\", \"live_fraction\": %.6f, \"ms\": %.6f, \"cublas_ms\": [%.6f, %.6f], "
                 "\"x\": %.4f, \"error_over_bound\": %.4f}",
                 comma ? "," : "", c.name.c_str(), fraction, time, before, after, x, error);
    comma = true;
  }
  std::fprintf(json, "\n]}\n");
  std::fclose(json);
  return 0;
}
