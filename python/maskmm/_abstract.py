"""Checks of a call before its arrays have elements: while a framework traces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskmm import _maskmm
from maskmm._derivatives import INPUTS


def result(
    operation: str,
    inputs: Mapping[str, tuple[tuple[int, ...], str]],
    block_size: Any = 64,
    precision: Any = "ieee",
) -> tuple[tuple[int, ...], str]:
    """The shape and the type of the result, as the core computes them, with its errors.

    Args:
        operation: "mm" or "dot".
        inputs: shape and NumPy's name of the type, by argument.
        block_size, precision: as the caller gave them.

    >>> result("mm", {"a": ((3, 70, 40), "float16"), "b": ((40,), "int32")}, 32)
    ((3, 70), 'float16')
    """
    views: dict[str, Any] = dict.fromkeys(INPUTS[operation])
    for name, (shape, dtype) in inputs.items():
        views[name] = _maskmm.DeviceView(name, 4096, dtype, shape, (0,) * len(shape), 1, 0)
    x, a, b, out, lhs, rhs = [None, *views.values()][-6:]
    if operation == "dot":
        return _maskmm.dot_result_type(x, a, b, block_size, out, lhs, rhs, None, None, precision)
    return _maskmm.result_type(a, b, block_size, out, lhs, rhs, None, None, precision)
