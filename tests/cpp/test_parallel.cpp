#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>
#include <vector>

#include "cpu/parallel.hpp"
#include "maskmm/error.hpp"
#include "maskmm/stream.hpp"

namespace maskmm::test {
namespace {

TEST(Parallel, EveryTaskRunsOnce) {
  for (const int threads : {1, 2, 5}) {
    for (const std::int64_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
      cpu::parallel_for(count, threads, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
      for (const auto& run : runs) EXPECT_EQ(run, 1);
    }
  }
}

TEST(Parallel, OneThreadIsTheCallers) {
  const std::thread::id caller = std::this_thread::get_id();
  std::int64_t next = 0;
  cpu::parallel_for(100, 1, [&](std::int64_t i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(i, next++);
  });
}

TEST(Parallel, AtMostSoManyAtATime) {
  std::atomic<int> running{0}, most{0};
  cpu::parallel_for(200, 2, [&](std::int64_t) {
    const int now = ++running;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
    }
    std::this_thread::yield();
    --running;
  });
  EXPECT_LE(most, 2);
}

TEST(Parallel, ExceptionsReachTheCaller) {
  for (const int threads : {1, 3}) {
    EXPECT_THROW(cpu::parallel_for(50, threads,
                                   [&](std::int64_t i) {
                                     if (i == 7) throw std::bad_alloc();
                                   }),
                 std::bad_alloc);
    std::atomic<int> runs{0};
    cpu::parallel_for(50, threads, [&](std::int64_t) { ++runs; });  // and the next call works
    EXPECT_EQ(runs, 50);
  }
}

TEST(Parallel, SideBySide) {
  std::vector<std::thread> callers;
  std::atomic<int> runs{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 20; ++repeat) cpu::parallel_for(30, 2, [&](std::int64_t) { ++runs; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(runs, 4 * 20 * 30);
}

// The sanitizers' own locks may be held by another thread at the fork, and the child would wait for them for ever.
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
TEST(Parallel, AChildOfForkGoesOn) {
  std::atomic<int> runs{0};
  cpu::parallel_for(100, 4, [&](std::int64_t) { ++runs; });
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::atomic<int> here{0};
    cpu::parallel_for(1000, 4, [&](std::int64_t) { ++here; });
    _exit(here == 1000 ? 0 : 1);
  }
  int status = -1;
  for (int tenths = 0; tenths < 300; ++tenths) {
    if (waitpid(child, &status, WNOHANG) == child) break;
    usleep(100000);
    if (tenths == 299) kill(child, SIGKILL);
  }
  EXPECT_EQ(status, 0);
}
#endif

TEST(Parallel, NumThreads) {
  const int before = num_threads();
  EXPECT_GE(before, 1);
  set_num_threads(3);
  EXPECT_EQ(num_threads(), 3);
  try {
    set_num_threads(0);
    FAIL();
  } catch (const shape_error& error) {
    EXPECT_STREQ(error.what(), "num_threads: expected at least 1, got 0");
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace maskmm::test
