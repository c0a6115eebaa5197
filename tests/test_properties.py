"""Random calls: shapes, block sizes, batches, masks, strides and types that nobody thought of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import maskmm
from case_builders import OTHER_TYPES, SPECIALS, Call, grid, numbers
from cases import BLOCKS
from layouts import LAYOUTS
from oracle import FLOATS, Array, check_result, evaluate

SPREADING = ("one_row_spread", "one_column_spread", "one_value_spread", "overlapping_rows")
EXTENTS = st.one_of(
    st.integers(0, 40), st.integers(41, 150), st.sampled_from([15, 16, 17, 63, 64, 65, 127, 128, 129])
)


@st.composite
def batch_shapes(draw: st.DrawFn, count: int) -> list[tuple[int, ...]]:
    """`count` batch shapes that broadcast together."""
    whole = tuple(draw(st.lists(st.sampled_from([1, 1, 2, 3]), max_size=3)))
    return [
        tuple(size if draw(st.booleans()) else 1 for size in whole)[draw(st.integers(0, len(whole))) :]
        for _ in range(count)
    ]


def strided(draw: st.DrawFn, x: Array, layouts: Any) -> Array:
    if x.ndim == 0:
        return x
    if x.ndim == 1:
        step = draw(st.sampled_from([1, 2, -1, -3]))
        spaced = np.zeros(x.size * abs(step) + 1, x.dtype)[1 :: abs(step)][: x.size]
        result: Array = spaced[::-1] if step < 0 else spaced
        result[...] = x
        return result
    name = draw(st.sampled_from(["", *layouts]))
    return LAYOUTS[name](x) if name and x.size else x


@st.composite
def masks(
    draw: st.DrawFn, rng: np.random.Generator, batch: tuple[int, ...], axes: tuple[int, ...]
) -> Array | None:
    """A mask for blocks `axes`, of any type, with axes of size 1, without axes, or none at all."""
    if draw(st.booleans()):
        return None
    shape = batch + tuple(draw(st.sampled_from([size, size, size, 1])) for size in axes)
    shape = shape[draw(st.sampled_from([0, 0, 0, 0, len(shape)])) :]
    dtype = draw(st.sampled_from([np.dtype("?"), np.dtype("?"), *FLOATS, *OTHER_TYPES]))
    kept = rng.random(shape) < draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
    if dtype == np.bool_:
        mask = kept
    elif dtype in FLOATS:
        mask = np.where(kept, rng.choice([1.0, 1.0, -0.5, 3.0, 0.1], shape), -0.0).astype(dtype)
    else:
        mask = (kept * rng.integers(1, 5, shape)).astype(dtype)
    return strided(draw, mask, LAYOUTS)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    M, N, K = draw(EXTENTS), draw(EXTENTS), draw(EXTENTS)
    sizes = draw(st.one_of(st.sampled_from(BLOCKS), st.tuples(*[st.sampled_from(BLOCKS)] * 3)))
    block_m, block_n, block_k = (sizes,) * 3 if isinstance(sizes, int) else sizes
    m, n, k = grid(M, block_m), grid(N, block_n), grid(K, block_k)
    of_a, of_b, of_out, of_lhs, of_rhs = draw(batch_shapes(5))
    has_rows, has_columns = (draw(st.sampled_from([True, True, True, False])) for _ in range(2))
    shape_a = (*of_a, M, K) if has_rows else (K,)
    shape_b = (*of_b, K, N) if has_columns else (K,)

    float_type = draw(st.sampled_from(FLOATS))
    other_type = draw(st.sampled_from([float_type, float_type, *FLOATS, *OTHER_TYPES]))
    types = (float_type, other_type) if draw(st.booleans()) else (other_type, float_type)
    a, b = numbers(rng, shape_a, types[0]), numbers(rng, shape_b, types[1])
    if draw(st.sampled_from([False, False, True])):
        for x in (a, b):
            if x.dtype in FLOATS and x.size:
                where = rng.integers(0, x.size, 3)
                x.reshape(-1)[where] = rng.choice(SPECIALS, 3)
    return Call(
        strided(draw, a, LAYOUTS),
        strided(draw, b, LAYOUTS),
        sizes,
        draw(masks(rng, of_out, ((m,) if has_rows else ()) + ((n,) if has_columns else ()))),
        draw(masks(rng, of_lhs, ((m,) if has_rows else ()) + (k,))),
        draw(masks(rng, of_rhs, (k,) + ((n,) if has_columns else ()))),
    )


def describe(call: Call) -> str:
    lines = [f"block_size {call.block_size}"]
    for name, x in vars(call).items():
        if isinstance(x, np.ndarray):
            lines.append(f"{name}: {x.dtype} {x.shape}, strides {x.strides}")
    return "\n".join(lines)


@given(calls(), st.data())
def test_any_call_is_within_the_bound(call: Call, data: st.DataObject) -> None:
    note(describe(call))
    exact = evaluate(call.a, call.b, call.block_size, *call.masks())
    result = maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks())
    check_result(result, exact)
    out = np.full(result.shape, np.nan, result.dtype)
    if out.size:
        out = strided(data.draw, out, [name for name in LAYOUTS if name not in (*SPREADING, "readonly")])
    threads = data.draw(st.sampled_from([1, 2, 5]))
    before = maskmm.num_threads()
    maskmm.set_num_threads(threads)
    try:
        maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks(), out=out)
    finally:
        maskmm.set_num_threads(before)
    check_result(out, exact)


@given(calls())
def test_transposing_everything_transposes_the_result(call: Call) -> None:
    note(describe(call))
    if call.a.ndim == 1 or call.b.ndim == 1:
        return

    def turned(x: Array | None) -> Array | None:
        return x if x is None or x.ndim == 0 else np.atleast_2d(x).swapaxes(-1, -2)

    sizes = (call.block_size,) * 3 if isinstance(call.block_size, int) else call.block_size
    a, b = turned(call.b), turned(call.a)
    assert a is not None and b is not None
    result = maskmm.block_masked_mm(
        a,
        b,
        (sizes[1], sizes[0], sizes[2]),
        turned(call.mask_out),
        turned(call.mask_rhs),
        turned(call.mask_lhs),
    )
    check_result(result.swapaxes(-1, -2), evaluate(call.a, call.b, call.block_size, *call.masks()))


@st.composite
def views(draw: st.DrawFn, memory: Array, shape: tuple[int, ...]) -> Array:
    """A view of that shape somewhere in the memory, with strides of either sign."""
    strides = [draw(st.integers(-12, 12)) for _ in shape]
    low = sum(min(0, stride * (size - 1)) for stride, size in zip(strides, shape, strict=True))
    high = sum(max(0, stride * (size - 1)) for stride, size in zip(strides, shape, strict=True))
    assume(high - low < memory.size)
    start = draw(st.integers(-low, memory.size - 1 - high))
    return as_strided(memory[start:], shape, [stride * memory.itemsize for stride in strides])


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_overlap_is_found_exactly(data: st.DataObject) -> None:
    M, N, K = (data.draw(st.integers(1, 5)) for _ in range(3))
    memory = np.ones(160, np.float32)
    a, out = data.draw(views(memory, (M, K))), data.draw(views(memory, (M, N)))
    # As slices of an ordinary array are: one axis steps over the whole extent of the other.
    inner, outer = sorted(
        (abs(stride) // 4, size) for stride, size in zip(out.strides, out.shape, strict=True)
    )
    assume(inner[0] > 0 and outer[0] > inner[0] * (inner[1] - 1))
    note(f"a {a.shape} {a.strides}, out {out.shape} {out.strides}")
    b = np.ones((K, N), np.float32)
    if np.shares_memory(a, out):
        with pytest.raises(ValueError, match=r"^out: overlaps a in memory$"):
            maskmm.block_masked_mm(a, b, 16, out=out)
    else:
        assert (maskmm.block_masked_mm(a, b, 16, out=out) == K).all()
