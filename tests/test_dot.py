"""block_masked_dot: the cases of block_masked_mm with an x, through every instruction set; properties; bad input."""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
import pytest

import maskmm
from adapters import Adapter, adapters
from case_builders import SPECIALS, Call, numbers, product, with_scales
from cases import CASES, build
from dot_oracle import check_dot
from layouts import LAYOUTS
from oracle import BFLOAT16, FLOATS, Array

HOSTS = {adapter.name: adapter for adapter in adapters() if adapter.name.startswith("numpy")}
# The rest differ from these in what only the product itself sees: the layout and type of its result.
SOME = [
    name
    for name in CASES
    if name.split("/")[0]
    in ("zero", "masks", "density", "long K", "1-D", "batch", "types", "pattern", "poisoned")
    or (name.startswith("block/") and zlib.crc32(name.encode()) % 4 == 0)
    or (name.startswith("extent/") and zlib.crc32(name.encode()) % 3 == 0)
]


def x_of(call: Call, dtype: Any = None) -> Array:
    """An x for the call: of the product's shape and type, without batch axes that only masks bring."""
    rng = np.random.default_rng(7)
    batch = np.broadcast_shapes(call.a.shape[:-2], call.b.shape[:-2])
    shape = (*batch, *call.a.shape[-2:-1][: call.a.ndim - 1], *(call.b.shape[-1:] if call.b.ndim > 1 else ()))
    if dtype is None:
        dtype = call.a.dtype if call.a.dtype in FLOATS else call.b.dtype
    return numbers(rng, shape, dtype)


def dot_of(name: str) -> tuple[Array, Array]:
    """The case's dot, and the same with other threads into a poisoned out."""
    call = build(name)
    x = x_of(call)
    result = maskmm.block_masked_dot(x, call.a, call.b, call.block_size, *call.masks())
    out = np.full(result.shape, np.nan, result.dtype)
    before = maskmm.num_threads()
    for threads in (1, 2, 5):
        maskmm.set_num_threads(threads)
        again = maskmm.block_masked_dot(x, call.a, call.b, call.block_size, *call.masks(), out=out)
        assert again is out
        assert again.tobytes() == result.tobytes(), f"other bits with {threads} threads"
    maskmm.set_num_threads(before)
    return x, result


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("host", HOSTS)
def test_case(name: str, host: str) -> None:
    adapter: Adapter = HOSTS[host]
    x, result = adapter.apply(dot_of, name)
    call = build(name)
    check_dot(result, x, call.a, call.b, call.block_size, *call.masks())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_layouts_of_x(layout: str, dtype: Any) -> None:
    call = with_scales(product(np.random.default_rng(1), 150, 100, 130, 32), np.random.default_rng(2))
    x = LAYOUTS[layout](x_of(call, dtype))
    result = maskmm.block_masked_dot(x, call.a, call.b, 32, *call.masks())
    check_dot(result, x, call.a, call.b, 32, *call.masks())


@pytest.mark.parametrize("x_dtype", [*FLOATS, np.dtype("int8"), np.dtype("bool")], ids=str)
@pytest.mark.parametrize("dtype", [*FLOATS, np.dtype("int16")], ids=str)
def test_types(x_dtype: Any, dtype: Any) -> None:
    if x_dtype not in FLOATS and dtype not in FLOATS:
        with pytest.raises(TypeError):
            maskmm.block_masked_dot(np.ones((2, 2), x_dtype), np.ones((2, 2), dtype), np.ones((2, 2), dtype))
        return
    call = product(np.random.default_rng(3), 70, 90, 80, 16, dtype=dtype)
    x = x_of(call, x_dtype)
    check_dot(
        maskmm.block_masked_dot(x, call.a, call.b, 16, *call.masks()), x, call.a, call.b, 16, *call.masks()
    )


@pytest.mark.parametrize("block", [16, 64, 256])
@pytest.mark.parametrize("scaled", [False, True])
def test_dead_blocks_of_x_are_not_read(block: int, scaled: bool) -> None:
    rng = np.random.default_rng(4)
    call = product(rng, 300, 520, 280, block, "out lhs rhs", 0.4)
    if scaled:
        call = with_scales(call, rng)
    x = x_of(call)
    clean = maskmm.block_masked_dot(x, call.a, call.b, block, *call.masks())
    live = maskmm.block_masked_mm(
        np.ones(call.a.shape, np.float32),
        np.ones(call.b.shape, np.float32),
        block,
        *(m != 0 for m in call.masks()),
    )
    assert (live == 0).any()
    x[live == 0] = rng.choice(SPECIALS, x.shape)[live == 0]
    poisoned = maskmm.block_masked_dot(x, call.a, call.b, block, *call.masks())
    assert poisoned.tobytes() == clean.tobytes()


def test_special_values_arrive() -> None:
    x, ones = np.ones((64, 64), np.float32), np.ones((64, 64), np.float32)
    x[3, 40] = np.inf
    whole = 32 * 32 * 64
    assert maskmm.block_masked_dot(x, ones, ones, 32).tolist() == [[whole, np.inf], [whole, whole]]
    x[3, 41] = -np.inf
    assert np.isnan(maskmm.block_masked_dot(x, ones, ones, 32)[0, 1])


def test_a_nan_mask_out_where_nothing_is_live() -> None:
    ones = np.ones((32, 32), np.float32)
    result = maskmm.block_masked_dot(ones, ones, ones, 32, np.array([[np.nan]]), np.array([[False]]))
    assert result.tolist() == [[0]]


def test_strided_out() -> None:
    call = product(np.random.default_rng(5), 200, 150, 90, 16)
    x = x_of(call)
    expected = maskmm.block_masked_dot(x, call.a, call.b, 16, *call.masks())
    memory = np.full((26, 20), 7, np.float32)
    out = memory[::-2, ::2]
    assert maskmm.block_masked_dot(x, call.a, call.b, 16, *call.masks(), out=out) is out
    assert np.array_equal(out, expected)
    assert (memory[::2] == 7).all()
    assert (memory[:, 1::2] == 7).all()


def test_x_widens_the_batch() -> None:
    call = product(np.random.default_rng(6), 40, 50, 60, 16)
    x = numbers(np.random.default_rng(7), (3, 40, 50))
    result = maskmm.block_masked_dot(x, call.a, call.b, 16, *call.masks())
    for i in range(3):
        alone = maskmm.block_masked_dot(x[i], call.a, call.b, 16, *call.masks())
        assert alone.tobytes() == result[i].tobytes()


def test_bfloat16_x_with_float32() -> None:
    call = product(np.random.default_rng(8), 100, 100, 100, 32)
    x = x_of(call, BFLOAT16)
    check_dot(
        maskmm.block_masked_dot(x, call.a, call.b, 32, *call.masks()), x, call.a, call.b, 32, *call.masks()
    )


ONES = np.ones((64, 96), np.float32)


@pytest.mark.parametrize(
    ("x", "out", "error", "message"),
    [
        (np.ones((64, 95), np.float32), None, ValueError,
         "x: expected (..., 64, 64) as the product of a and b has, got (64, 95)"),
        (np.ones(64, np.float32), None, ValueError,
         "x: expected (..., 64, 64) as the product of a and b has, got (64,)"),
        (np.ones((2, 1, 64), np.float32), None, ValueError,
         "x: expected (..., 64, 64) as the product of a and b has, got (2, 1, 64)"),
        (np.ones((64, 64), np.complex64), None, TypeError,
         "x: expected float16, bfloat16, float32 or float64, got complex64"),
        (None, None, TypeError, "x: expected an array (NumPy, buffer protocol or DLPack), got NoneType"),
        (np.ones((64, 64), np.float32), np.ones((2, 3), np.float32), ValueError,
         "out: expected shape (2, 2), got (2, 3)"),
        (np.ones((64, 64), np.float64), np.ones((2, 2), np.float32), TypeError,
         "out: expected float64, got float32"),
    ],
)  # fmt: skip
def test_bad_input(x: Any, out: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=re.escape(message)):
        maskmm.block_masked_dot(x, ONES, ONES.T, 32, out=out)


def test_batches_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=re.escape("x: batch axes (3,) do not broadcast with (2,)")):
        maskmm.block_masked_dot(np.ones((3, 8, 8)), np.ones((2, 8, 8)), np.ones((8, 8)))


def test_no_float_at_all() -> None:
    x = np.ones((8, 8), int)
    with pytest.raises(
        TypeError, match="x, a, b: expected float16, bfloat16, float32 or float64 for at least one"
    ):
        maskmm.block_masked_dot(x, x, x)


def test_out_must_not_overlap_x() -> None:
    x = np.ones((64, 64), np.float32)
    with pytest.raises(ValueError, match="out: overlaps x in memory"):
        maskmm.block_masked_dot(x, ONES, ONES.T, 32, out=x[:2, :2])
