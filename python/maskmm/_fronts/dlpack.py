"""The front for whatever offers DLPack on a GPU and has no front of its own.

The exporter makes the elements ready on the stream of the call, by default the device's default stream; the call is
finished when it returns. The result is an object that offers DLPack and nothing else: pass it to the from_dlpack of any
framework.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from maskmm._maskmm import DeviceView, Stream, expect_dtype

GPU_MEMORY = (2, 13)  # kDLCUDA, kDLCUDAManaged

empty = None


def is_on_gpu(x: Any) -> bool:
    try:
        return x.__dlpack_device__()[0] in GPU_MEMORY
    except Exception:  # what offers no DLPack is for others to refuse
        return False


def borrow(name: str, x: Any, stream: int) -> Any:
    if not is_on_gpu(x):
        return x
    dtype = str(getattr(x, "dtype", "?"))
    if dtype != "?":
        expect_dtype(name, dtype)
    ready_on = stream or 1  # DLPack's number of the legacy default stream
    try:
        try:
            capsule = x.__dlpack__(stream=ready_on, max_version=(1, 1))
        except TypeError:  # from before DLPack 1.0
            capsule = x.__dlpack__(stream=ready_on)
    except Exception as error:
        raise TypeError(f"{name}: no access through DLPack: {error}") from error
    return DeviceView.from_dlpack(name, capsule, dtype)


def borrow_out(out: Any) -> Any:
    raise TypeError(f"out: expected a torch.Tensor or a cupy.ndarray, got {type(out).__name__}")


def current_stream(a: Any) -> int:
    return 0


def allocating_on(stream: Stream) -> AbstractContextManager[Any]:
    return nullcontext()


def finished(result: Any) -> Any:
    return result
