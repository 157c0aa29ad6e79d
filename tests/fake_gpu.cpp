// A guard for a GPU that is not there: remembers which device is current, and asks no driver.
// Loaded by tests/fake_gpu.py; torch's own test guard, registered under the type of CUDA devices.
#include <c10/core/impl/FakeGuardImpl.h>

namespace {
using Guard = c10::impl::FakeGuardImpl<c10::DeviceType::CUDA>;
C10_REGISTER_GUARD_IMPL(CUDA, Guard)
}  // namespace
