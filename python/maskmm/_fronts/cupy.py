"""The front for CuPy arrays. Work goes to CuPy's current stream, memory comes from CuPy's pool."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from typing import Any

from maskmm._maskmm import DeviceView, Stream

cupy: Any = importlib.import_module("cupy")


def is_on_gpu(x: Any) -> bool:
    return True


def borrow(name: str, x: Any, stream: int) -> Any:
    if not isinstance(x, cupy.ndarray):
        return x
    return DeviceView(name, x.data.ptr, str(x.dtype), x.shape, x.strides, 1, x.data.device_id)


def borrow_out(out: Any) -> Any:
    return borrow("out", out, 0)


def current_stream(a: Any) -> int:
    handle: int = cupy.cuda.get_current_stream(a.data.device_id).ptr
    return handle


def allocating_on(stream: Stream) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any]
    if hasattr(cupy.cuda.Stream, "from_external"):
        context = cupy.cuda.Stream.from_external(stream)
    else:  # before CuPy 14
        context = cupy.cuda.ExternalStream(stream.handle, stream.device.index)
    return context


def empty(shape: tuple[int, ...], dtype: str, device_index: int) -> tuple[Any, int]:
    with cupy.cuda.Device(device_index):
        try:
            result = cupy.empty(shape, _dtype(dtype))
        except (MemoryError, OverflowError, ValueError) as error:
            raise MemoryError(f"no memory for a result of shape {shape}") from error
    return result, result.data.ptr


def finished(result: Any) -> Any:
    return result


def _dtype(name: str) -> Any:
    return importlib.import_module("ml_dtypes").bfloat16 if name == "bfloat16" else name
