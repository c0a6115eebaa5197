// Work without the interpreter's lock.
#pragma once

#include <Python.h>
#include <unistd.h>

namespace maskmm::python {

/// Until Python 3.14, a daemon thread that asks for the lock while the interpreter shuts down is ended by pthread_exit,
/// whose unwinding must not run into destructors that touch Python objects, nor into nanobind. Such a thread waits here
/// for the end of the process instead, as Python 3.14 has it.
class LastStop {
 public:
  ~LastStop() {
    while (armed_) pause();
  }
  void disarm() { armed_ = false; }

 private:
  bool armed_ = true;
};

inline void acquire_gil(PyThreadState* state) {
  LastStop last_stop;
  PyEval_RestoreThread(state);
  last_stop.disarm();
}

/// Calls work() without the lock; it must not touch Python objects. Returns, or throws, with the lock.
template <class Work>
void without_gil(Work work) {
  PyThreadState* const state = PyEval_SaveThread();
  try {
    work();
  } catch (...) {
    acquire_gil(state);
    throw;
  }
  acquire_gil(state);
}

}  // namespace maskmm::python
