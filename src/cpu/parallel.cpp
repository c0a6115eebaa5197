#include "cpu/parallel.hpp"

#include <pthread.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "maskmm/error.hpp"
#include "maskmm/stream.hpp"

namespace maskmm {
namespace {

int initial_threads() {
  if (const char* variable = std::getenv("MASKMM_NUM_THREADS"); variable != nullptr && *variable != '\0') {
    int count = 0;
    const char* end = variable + std::strlen(variable);
    const auto [stop, error] = std::from_chars(variable, end, count);
    if (stop == end && error == std::errc() && count >= 1) return count;
    throw shape_error("MASKMM_NUM_THREADS: expected a number of at least 1, got " + std::string(variable));
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
namespace {

// oneTBB's workers do not exist in a child of fork(), and its locks may be held there for ever. A child of a process
// that had used oneTBB starts threads of its own for each call instead.
std::atomic<bool> tbb_was_used{false};
std::atomic<bool> tbb_is_lost{false};

void after_fork_in_child() {
  if (tbb_was_used.load(std::memory_order_relaxed)) tbb_is_lost.store(true, std::memory_order_relaxed);
}

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, after_fork_in_child);

/// A template, since older versions know no policy: their threads spin.
template <class Arena>
Arena make_arena(int threads, Idle idle) {
  if constexpr (requires { Arena::leave_policy::fast; }) {
    if (idle == Idle::sleep) return Arena(threads, 1, Arena::priority::normal, Arena::leave_policy::fast);
  }
  return Arena(threads);
}

void run_in_arena(int threads, Idle idle, function_ref<void(std::int64_t)> worker) {
  tbb_was_used.store(true, std::memory_order_relaxed);
  auto arena = make_arena<tbb::task_arena>(threads, idle);
  arena.execute([&] { tbb::parallel_for(0, threads, [&](int index) { worker(index); }, tbb::simple_partitioner()); });
}

void run_in_own_threads(int threads, function_ref<void(std::int64_t)> worker) {
  std::mutex mutex;
  std::exception_ptr failure;
  const auto guarded = [&](int index) {
    try {
      worker(index);
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  };
  {
    std::vector<std::jthread> others;
    others.reserve(static_cast<std::size_t>(threads - 1));
    try {
      for (int index = 1; index < threads; ++index) others.emplace_back(guarded, index);
    } catch (const std::system_error&) {
      // Those that could be started, and this one, share the work.
    }
    guarded(0);
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

void parallel_for_unmarked(std::int64_t count, int threads, function_ref<void(std::int64_t)> task, Idle idle) {
  threads = static_cast<int>(std::min<std::int64_t>(threads, count));
  if (threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::atomic<std::int64_t> next{0};
  const auto worker = [&](std::int64_t) {
    try {
      for (std::int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) task(i);
    } catch (...) {
      next.store(count, std::memory_order_relaxed);
      throw;
    }
  };
  if (tbb_is_lost.load(std::memory_order_relaxed)) {
    run_in_own_threads(threads, worker);
  } else {
    run_in_arena(threads, idle, worker);
  }
}

}  // namespace maskmm::cpu
