// What maskmm throws, beside std::bad_alloc. Python maps these to ValueError, TypeError, NotImplementedError and
// RuntimeError.
#pragma once

#include <stdexcept>

namespace maskmm {

/// A shape, size, block size or memory overlap that does not fit (Python: ValueError).
struct shape_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// An element type that is not accepted here (Python: TypeError).
struct type_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// A device that is absent, or that does not fit the other arguments (Python: ValueError).
struct device_error : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

/// Legal, but not built or not possible on this machine (Python: NotImplementedError).
struct unsupported_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// A CUDA call failed (Python: RuntimeError).
struct cuda_error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

}  // namespace maskmm
