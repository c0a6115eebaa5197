// The CUDA back end of a build without CUDA: no device, and an error that says how to get one.
#include "core/backend.hpp"
#include "maskmm/error.hpp"

namespace maskmm::cuda {
namespace {

[[noreturn]] void refuse() {
  throw unsupported_error("this maskmm was built without CUDA; build it with -DMASKMM_CUDA=ON and nvcc 13");
}

}  // namespace

int device_count() { return 0; }
void run(const core::Canonical&, const Stream&, core::ScratchSource*) { refuse(); }
Explanation explain(const core::Canonical&, const Stream&) { refuse(); }
void sum_axes(const View&, const MutableView&, const Stream&) { refuse(); }
Stream new_stream(Device) { refuse(); }
void synchronize(const Stream&) { refuse(); }
std::shared_ptr<void> allocate(std::size_t, const Stream&) { refuse(); }
void copy(void*, Device, const void*, Device, std::size_t) { refuse(); }

}  // namespace maskmm::cuda
