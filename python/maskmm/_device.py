"""Calls on arrays that lie on a GPU: what all fronts for such arrays share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias

from maskmm import _maskmm
from maskmm._maskmm import Device, DeviceType, Stream

Arguments: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any, Any]  # of block_masked_mm, in order
Lent: TypeAlias = tuple[
    Any, Any, Any, Any, Any, Any, Any, Any, Any, int
]  # the same as views; the current stream


class Front(Protocol):
    """What each module of maskmm._fronts offers for its arrays."""

    def is_own(self, x: Any, /) -> bool:
        """Whether x is an array of this framework, wherever it lies."""

    def is_on_gpu(self, x: Any, /) -> bool:
        """Whether x, an array of this framework, lies on a GPU."""

    def borrow(self, name: str, x: Any, stream: int, /) -> Any:
        """A DeviceView of x, whose elements are ready on the stream (a cudaStream_t). What does not lie on a GPU is
        returned as it is: the extension judges it.
        """

    def borrow_out(self, out: Any, /) -> Any:
        """The same for an array to write to."""

    def current_stream(self, a: Any, /) -> int:
        """The cudaStream_t that work on a's device goes to where the caller names none."""

    def allocating_on(self, stream: Stream, /) -> AbstractContextManager[Any]:
        """Meanwhile the framework allocates in the order of that stream."""

    @property
    def empty(self) -> Any:
        """``empty(shape, dtype, device_index)`` is an uninitialised row-major array and its address. None: the
        extension allocates, and waits for the stream.
        """

    def finished(self, result: Any, /) -> Any:
        """What the caller gets for what the extension returned."""


def block_masked_mm(front: Front, arguments: Arguments, out: Any) -> Any:
    """maskmm.block_masked_mm for arrays on a GPU. The work is enqueued in the order of the stream."""
    return _run(front, _maskmm.block_masked_mm_on_device, arguments, out)


def block_masked_dot(front: Front, x: Any, arguments: Arguments, out: Any) -> Any:
    """maskmm.block_masked_dot for arrays on a GPU; `arguments` are those without x."""
    handle = _handle(front, arguments[0], arguments[6])
    return _run(
        front, partial(_maskmm.block_masked_dot_on_device, front.borrow("x", x, handle)), arguments, out
    )


def explain(front: Front, arguments: Arguments) -> tuple[Device, str, str, str, int, float, int]:
    """What maskmm.explain needs, for arrays on a GPU."""
    return _maskmm.explain_on_device(*_lend(front, *arguments))


def _run(front: Front, function: Callable[..., Any], arguments: Arguments, out: Any) -> Any:
    stream = arguments[6]
    if isinstance(stream, Stream) and stream.device.type is DeviceType.gpu:
        with front.allocating_on(stream):
            result = function(*_lend(front, *arguments), front.empty)
    else:
        result = function(*_lend(front, *arguments), front.empty)
    return front.finished(result) if out is None else out


def _handle(front: Front, a: Any, stream: Any) -> int:
    """The cudaStream_t that the call's work goes to."""
    return stream.handle if isinstance(stream, Stream) else front.current_stream(a)


def _lend(
    front: Front,
    a: Any,
    b: Any,
    block_size: Any,
    mask_out: Any,
    mask_lhs: Any,
    mask_rhs: Any,
    stream: Any,
    out: Any,
    precision: Any,
) -> Lent:
    current = front.current_stream(a)
    handle = stream.handle if isinstance(stream, Stream) else current
    borrow = front.borrow
    return (
        borrow("a", a, handle),
        borrow("b", b, handle),
        block_size,
        mask_out if mask_out is None else borrow("mask_out", mask_out, handle),
        mask_lhs if mask_lhs is None else borrow("mask_lhs", mask_lhs, handle),
        mask_rhs if mask_rhs is None else borrow("mask_rhs", mask_rhs, handle),
        stream,
        out if out is None else front.borrow_out(out),
        precision,
        current,
    )
