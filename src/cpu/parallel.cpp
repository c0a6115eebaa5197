#include "cpu/parallel.hpp"

#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "maskmm/error.hpp"
#include "maskmm/stream.hpp"

namespace maskmm {
namespace {

int initial_threads() {
  if (const char* variable = std::getenv("MASKMM_NUM_THREADS")) {
    char* end = nullptr;
    const long count = std::strtol(variable, &end, 10);
    if (end != variable && *end == '\0' && count >= 1) return static_cast<int>(std::min(count, 1L << 16));
  }
  return std::max(1, tbb::this_task_arena::max_concurrency());  // counts the processors of the affinity mask
}

std::atomic<int>& limit() {
  static std::atomic<int> threads{initial_threads()};
  return threads;
}

}  // namespace

int num_threads() { return limit().load(std::memory_order_relaxed); }

void set_num_threads(int count) {
  if (count < 1) throw shape_error("num_threads: expected at least 1, got " + std::to_string(count));
  limit().store(count, std::memory_order_relaxed);
}

}  // namespace maskmm

namespace maskmm::cpu {

void parallel_for(std::int64_t count, int threads, function_ref<void(std::int64_t)> task) {
  threads = static_cast<int>(std::min<std::int64_t>(threads, count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  tbb::task_arena arena(threads);
  arena.execute([&] {
    tbb::parallel_for(
        0, threads,
        [&](int) {
          try {
            for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i);
          } catch (...) {
            next.store(count, std::memory_order_relaxed);
            throw;
          }
        },
        tbb::simple_partitioner());
  });
}

}  // namespace maskmm::cpu
