// Streams, graphs, memory, errors and explanations on the GPU.
#include "cuda_case.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda_test {
namespace {

class CudaStreams : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_gpu()) GTEST_SKIP() << "no GPU";
  }
  void TearDown() override {
    if (has_gpu()) {
      EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    }
  }
};

Case masked_case(Dtype dtype, Dtype mask_dtype) {
  Case c;
  c.m = 300, c.n = 200, c.k = 700;
  c.block = 32;
  c.a_dtype = c.b_dtype = dtype;
  c.lhs.dtype = c.rhs.dtype = c.out.dtype = mask_dtype;
  return c;
}

cudaStream_t handle(const Stream& stream) { return static_cast<cudaStream_t>(stream.handle); }

TEST_F(CudaStreams, AGraphReplaysWithNewContents) {
  for (const Dtype mask_dtype : {Dtype::bool_, Dtype::float32}) {
    Problem problem(masked_case(Dtype::bfloat16, mask_dtype));
    const Stream stream = new_stream(Device::gpu);
    cudaGraph_t graph;
    cudaGraphExec_t replay;
    ASSERT_EQ(cudaStreamBeginCapture(handle(stream), cudaStreamCaptureModeGlobal), cudaSuccess);
    problem.run(stream);
    ASSERT_EQ(cudaStreamEndCapture(handle(stream), &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&replay, graph, 0), cudaSuccess);
    for (std::uint64_t seed = 10; seed < 14; ++seed) {
      problem.randomize(seed);
      ASSERT_EQ(cudaGraphLaunch(replay, handle(stream)), cudaSuccess);
      synchronize(stream);
      problem.check();
      const auto from_graph = problem.result();
      problem.upload();
      problem.run(stream);
      synchronize(stream);
      EXPECT_EQ(from_graph, problem.result());
    }
    EXPECT_EQ(cudaGraphExecDestroy(replay), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }
}

TEST_F(CudaStreams, AHostMaskIsRefusedWhileCapturing) {
  Case c = masked_case(Dtype::float32, Dtype::bool_);
  c.lhs.on_host = true;
  Problem problem(c);
  const Stream stream = new_stream(Device::gpu);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(handle(stream), cudaStreamCaptureModeGlobal), cudaSuccess);
  try {
    problem.run(stream);
    ADD_FAILURE() << "not refused";
  } catch (const device_error& error) {
    EXPECT_STREQ(error.what(),
                 "mask_lhs: expected an array on gpu:0 while the stream is being captured, got one on cpu:0");
  }
  EXPECT_EQ(cudaStreamEndCapture(handle(stream), &graph), cudaSuccess);
  if (graph) cudaGraphDestroy(graph);
}

TEST_F(CudaStreams, TwoStreamsAtOnceGiveTheSameBits) {
  std::vector<std::unique_ptr<Problem>> problems;
  for (const Dtype dtype : {Dtype::float16, Dtype::bfloat16, Dtype::float32, Dtype::float64}) {
    problems.push_back(std::make_unique<Problem>(masked_case(dtype, Dtype::bool_)));
    problems.push_back(std::make_unique<Problem>(masked_case(dtype, Dtype::float32)));
  }
  std::vector<std::vector<std::byte>> alone;
  for (auto& problem : problems) {
    problem->run(default_stream(Device::gpu));
    alone.push_back(problem->result());
  }
  const Stream streams[] = {new_stream(Device::gpu), new_stream(Device::gpu)};
  for (int repeat = 0; repeat < 50; ++repeat) {
    for (std::size_t i = 0; i < problems.size(); ++i)
      problems[i]->run(streams[(i + static_cast<std::size_t>(repeat)) % 2]);
  }
  synchronize(streams[0]);
  synchronize(streams[1]);
  for (std::size_t i = 0; i < problems.size(); ++i) EXPECT_EQ(problems[i]->result(), alone[i]);
}

TEST_F(CudaStreams, DoesNotDependOnDeadBlocksOrOtherMatrices) {
  Case one = masked_case(Dtype::float16, Dtype::bool_), three = one;
  three.a_batch = three.b_batch = Dims{3};
  Problem alone(one), together(three);
  alone.run(default_stream(Device::gpu));
  together.run(default_stream(Device::gpu));
  together.check();
}

TEST_F(CudaStreams, MemoryEndsAndTheNextCallWorks) {
  EXPECT_THROW(array({1 << 20, 1 << 20}, Dtype::float32, Device::gpu), std::bad_alloc);
  // The mask's bits and scales need a few MiB that are not there.
  const std::int64_t size = 1 << 15;
  array a({16, 16}, Dtype::float32, Device::gpu), b({16, size * 16}, Dtype::float32, Device::gpu),
      out({16, size * 16}, Dtype::float32, Device::gpu);
  array mask({1, size}, Dtype::int64, Device::gpu);
  ASSERT_EQ(cudaMemset(mask.data<std::int64_t>(), 1, static_cast<std::size_t>(size) * 8), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  ASSERT_EQ(cudaMemPoolTrimTo(cuda::memory_pool(0), 0), cudaSuccess);
  std::vector<void*> hog;
  for (std::size_t bytes = std::size_t{1} << 36; bytes >= 4096;) {
    void* memory = nullptr;
    if (cudaMalloc(&memory, bytes) == cudaSuccess) {
      hog.push_back(memory);
    } else {
      (void)cudaGetLastError();
      bytes /= 2;
    }
  }
  std::vector<array> pool;
  try {
    for (;;) pool.emplace_back(Dims{1 << 14}, Dtype::uint8, Device::gpu);
  } catch (const std::bad_alloc&) {
  }
  bool threw = false;
  try {
    block_masked_mm(a, b, 16, mask, std::nullopt, std::nullopt, {}, out.mutable_view());
  } catch (const std::bad_alloc&) {
    threw = true;
  }
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  pool.clear();
  for (void* memory : hog) EXPECT_EQ(cudaFree(memory), cudaSuccess);
  EXPECT_TRUE(threw);
  Problem next(masked_case(Dtype::float32, Dtype::bool_));
  next.run(default_stream(Device::gpu));
  next.check();
}

TEST_F(CudaStreams, KeepsTheCurrentDevice) {
  Problem problem(masked_case(Dtype::float32, Dtype::bool_));
  int before = -1, after = -2;
  ASSERT_EQ(cudaGetDevice(&before), cudaSuccess);
  problem.run(default_stream(Device::gpu));
  ASSERT_EQ(cudaGetDevice(&after), cudaSuccess);
  EXPECT_EQ(before, after);
}

TEST_F(CudaStreams, ExplainCountsLiveTriples) {
  Case c = masked_case(Dtype::bfloat16, Dtype::bool_);
  c.lhs.density = c.rhs.density = c.out.density = 1;
  const Explanation all = Problem(c).explain();
  EXPECT_EQ(all.live_fraction, 1);
  EXPECT_EQ(all.kernel.substr(0, 14), "sm80 bfloat16 ") << all.kernel;
  EXPECT_GT(all.workspace_bytes, 0);
  c.lhs.density = 0;
  EXPECT_EQ(Problem(c).explain().live_fraction, 0);
  c.lhs.density = 0.5;
  const double some = Problem(c).explain().live_fraction;
  EXPECT_GT(some, 0.3);
  EXPECT_LT(some, 0.7);
  c.lhs.dtype = Dtype::float32;
  EXPECT_NE(Problem(c).explain().kernel.find("scaling"), std::string::npos);
}

TEST_F(CudaStreams, AMissingDeviceIsNamed) {
  const Device missing(DeviceType::gpu, 63);
  EXPECT_THROW(new_stream(missing), device_error);
  EXPECT_THROW(set_default_device(missing), device_error);
}

TEST_F(CudaStreams, NanMasksAreLive) {
  array a({16, 16}, Dtype::float32, Device::gpu), b({16, 16}, Dtype::float32, Device::gpu),
      out({16, 16}, Dtype::float32, Device::gpu);
  ASSERT_EQ(cudaMemset(a.data<float>(), 0, 1024), cudaSuccess);
  ASSERT_EQ(cudaMemset(b.data<float>(), 0, 1024), cudaSuccess);
  const float nan = std::nanf("");
  for (int which = 0; which < 3; ++which) {
    const std::optional<View> mask(View(&nan, Dtype::float32, {1, 1}));
    const std::optional<View> none;
    block_masked_mm(a, b, 16, which == 0 ? mask : none, which == 1 ? mask : none, which == 2 ? mask : none, {},
                    out.mutable_view());
    std::vector<float> got(256);
    ASSERT_EQ(cudaMemcpy(got.data(), out.data<float>(), 1024, cudaMemcpyDeviceToHost), cudaSuccess);
    for (const float value : got) ASSERT_TRUE(std::isnan(value));
  }
}

}  // namespace
}  // namespace maskmm::cuda_test
