"""Calls of the extension on tensors that hold numbers: on torch's current stream, with memory of torch's. No gradient,
transform or tracing passes through here.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from maskmm import _abstract, _maskmm
from maskmm._derivatives import INPUTS
from maskmm._maskmm import Device, DeviceType, Stream

if not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    raise ImportError(f"maskmm.torch needs torch 2.10 or newer, got {torch.__version__}")
_maskmm.register_table(torch.Tensor, torch.Tensor.__dlpack_c_exchange_api__)

_RESULTS = {name: getattr(torch, name) for name in ("float16", "bfloat16", "float32", "float64")}
# The same as torch.cuda.current_stream(index).cuda_stream, without making a stream object.
_current_stream: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None) or (
    lambda index: torch.cuda.current_stream(index).cuda_stream
)
_CPU = torch.device("cpu")
_n_dispatch_modes = torch._C._len_torch_dispatch_stack
_n_function_modes = torch._C._len_torch_function_stack
_has_transforms = torch._C._are_functorch_transforms_active
_tracing_state = torch._C._get_tracing_state


def block_masked_mm(a: Any, b: Any, *rest: Any) -> Any:
    """Arguments in the order of the public function; the stream is one of ours."""
    return _call(_maskmm.block_masked_mm_on_device, (a, b, *rest))


def block_masked_dot(x: Any, a: Any, b: Any, *rest: Any) -> Any:
    """The same for maskmm.block_masked_dot."""
    return _call(_maskmm.block_masked_dot_on_device, (x, a, b, *rest))


def explain(a: Any, *rest: Any) -> tuple[Device, str, str, str, int, float, int]:
    function: Any = _maskmm.explain_on_device
    arguments = (*_negated((a, *rest[:-3])), *rest[-3:])
    explanation: tuple[Device, str, str, str, int, float, int] = function(*arguments, _stream_of(a))
    return explanation


def result_type(
    operation: str, tensors: tuple[Any, ...], block_size: Any, precision: Any = "ieee"
) -> tuple[tuple[int, ...], torch.dtype]:
    """The result's shape and type, from shapes and types alone: the tensors may be fakes or wrappers of a transform.

    Raises:
        ValueError, TypeError: as the operation, in the same words.
    """
    named = zip(INPUTS[operation], tensors, strict=True)
    kinds = {
        name: (tuple(x.shape), str(x.dtype).removeprefix("torch.")) for name, x in named if x is not None
    }
    shape, dtype = _abstract.result(operation, kinds, block_size, precision)
    return shape, _RESULTS[dtype]


def has_known_shapes(tensors: tuple[Any, ...]) -> bool:
    """No size is a symbol of a tracer."""
    return all(isinstance(size, int) for x in tensors if x is not None for size in x.shape)


def on_other_device(name: str, x: torch.Tensor, device: torch.device) -> ValueError:
    """What the extension would say: a is on the device, and x is not."""
    own, other = (f"{d.type.replace('cuda', 'gpu')}:{d.index or 0}" for d in (device, x.device))
    return ValueError(f"{name}: expected an array on {own} as a is, got one on {other}")


def check(operation: str, inputs: tuple[Any, ...], block_size: Any, out: Any, precision: Any) -> None:
    """Raises what the call would raise for these tensors in memory."""
    function: Any = _maskmm.result_type if operation == "mm" else _maskmm.dot_result_type
    function(*inputs[:-3], block_size, *inputs[-3:], None, out, precision)


def on_stream(stream: Any) -> AbstractContextManager[Any]:
    """Meanwhile that stream of ours is torch's current one, for its work and its memory."""
    if not isinstance(stream, Stream) or stream.device.type is not DeviceType.gpu:
        return nullcontext()
    kind: Any = torch.cuda.ExternalStream
    context: AbstractContextManager[Any] = torch.cuda.stream(kind(stream.handle, device=stream.device.index))
    return context


def is_watched() -> bool:
    """A mode, a transform of torch.func or a tracer sees every operation."""
    return _n_dispatch_modes() > 0 or _n_function_modes() > 0 or _has_transforms() or is_traced()


def is_traced() -> bool:
    """torch.jit.trace is at work."""
    return _tracing_state() is not None


def is_plain(tensors: tuple[Any, ...]) -> bool:
    """These (None and masks that are no tensors among them) are numbers in memory: no fakes, no wrappers."""
    for x in tensors:
        if x is None:  # asking torch.Tensor whether it is one takes half a microsecond
            continue
        kind = type(x)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            if x.is_meta:
                return False
        elif isinstance(x, torch.Tensor):
            return False
    return True


def _call(function: Any, arguments: tuple[Any, ...]) -> Any:
    stream, out = arguments[-3:-1]
    try:
        if isinstance(stream, Stream) and stream.device.type is DeviceType.gpu:
            with on_stream(stream):
                result = function(*arguments, _stream_of(arguments[0]), _empty)
        else:
            result = function(*arguments, _stream_of(arguments[0]), _empty)
    except TypeError:  # only now are views with a negation still to be done looked for
        inputs = arguments[:-3]
        if out is not None or not any(isinstance(x, torch.Tensor) and x.is_neg() for x in inputs):
            raise
        return _call(function, (*_negated(inputs), *arguments[-3:]))
    if out is None:
        return result
    if not out.is_inference():
        torch.autograd.graph.increment_version(
            out
        )  # who has saved it for a derivative learns that it changed
    return out


def _negated(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Lazy negations carried out: torch's derivatives of complex numbers make such views."""
    return tuple([x.resolve_neg() if isinstance(x, torch.Tensor) else x for x in arguments])


def _stream_of(a: Any) -> int:
    try:
        handle: int = _current_stream(a.get_device()) if a.is_cuda else 0
    except AttributeError:
        raise TypeError(f"a: expected a torch.Tensor, got {type(a).__name__}") from None
    return handle


def _empty(shape: tuple[int, ...], dtype: str, device_index: int) -> tuple[torch.Tensor, int]:
    try:
        device = device_index if device_index >= 0 else _CPU
        # Numbers are parsed faster than a tuple of them.
        result = torch.empty(*shape or ((),), dtype=_RESULTS[dtype], device=device)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(
            words in str(error) for words in ("overflow", "can't allocate", "not enough memory")
        ):
            raise MemoryError(f"no memory for a result of shape {shape}") from error
        raise
    return result, result.data_ptr()
