"""``maskmm.block_masked_mm``, ``block_masked_dot`` and ``explain`` for torch tensors."""

from __future__ import annotations

import operator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from maskmm import _abstract, _derivatives
from maskmm._choice import as_stream
from maskmm._maskmm import Device, DeviceType, Stream
from maskmm.torch import _direct
from maskmm.torch._autograd import Settings, differentiated, dot, is_differentiated, mm
from maskmm.torch._direct import explain

__all__ = ["block_masked_dot", "block_masked_mm", "explain", "takes"]


_NUMBERS, _GRADIENTS, _GENERAL = range(3)  # ways of a call
_HOST = torch.device("cpu")
_MASKS = ("mask_out", "mask_lhs", "mask_rhs")
_is_any_autocast_enabled = torch._C._is_any_autocast_enabled
_is_grad_enabled = torch.is_grad_enabled
_has_transforms = torch._C._are_functorch_transforms_active


def takes(x: Any) -> bool:
    return True


def block_masked_mm(
    a: Tensor,
    b: Tensor,
    /,
    block_size: int | tuple[int, int, int] = 64,
    mask_out: Any = None,
    mask_lhs: Any = None,
    mask_rhs: Any = None,
    *,
    stream: Any = None,
    out: Tensor | None = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Tensor:
    """``maskmm.block_masked_mm`` for torch tensors on the CPU or on a CUDA GPU::

        out[bi,bj] = mask_out[bi,bj] * sum over live bk of
                     mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj])

    It can be differentiated with respect to a, b and every floating mask, in reverse and forward mode to any
    order, and works under ``torch.func``, ``torch.vmap``, ``torch.compile(fullgraph=True)`` and
    ``torch.export``. Each derivative is a block-masked product or its block-wise reduction, so it skips the
    same blocks. The gradient of a mask is defined where the mask is zero too. A gradient has the type of its
    input; its bits do not change from run to run, and do not depend on which others are asked for.

    Strided tensors of any layout are taken without a copy, expanded and transposed ones among them.

    Args:
        a: (..., M, K), or (K,).
        b: (..., K, N), or (K,), on the device of a. The types promote as in ``torch.matmul``; an integer or
            bool type does only beside a float one, and has no gradient.
        block_size: rows, columns and inner elements of a block, one for all or ``(m, n, k)``; each 16, 32, 64,
            128 or 256.
        mask_out: (..., ceil(M/m), ceil(N/n)): a tensor on the device of a, or on the CPU, or a NumPy array or a
            number. bool and integer types have no gradient.
        mask_lhs: (..., ceil(M/m), ceil(K/k)), the same.
        mask_rhs: (..., ceil(K/k), ceil(N/n)), the same.
        stream: where to enqueue the work on a GPU: torch's current stream where it is None. Memory is
            allocated, and derivatives run, in the order of that stream. Not under torch.compile.
        out: a tensor of the result's shape, type and device that is written and returned. Refused where a
            gradient is asked for.
        precision: "ieee", or "tf32" to let float32 use TF32 tensor cores; derivatives too.

    Under ``torch.autocast`` of a's device, floating a and b other than float64 are first cast to autocast's type,
    as for ``torch.matmul``; masks are not, since they scale sums in float32.

    Returns:
        (..., M, N) of the promoted type of a and b.

    Raises:
        ValueError, TypeError, MemoryError: as ``maskmm.block_masked_mm``.

    >>> import torch, maskmm
    >>> a, b = torch.ones(64, 128), torch.ones(128, 64, requires_grad=True)
    >>> mask = torch.tensor([[0.0, 2.0]], requires_grad=True)  # a's blocks, 1 x 2 of 64 x 64
    >>> maskmm.torch.block_masked_mm(a, b, mask_lhs=mask).sum().backward()
    >>> b.grad[[0, 64], 0]
    tensor([  0., 128.])
    >>> mask.grad
    tensor([[262144., 262144.]])
    """
    result: Tensor
    way = _way_of((a, b, mask_out, mask_lhs, mask_rhs, out))
    if way == _GENERAL or _is_any_autocast_enabled():
        a, b = _autocast(a, b)
    if way == _NUMBERS:
        result = _direct.block_masked_mm(
            a, b, block_size, mask_out, mask_lhs, mask_rhs, as_stream(stream), out, precision
        )
        return result
    tensors = (a, b, mask_out, mask_lhs, mask_rhs)
    if way == _GRADIENTS and out is None and stream is None and _need_nothing(tensors):
        return differentiated("mm", tensors, Settings(_sizes(block_size), precision))
    inputs = {"a": a, "b": b, "mask_out": mask_out, "mask_lhs": mask_lhs, "mask_rhs": mask_rhs}
    result = _differentiable("mm", mm, inputs, block_size, stream, out, precision)
    return result


def block_masked_dot(
    x: Tensor,
    a: Tensor,
    b: Tensor,
    /,
    block_size: int | tuple[int, int, int] = 64,
    mask_out: Any = None,
    mask_lhs: Any = None,
    mask_rhs: Any = None,
    *,
    stream: Any = None,
    out: Tensor | None = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Tensor:
    """``maskmm.block_masked_dot`` for torch tensors: the sum of x * (a @ b) over each block of the product,
    scaled by mask_out. All else is as for ``block_masked_mm``, but that autocast changes nothing.

    >>> import torch, maskmm
    >>> x = torch.ones(64, 128, requires_grad=True)
    >>> maskmm.torch.block_masked_dot(x, torch.ones(64, 32), torch.ones(32, 128))
    tensor([[131072., 131072.]], grad_fn=<_DotBackward>)
    """
    result: Tensor
    way = _way_of((x, a, b, mask_out, mask_lhs, mask_rhs, out))
    if way == _NUMBERS:
        result = _direct.block_masked_dot(
            x, a, b, block_size, mask_out, mask_lhs, mask_rhs, as_stream(stream), out, precision
        )
        return result
    _expect_tensors(x=x, a=a, b=b)
    tensors = (x, a, b, mask_out, mask_lhs, mask_rhs)
    if way == _GRADIENTS and out is None and stream is None and _need_nothing(tensors):
        return differentiated("dot", tensors, Settings(_sizes(block_size), precision))
    inputs = {"x": x, "a": a, "b": b, "mask_out": mask_out, "mask_lhs": mask_lhs, "mask_rhs": mask_rhs}
    result = _differentiable("dot", dot, inputs, block_size, stream, out, precision)
    return result


def _way_of(arguments: tuple[Any, ...]) -> int:
    """_NUMBERS: in and out. _GRADIENTS: of tensors that hold numbers, in reverse mode. _GENERAL: tangents, transforms
    or tracing are at work. One loop for what is_differentiated and is_plain ask: this is a twentieth of a small call.
    """
    if torch.compiler.is_compiling() or _direct.is_watched() or forward_ad._current_level >= 0:
        return _GENERAL
    with_gradients = _is_grad_enabled()
    way = _NUMBERS
    for x in arguments:
        if x is None:
            continue
        kind = type(x)
        if kind is Tensor or kind is Parameter:
            if x.is_meta:
                return _GENERAL
            if with_gradients and x.requires_grad:
                way = _GRADIENTS
        elif isinstance(x, Tensor) or any(x is operand for operand in arguments[:-4]):
            return _GENERAL
    return way


def _need_nothing(tensors: tuple[Any, ...]) -> bool:
    """Two axes or more each, in memory of one device: _differentiable would pass them on as they are."""
    place = tensors[0].get_device()
    for x in tensors:
        if x is None:
            continue
        if not isinstance(x, Tensor) or x.dim() < 2 or x.is_nested or x.get_device() != place:
            return False
    return True


def _expect_tensors(**operands: Any) -> None:
    for name, x in operands.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")


def _autocast(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Of autocast's type, where that is on for a's device."""
    _expect_tensors(a=a, b=b)
    device = a.device.type
    if device not in ("cpu", "cuda") or not torch.is_autocast_enabled(device):
        return a, b
    dtype = torch.get_autocast_dtype(device)

    def cast(x: Tensor) -> Tensor:
        return x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x

    return cast(a), cast(b)


def _differentiable(
    operation: str,
    function: Any,
    inputs: dict[str, Any],
    block_size: Any,
    stream: Any,
    out: Any,
    precision: Any,
) -> Any:
    if out is not None and is_differentiated((*inputs.values(), out)):
        raise TypeError(
            "out: expected none where a gradient is asked for; call it under torch.no_grad(), or without out"
        )
    if out is not None and not torch.compiler.is_compiling() and not _has_transforms():
        tensors = tuple(inputs.values())
        if _direct.is_plain((*tensors, out)):
            _direct.check(operation, tensors, block_size, out, precision)
    sizes = _sizes(block_size)
    result_axes, has_all_axes, device = None, True, inputs["a"].device
    for name, x in inputs.items():
        if x is not None:
            if name in _MASKS:
                inputs[name] = x = _as_tensor(name, x, device)
            if x.is_nested:
                raise TypeError(
                    f"{name}: expected a tensor with strided elements in memory, got a nested one"
                )
            has_all_axes = has_all_axes and x.dim() >= 2
    if not has_all_axes:
        inputs, result_axes = _canonical(operation, inputs, sizes)
    settings = Settings(sizes, precision)
    if stream is None:
        result = function(*inputs.values(), settings)
    elif torch.compiler.is_compiling():
        raise TypeError("stream: expected None under torch.compile; call it within torch.cuda.stream(...)")
    else:
        with _direct.on_stream(_checked_stream(as_stream(stream), device)):
            result = function(*inputs.values(), settings)
    if result_axes is not None:
        result = result.reshape(_derivatives.result_shape(tuple(result.shape), *result_axes))
    if out is None:
        return result
    if out.shape != result.shape:
        raise ValueError(f"out: expected shape {tuple(result.shape)}, got {tuple(out.shape)}")
    if out.dtype != result.dtype:
        expected, got = (str(x.dtype).removeprefix("torch.") for x in (result, out))
        raise TypeError(f"out: expected {expected}, got {got}")
    return out.copy_(result)


def _checked_stream(stream: Any, device: torch.device) -> Any:
    """The stream, which must be one of ours on that device: derivatives do not show it to the extension."""
    if not isinstance(stream, Stream | Device | DeviceType):
        kind = type(stream).__name__
        raise TypeError(f"stream: expected a Stream, a Device, a DeviceType or None, got {kind}")
    place = stream.device if isinstance(stream, Stream) else stream
    place = place if isinstance(place, Device) else Device(place)
    own = Device(DeviceType.gpu, device.index) if device.type == "cuda" else Device(DeviceType.cpu)
    if place != own:
        names = (f"{d.type.name}:{d.index}" for d in (own, place))
        raise ValueError("stream: expected one on {} as a is, got {}".format(*names))
    return stream


def _canonical(
    operation: str, inputs: dict[str, Any], sizes: tuple[int, int, int]
) -> tuple[dict[str, Any], tuple[int, int]]:
    """Axes of size 1 are added, so that operands and masks have two or more; the number of axes of a and b."""
    n_axes = inputs["a"].dim(), inputs["b"].dim()
    tensors = tuple(inputs.values())
    if not torch.compiler.is_compiling() and _direct.has_known_shapes(tensors):
        _direct.result_type(operation, tensors, sizes)  # for the message, which shows the shapes as they came
    shapes = {name: tuple(x.shape) for name, x in inputs.items() if x is not None}
    reshaped = _derivatives.canonical_shapes(operation, shapes)
    return {name: x if x is None else x.reshape(reshaped[name]) for name, x in inputs.items()}, n_axes


def _sizes(block_size: Any) -> Any:
    if isinstance(block_size, tuple):
        return block_size
    if isinstance(block_size, bool) or not hasattr(block_size, "__index__"):
        kind = type(block_size).__name__
        raise TypeError(f"block_size: expected an int or a tuple of three ints (m, n, k), got {kind}")
    return (operator.index(block_size),) * 3


def _as_tensor(name: str, mask: Any, device: torch.device) -> Tensor:
    """A mask that came as a NumPy array or a number, or that lies on the host, as a tensor on the device."""
    if isinstance(mask, Tensor):
        if mask.device not in (device, _HOST):
            raise _direct.on_other_device(name, mask, device)
        return mask if mask.device == device else mask.to(device)
    if torch.compiler.is_compiling():
        if not isinstance(mask, np.ndarray | bool | int | float):
            kind = type(mask).__name__
            raise TypeError(f"{name}: expected a tensor, a NumPy array or a number, got {kind}")
        return torch.as_tensor(mask, device=device, dtype=torch.float64 if isinstance(mask, float) else None)
    mask = _abstract.host_mask(name, mask)
    if isinstance(mask, bool | int | float):
        return torch.tensor(mask, device=device, dtype=torch.float64 if isinstance(mask, float) else None)
    array = np.array(mask, order="C")
    if array.dtype.name == "bfloat16":  # of ml_dtypes
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)
