// Threads. The library behind them is known to parallel.cpp alone.
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>
#include <utility>

namespace maskmm::cpu {

/// A reference to something callable that lives longer than the call.
template <class Signature>
class function_ref;

template <class Result, class... Args>
class function_ref<Result(Args...)> {
 public:
  template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, function_ref>)
  function_ref(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))), call_([](void* object, Args... args) {
          return (*static_cast<std::remove_reference_t<F>*>(object))(std::forward<Args>(args)...);
        }) {}
  Result operator()(Args... args) const { return call_(object_, std::forward<Args>(args)...); }

 private:
  void* object_;
  Result (*call_)(void*, Args...);
};

/// What threads do after their work. One that spins is there at once for a call right behind, but yields a processor
/// that others want so often that it gets it back a millisecond or more too late; one that sleeps takes some 15 us to
/// wake.
enum class Idle { spin, sleep };

/// Calls task(0), ..., task(count - 1), each once, on at most `threads` threads, the caller's among them. Tasks are
/// handed out in ascending order to whoever is free. With one thread or one task everything runs on the caller's.
/// Rethrows the first exception of a task; tasks that have not started by then are left out.
void parallel_for_unmarked(std::int64_t count, int threads, function_ref<void(std::int64_t)> task, Idle idle);

#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);

/// The thread sanitizer cannot see how oneTBB hands work over, so it is told here. Nothing of the object may be read
/// before the acquire, hence the addresses.
struct MarkedTask {
  function_ref<void(std::int64_t)> task;
  char begin, end;

  void operator()(std::int64_t i) {
    __tsan_acquire(&begin);
    task(i);
    __tsan_release(&end);
  }
};

inline void parallel_for(std::int64_t count, int threads, function_ref<void(std::int64_t)> task,
                         Idle idle = Idle::spin) {
  MarkedTask marked{task, 0, 0};
  __tsan_release(&marked.begin);
  parallel_for_unmarked(count, threads, marked, idle);
  __tsan_acquire(&marked.end);
}
#else
inline void parallel_for(std::int64_t count, int threads, function_ref<void(std::int64_t)> task,
                         Idle idle = Idle::spin) {
  parallel_for_unmarked(count, threads, task, idle);
}
#endif

}  // namespace maskmm::cpu
