"""What a result must be, element by element, from the definition alone.

`evaluate` loops over live triples (bi, bj, bk) and never multiplies by a mask that is not live. It computes in a type
wider than the one that the library sums in (float64 for float32, long double for float64), so its own rounding is a
thousandth of the bound that `check_result` holds every element to:

    |out - exact| <= (K_live + 4) * eps * S + half an ulp of the result type + underflow

S is the sum of |scaled products| over live triples, K_live the number of live products, eps that of the accumulating
type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = (np.dtype("float16"), BFLOAT16, np.dtype("float32"), np.dtype("float64"))


@dataclass(frozen=True)
class Exact:
    """The exact result, and what an implementation that sums in `accumulate` may make of it."""

    value: Array  # in the wide type, with NaN and Inf where live triples give them
    magnitude: Array  # S: sum of |scaled products| over live triples
    live_k: NDArray[np.int64]  # products that reach the element
    underflow: Array  # what rounding to multiples of the smallest subnormal may lose
    peak: Array  # largest |intermediate value| of any order of the sums and scales
    live_fraction: float  # live triples / all triples, 0 where there are none
    dtype: np.dtype[Any]  # of the result
    accumulate: np.dtype[Any]

    def error(self) -> Array:
        """The bound, without the final rounding to the result type."""
        return (self.live_k + 4) * np.finfo(self.accumulate).eps * self.magnitude + self.underflow


def promote(a: np.dtype[Any], b: np.dtype[Any]) -> np.dtype[Any]:
    """The result's type: the wider float; float16 with bfloat16 is float32; integers and bool give way."""
    floats = [dtype for dtype in (a, b) if dtype in FLOATS]
    if not floats:
        raise TypeError(f"no float operand: {a} and {b}")
    if len(set(floats)) == 2 and all(dtype.itemsize == 2 for dtype in floats):
        return np.dtype("float32")
    return max(floats, key=lambda dtype: dtype.itemsize)


def evaluate(
    a: Array,
    b: Array,
    block_size: int | tuple[int, int, int] = 64,
    mask_out: Array | None = None,
    mask_lhs: Array | None = None,
    mask_rhs: Array | None = None,
) -> Exact:
    """The exact result of block_masked_mm with these arguments, and the terms of its error bound."""
    dtype = promote(a.dtype, b.dtype)
    accumulate = np.dtype("float64") if dtype == np.float64 else np.dtype("float32")
    wide = np.longdouble if accumulate == np.float64 else np.float64
    block_m, block_n, block_k = (block_size,) * 3 if isinstance(block_size, int) else block_size

    # An added axis of length 1 is invisible in the masks that would have it.
    row_added, column_added = a.ndim == 1, b.ndim == 1
    out_scales = _scales(mask_out, accumulate, wide, row_added, column_added)
    lhs_scales = _scales(mask_lhs, accumulate, wide, row_added, False)
    rhs_scales = _scales(mask_rhs, accumulate, wide, False, column_added)
    with np.errstate(all="ignore"):
        a = _in_type(a, dtype).astype(wide)[(None,) if row_added else ...]
        b = _in_type(b, dtype).astype(wide)[(slice(None), None) if column_added else ...]

    (M, K), N = a.shape[-2:], b.shape[-1]
    grid_m, grid_n, grid_k = -(-M // block_m), -(-N // block_n), -(-K // block_k)
    batch = np.broadcast_shapes(*(x.shape[:-2] for x in (a, b, out_scales, lhs_scales, rhs_scales)))
    a, b = np.broadcast_to(a, (*batch, M, K)), np.broadcast_to(b, (*batch, K, N))
    out_scales = np.broadcast_to(out_scales, (*batch, grid_m, grid_n))
    lhs_scales = np.broadcast_to(lhs_scales, (*batch, grid_m, grid_k))
    rhs_scales = np.broadcast_to(rhs_scales, (*batch, grid_k, grid_n))

    value, magnitude, underflow, peak = (np.zeros((*batch, M, N), wide) for _ in range(4))
    live_k = np.zeros((*batch, M, N), np.int64)
    tiny = wide(np.finfo(accumulate).smallest_subnormal)
    live_triples = 0
    with np.errstate(all="ignore"):
        for index in np.ndindex(*batch):
            for bi, bj in np.ndindex(grid_m, grid_n):
                scale_out = out_scales[index][bi, bj]
                if scale_out == 0:
                    continue
                rows = slice(bi * block_m, min((bi + 1) * block_m, M))
                columns = slice(bj * block_n, min((bj + 1) * block_n, N))
                here = (*index, rows, columns)
                tops = np.zeros((4, rows.stop - rows.start, columns.stop - columns.start), wide)
                for bk in range(grid_k):
                    lhs, rhs = lhs_scales[index][bi, bk], rhs_scales[index][bk, bj]
                    if lhs == 0 or rhs == 0:
                        continue
                    live_triples += 1
                    inner = slice(bk * block_k, min((bk + 1) * block_k, K))
                    a_block, b_block = a[index][rows, inner], b[index][inner, columns]
                    value[here] += lhs * rhs * (a_block @ b_block)
                    absolute = _finite(a_block, 0) @ _finite(b_block, 0)
                    lhs, rhs = _finite(lhs, 1), _finite(rhs, 1)
                    magnitude[here] += lhs * rhs * absolute
                    live_k[here] += inner.stop - inner.start
                    # A product may be off by a subnormal before it is scaled, and so may the product of the scales.
                    underflow[here] += tiny * ((inner.stop - inner.start) * max(1, lhs * rhs) + absolute)
                    tops += np.stack(
                        [absolute, lhs * absolute, rhs * absolute, lhs * rhs * np.maximum(1, absolute)]
                    )
                if live_k[here].any():
                    value[here] *= scale_out
                    magnitude[here] *= _finite(scale_out, 1)
                    underflow[here] = underflow[here] * max(1, _finite(scale_out, 1)) + tiny
                    peak[here] = tops.max(axis=0) * max(1, _finite(scale_out, 1))
    dropped = ((-2,) if row_added else ()) + ((-1,) if column_added else ())
    fields = (np.squeeze(x, dropped) for x in (value, magnitude, live_k, underflow, peak))
    triples = int(np.prod(batch, dtype=np.int64)) * grid_m * grid_n * grid_k
    return Exact(*fields, live_triples / max(triples, 1), dtype, accumulate)


def check_result(out: Array, exact: Exact) -> None:
    """Raises AssertionError, naming the worst element, where `out` is not a permitted result."""
    assert isinstance(out, np.ndarray), f"expected an ndarray, got {type(out)}"
    assert out.dtype == exact.dtype, f"expected dtype {exact.dtype}, got {out.dtype}"
    assert out.shape == exact.value.shape, f"expected shape {exact.value.shape}, got {out.shape}"
    got, value = out.astype(exact.value.dtype), exact.value
    finite = np.isfinite(value)
    with np.errstate(all="ignore"):
        error = exact.error()
        limit = overflow_limit(exact.dtype)
        distance = np.abs(got - value)
        permitted = error + ulp(np.abs(value) + error, exact.dtype) / 2
        near = np.isfinite(got) & (distance <= permitted) & (np.abs(value) - error < limit)
        overflowed = (got == np.copysign(np.inf, value)) & (np.abs(value) + error >= limit)
        # An intermediate sum may overflow where the scales or a cancellation bring the exact result back.
        strayed = ~np.isfinite(got) & (exact.peak * 1.001 > np.finfo(exact.accumulate).max)
        same_class = np.where(np.isnan(value), np.isnan(got), got == value)
        right = np.where(finite, near | overflowed, same_class) | strayed
    positive_zero = (got == 0) & ~np.signbit(got)
    right = np.where(exact.live_k == 0, positive_zero, right)
    if right.all():
        return
    excess = np.where(
        right, -1.0, np.nan_to_num(distance / permitted, nan=np.inf, posinf=np.inf).astype(np.float64)
    )
    worst = np.unravel_index(int(excess.argmax()), right.shape)
    raise AssertionError(
        f"{(~right).sum()} of {right.size} elements are wrong; at {tuple(int(i) for i in worst)}: got {got[worst]}, "
        f"exact {value[worst]}, off by {distance[worst]}, permitted {permitted[worst]} (live products "
        f"{exact.live_k[worst]}, S {exact.magnitude[worst]}); wrong ones lie in {_box(~right)}"
    )


def ulp(x: Array, dtype: np.dtype[Any]) -> Array:
    """The distance of neighbouring values of `dtype` at |x|."""
    info = ml_dtypes.finfo(dtype)
    exponent = np.maximum(np.where(x == 0, int(info.minexp), np.frexp(x)[1] - 1), int(info.minexp))
    return np.ldexp(np.ones_like(x), exponent - int(info.nmant))


def overflow_limit(dtype: np.dtype[Any]) -> Any:
    """The smallest magnitude that rounds to infinity."""
    largest = np.longdouble(ml_dtypes.finfo(dtype).max)
    return largest + ulp(largest, dtype) / 2


def _in_type(operand: Array, dtype: np.dtype[Any]) -> Array:
    if operand.dtype == np.bool_:
        operand = np.not_equal(operand.view(np.uint8), 0)
    # An integer beside a float takes that float's type; floats only ever widen.
    return operand.astype(dtype)


def _scales(
    mask: Array | None, accumulate: np.dtype[Any], wide: Any, row_added: bool, column_added: bool
) -> Array:
    """The mask's values in the type that sums run in, then widened; with the axes that 1-D operands hide."""
    if mask is None:
        return np.ones((1, 1), wide)
    with np.errstate(all="ignore"):
        scales = (
            (mask.view(np.uint8) != 0 if mask.dtype == np.bool_ else mask).astype(accumulate).astype(wide)
        )
    if scales.ndim > 0 or (row_added and column_added):
        if column_added:
            scales = scales[..., None]
        if row_added:
            scales = scales[..., None, :]
    return scales.reshape((1,) * (2 - scales.ndim) + scales.shape)


def _finite(x: Any, instead: int) -> Any:
    """|x|, with another value where x is not finite."""
    return np.where(np.isfinite(x), np.abs(x), instead)


def _box(wrong: NDArray[np.bool_]) -> str:
    """The smallest index ranges that hold all wrong elements."""
    where = np.nonzero(wrong)
    return "[" + ", ".join(f"{int(axis.min())}:{int(axis.max()) + 1}" for axis in where) + "]"
