"""Calls on arrays that lie on a GPU: what the fronts for such arrays share that have no module of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Protocol, TypeAlias

from maskmm import _maskmm
from maskmm._maskmm import Device, DeviceType, Stream

Lent: TypeAlias = tuple[
    Any, Any, Any, Any, Any, Any, Any, Any, Any, int
]  # the same as views; the current stream


class Lender(Protocol):
    """What each module of maskmm._fronts offers for its arrays."""

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


class OnDevice:
    """The front (maskmm._choice.Front) of a module of maskmm._fronts. Work is enqueued in the order of the stream."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.takes = lender.is_on_gpu

    def block_masked_mm(self, *arrays: Any, stream: Any, out: Any, precision: Any) -> Any:
        return self._run(_maskmm.block_masked_mm_on_device, (*arrays, stream, out, precision), out)

    def block_masked_dot(self, x: Any, a: Any, *rest: Any, stream: Any, out: Any, precision: Any) -> Any:
        view = self.lender.borrow("x", x, _handle(self.lender, a, stream))
        return self._run(
            partial(_maskmm.block_masked_dot_on_device, view), (a, *rest, stream, out, precision), out
        )

    def explain(self, *arguments: Any) -> tuple[Device, str, str, str, int, float, int]:
        return _maskmm.explain_on_device(*_lend(self.lender, *arguments))

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...], out: Any) -> Any:
        lender, stream = self.lender, arguments[6]
        if isinstance(stream, Stream) and stream.device.type is DeviceType.gpu:
            with lender.allocating_on(stream):
                result = function(*_lend(lender, *arguments), lender.empty)
        else:
            result = function(*_lend(lender, *arguments), lender.empty)
        return lender.finished(result) if out is None else out


def _handle(lender: Lender, a: Any, stream: Any) -> int:
    """The cudaStream_t that the call's work goes to."""
    return stream.handle if isinstance(stream, Stream) else lender.current_stream(a)


def _lend(
    lender: Lender,
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
    current = lender.current_stream(a)
    handle = _handle(lender, a, stream)
    borrow = lender.borrow
    return (
        borrow("a", a, handle),
        borrow("b", b, handle),
        block_size,
        mask_out if mask_out is None else borrow("mask_out", mask_out, handle),
        mask_lhs if mask_lhs is None else borrow("mask_lhs", mask_lhs, handle),
        mask_rhs if mask_rhs is None else borrow("mask_rhs", mask_rhs, handle),
        stream,
        out if out is None else lender.borrow_out(out),
        precision,
        current,
    )
