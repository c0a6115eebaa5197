"""What fronts share: checks of a call while a framework traces, and masks that are no arrays of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

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


def host_mask(name: str, mask: Any) -> Any:
    """A mask that is no array of the operands' framework, as a number or a NumPy array.

    Raises:
        TypeError, ValueError: as the core, for what it would not take either.

    >>> host_mask("mask_lhs", b"ab")
    array([97, 98], dtype=uint8)
    """
    _maskmm.expect_mask(name, mask)
    if isinstance(mask, bool | int | float | np.ndarray):
        return mask
    if isinstance(mask, np.generic):
        return np.asarray(mask)
    try:
        return np.asarray(memoryview(mask))
    except TypeError:
        return np.from_dlpack(mask)
