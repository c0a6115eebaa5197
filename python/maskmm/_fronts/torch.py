"""The front for torch tensors on a GPU. Work goes to torch's current stream, memory comes from torch's allocator."""

from __future__ import annotations

import importlib
from contextlib import AbstractContextManager
from typing import Any

from maskmm._maskmm import DeviceView, Stream

torch: Any = importlib.import_module("torch")

_dtypes: dict[Any, str] = {}  # torch.float32: "float32"
# The same as torch.cuda.current_stream(index).cuda_stream, without making a stream object.
_current_stream: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
    lambda index: torch.cuda.current_stream(index).cuda_stream
)
_results = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}


def is_own(x: Any) -> bool:
    return isinstance(x, torch.Tensor)


def is_on_gpu(x: Any) -> bool:
    return bool(x.is_cuda)


def borrow(name: str, x: Any, stream: int) -> Any:
    if not isinstance(x, torch.Tensor) or not x.is_cuda:
        return x
    if x.requires_grad and torch.is_grad_enabled():
        raise TypeError(
            f"{name}: requires grad, and block_masked_mm has no gradients for torch; pass {name}.detach() or call it "
            "under torch.no_grad()"
        )
    dtype = _dtypes.get(x.dtype)
    if dtype is None:
        dtype = _dtypes[x.dtype] = str(x.dtype).removeprefix("torch.")
    try:
        view = DeviceView(name, x.data_ptr(), dtype, x.shape, x.stride(), 0, x.get_device())
    except (RuntimeError, AttributeError) as error:  # sparse, nested, or without memory: of vmap, of tracing
        kind = f"{type(x).__name__} of layout {str(x.layout).removeprefix('torch.')}"
        raise TypeError(f"{name}: expected a tensor with strided elements in memory, got a {kind}") from error
    if x.is_neg():
        raise TypeError(f"{name}: a view with a negation still to be done; pass {name}.resolve_neg()")
    return view


def borrow_out(out: Any) -> Any:
    return borrow("out", out, 0)


def current_stream(a: Any) -> int:
    # A tensor on the CPU is refused later, by name.
    handle: int = _current_stream(a.get_device()) if a.is_cuda else 0
    return handle


def allocating_on(stream: Stream) -> AbstractContextManager[Any]:
    context: AbstractContextManager[Any] = torch.cuda.stream(
        torch.cuda.ExternalStream(stream.handle, device=stream.device.index)
    )
    return context


def empty(shape: tuple[int, ...], dtype: str, device_index: int) -> tuple[Any, int]:
    try:
        result = torch.empty(shape, dtype=_results[dtype], device=device_index)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "overflow" in str(error):
            raise MemoryError(f"no memory for a result of shape {shape}") from error
        raise
    return result, result.data_ptr()


def finished(result: Any) -> Any:
    return result
