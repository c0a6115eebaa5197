"""What block_masked_dot must give, block by block, from the definition: the oracle's product, times x, summed.

The bound of a block is that of its elements, carried through the sum, and the rounding of a sum of m * n terms:

    |dot - exact| <= sum |x| * (error of the product's element) + (m * n + 4) * eps * sum |x| * S + underflow
"""

from __future__ import annotations

from typing import Any

import numpy as np

from oracle import FLOATS, Array, evaluate, promote


def check_dot(
    dot: Array,
    x: Array,
    a: Array,
    b: Array,
    block_size: int | tuple[int, int, int] = 64,
    mask_out: Array | None = None,
    mask_lhs: Array | None = None,
    mask_rhs: Array | None = None,
) -> None:
    """Raises AssertionError where `dot` is not a permitted result."""
    types = [array.dtype for array in (x, a, b)]
    operand = promote(a.dtype, b.dtype) if a.dtype in FLOATS or b.dtype in FLOATS else x.dtype
    accumulate = np.dtype("float64") if np.dtype("float64") in types else np.dtype("float32")
    # Integers become the operands' type; floats only ever widen.
    x, a, b = (array if array.dtype in FLOATS else _as(array, operand) for array in (x, a, b))
    if accumulate == np.float64:
        a, b = a.astype(accumulate), b.astype(accumulate)
    # mask_out says what is live; it scales the blocks' sums at the end.
    live_out = None if mask_out is None else _as(mask_out, accumulate) != 0
    product = evaluate(a, b, block_size, live_out, mask_lhs, mask_rhs)
    wide = product.value.dtype
    x = x.astype(wide)
    block_m, block_n = (block_size,) * 2 if isinstance(block_size, int) else block_size[:2]
    live = product.live_k > 0
    axes = ([] if a.ndim == 1 else [-2 if b.ndim > 1 else -1]) + ([] if b.ndim == 1 else [-1])
    blocks = ([] if a.ndim == 1 else [block_m]) + ([] if b.ndim == 1 else [block_n])

    def total(terms: Array) -> Array:
        terms = np.where(live, terms, 0)
        for axis, block in zip(axes, blocks, strict=True):
            terms = np.add.reduceat(terms, np.arange(0, terms.shape[axis], block), axis=axis)
        return terms

    with np.errstate(all="ignore"):
        scale = np.ones((), wide) if mask_out is None else _as(mask_out, accumulate).astype(wide)
        exact = total(x * product.value)
        exact = np.where(total(live.astype(wide)) > 0, exact * scale, 0)
        size = np.abs(x * product.magnitude)
        eps, tiny = np.finfo(accumulate).eps, np.finfo(accumulate).smallest_subnormal
        error = total(np.abs(x) * product.error() + tiny) + (block_m * block_n + 4) * eps * total(size)
        error = error * np.abs(scale) + tiny
    assert dot.dtype == accumulate, f"expected {accumulate}, got {dot.dtype}"
    assert dot.shape == exact.shape, f"expected shape {exact.shape}, got {dot.shape}"
    got = dot.astype(wide)
    with np.errstate(all="ignore"):
        near = np.abs(got - exact) <= error
    same_class = np.where(np.isnan(exact), np.isnan(got), got == exact)
    dead = total(live.astype(wide)) == 0
    positive_zero = (got == 0) & ~np.signbit(got)
    right = np.where(dead, positive_zero, np.where(np.isfinite(exact), near, same_class))
    assert right.all(), (
        f"{(~right).sum()} of {right.size} blocks are wrong: got {got[~right][:3]}, exact {exact[~right][:3]}, "
        f"permitted {np.broadcast_to(error, exact.shape)[~right][:3]}"
    )


def _as(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array in another type; a bool's nonzero byte is 1."""
    if array.dtype == np.bool_:
        array = array.view(np.uint8) != 0
    with np.errstate(all="ignore"):
        return array.astype(dtype)
