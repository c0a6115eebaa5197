"""Memory that may not be touched, sizes beyond 32 bits, and the memory that a call may use."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import maskmm
from adapters import Adapter, isolated_adapters
from case_builders import Call, grid
from cases import CASES, build
from guard_pages import PAGE, beside_a_guard, with_dead_pages
from oracle import BFLOAT16, FLOATS, Array, Exact, check_result, evaluate
from processes import run_python

ADAPTERS = {adapter.name: adapter for adapter in isolated_adapters()}
GROUPS = sorted({name.split("/")[0] for name in CASES})


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> Adapter:
    return ADAPTERS[request.param]


def run_beside_guards(multiply: Callable[[Call], Array], name: str) -> None:
    call = build(name)
    expected = multiply(call).copy()
    for side in ("begin", "end"):
        guarded = {key: beside_a_guard(x, side) for key, x in vars(call).items() if isinstance(x, np.ndarray)}
        guarded.setdefault("out", beside_a_guard(np.full(expected.shape, np.nan, expected.dtype), side))
        result = multiply(Call(**{**vars(call), **guarded}))
        assert result.tobytes() == expected.tobytes(), f"{name}: other bits at the {side} of a page"


@pytest.mark.parametrize("group", GROUPS)
def test_nothing_outside_arrays_is_touched(adapter: Adapter, group: str) -> None:
    for name in CASES:
        if name.split("/")[0] == group:
            adapter.apply(run_beside_guards, adapter.multiply, name)


# How the pages of an operand follow its blocks: (row stride, column stride) from shape, item size and block.
LAYOUTS: dict[str, Callable[[int, int, int, int], tuple[int, int]]] = {
    "a page for each row of a block": lambda rows, columns, item, block: (
        PAGE * grid(columns, block),
        PAGE // block,
    ),
    "a page for each column of a block": lambda rows, columns, item, block: (
        PAGE // block,
        PAGE * grid(rows, block),
    ),
    "row-major": lambda rows, columns, item, block: (columns * item, item),
    "column-major": lambda rows, columns, item, block: (item, rows * item),
    "row-major, reversed": lambda rows, columns, item, block: (-columns * item, item),
}


@functools.lru_cache(maxsize=2)
def sparse_call(dtype: Any, masks: str) -> tuple[Call, Exact, Array, Array]:
    """A call, its exact result, and which elements of a and b it needs."""
    block, (M, N, K) = 64, (300, 200, 260)
    rng = np.random.default_rng(7)
    m, n, k = grid(M, block), grid(N, block), grid(K, block)
    shapes = {"out": (m, n), "lhs": (m, k), "rhs": (k, n)}
    kept = {
        name: rng.random(shapes[name]) < 0.35 if name in masks else np.ones(shapes[name], bool)
        for name in shapes
    }
    for name in masks.split():
        kept[name][1] = False
        kept[name][:, 2] = False
    live = kept["out"][:, :, None] & kept["lhs"][:, None, :] & kept["rhs"].T[None, :, :]
    a, b = rng.standard_normal((M, K)).astype(dtype), rng.standard_normal((K, N)).astype(dtype)
    call = Call(a, b, block, **{f"mask_{name}": kept[name] for name in masks.split()})
    read_a, read_b = (x.repeat(block, 0).repeat(block, 1) for x in (live.any(1), live.any(0).T))
    return call, evaluate(a, b, block, *call.masks()), read_a[:M, :K], read_b[:K, :N]


def run_with_dead_pages(
    multiply: Callable[[Call], Array], dtype: Any, layout_a: str, layout_b: str, masks: str
) -> None:
    call, exact, read_a, read_b = sparse_call(dtype, masks)
    (M, K), N, item, block = call.a.shape, call.b.shape[1], call.a.itemsize, 64
    a = with_dead_pages(call.a, LAYOUTS[layout_a](M, K, item, block), read_a)
    b = with_dead_pages(call.b, LAYOUTS[layout_b](K, N, item, block), read_b)
    call = Call(a, b, block, *call.masks())
    for threads in (1, 3):
        maskmm.set_num_threads(threads)
        check_result(multiply(call), exact)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("masks", ["out", "lhs", "rhs", "lhs rhs", "out lhs rhs"])
def test_dead_blocks_may_be_unmapped(adapter: Adapter, dtype: Any, masks: str) -> None:
    for layout_a in LAYOUTS:
        for layout_b in LAYOUTS:
            adapter.apply(run_with_dead_pages, adapter.multiply, dtype, layout_a, layout_b, masks)


# Extents that do not fit into 32 bits when multiplied. What is spread has stride 0, so that little memory is used.
MANY = 2**31 - 1


@pytest.mark.parametrize("block_size", [(16, 16, 256), (64, 32, 16)])
def test_the_longest_K(block_size: tuple[int, int, int]) -> None:
    block = block_size[2]
    blocks = grid(MANY, block)
    a = as_strided(np.array([1, 2, 3], np.float32), (3, MANY), (4, 0))
    b = as_strided(np.array([1, -1, 0.5, 4], np.float32), (MANY, 4), (0, 4))
    mask_lhs = np.zeros((1, blocks), bool)
    live = np.array([0, 12345, blocks // 2, blocks - 2, blocks - 1])
    mask_lhs[0, live] = True
    live_k = 4 * block + MANY % block
    expected = np.outer([1, 2, 3], [1, -1, 0.5, 4]) * live_k
    result = maskmm.block_masked_mm(a, b, block_size, mask_lhs=mask_lhs)
    assert np.array_equal(result, expected.astype(np.float32))
    assert maskmm.explain(a, b, block_size, mask_lhs=mask_lhs).live_fraction == pytest.approx(
        5 / blocks, rel=1e-12
    )


def test_the_longest_K_with_an_all_dead_mask() -> None:
    a = as_strided(np.array([np.nan]), (3, MANY), (0, 0))
    result = maskmm.block_masked_mm(a, a.T, 256, mask_rhs=np.zeros((1, 1), bool))
    assert not result.any() and result.shape == (3, 3)


@pytest.mark.parametrize("dtype", ["float32", BFLOAT16])
def test_a_batch_of_70000(dtype: Any) -> None:
    count = 70_000
    a = np.arange(count, dtype=np.float32).reshape(count, 1, 1) % 251 + np.arange(18).reshape(1, 1, 18) % 3
    a = a.astype(dtype)
    b = np.ones((18, 2), dtype)
    mask = (np.arange(count)[:, None] + np.arange(2)) % 3 > 0
    result = maskmm.block_masked_mm(a, b, 16, mask_lhs=mask[:, None, :])
    wide = a[:, 0].astype(np.float64)
    expected = wide[:, :16].sum(1) * mask[:, 0] + wide[:, 16:].sum(1) * mask[:, 1]
    assert np.array_equal(result, np.repeat(expected, 2).reshape(count, 1, 2).astype(dtype))


def test_nine_million_rows() -> None:
    rows = 9_000_000
    a = np.arange(rows, dtype=np.float32)[:, None] % 1000 + np.arange(3, dtype=np.float32)
    b = np.arange(6, dtype=np.float32).reshape(3, 2)
    mask = np.arange(grid(rows, 16))[:, None] % 2 == 0
    result = maskmm.block_masked_mm(a, b, 16, mask_out=mask)
    expected = (a @ b).reshape(-1, 16, 2) * mask[:, :, None]
    assert np.array_equal(result, expected.reshape(rows, 2))


def test_nine_million_columns() -> None:
    columns = 9_000_000
    b = np.arange(columns, dtype=np.float32) % 1000 + np.arange(3, dtype=np.float32)[:, None]
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    mask = np.arange(grid(columns, 16)) % 2 == 0
    result = maskmm.block_masked_mm(a, b, 16, mask_rhs=mask[None])
    expected = (a @ b).reshape(2, -1, 16) * mask[None, :, None]
    assert np.array_equal(result, expected.reshape(2, columns))


# A call may use scratch memory, not memory in proportion to operands of which little is live.
MEMORY = """
    import numpy as np
    from oracle import BFLOAT16
    import maskmm

    def peak_during(call):
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts again from here
        before = status("VmRSS")
        call()
        return status("VmHWM") - before

    def status(field):
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(field)) // 1024

    maskmm.set_num_threads(2)
    size, width = 16384, 64
    mask = np.zeros((size // 64, size // 64), bool)
    mask[[3, 77, 200], [5, 100, 255]] = True
    for dtype in (np.float32, np.float16, BFLOAT16, np.float64):
        big, small = np.zeros((size, size), dtype), np.ones((size, width), dtype)  # never touched: no memory yet
        unaligned = np.zeros(big.nbytes + 1, np.uint8)[1:].view(dtype).reshape(size, size)
        out = np.zeros((size, width), dtype) + np.ones(1, dtype)
        wide_out = np.ones((width, size), dtype)
        print(np.dtype(dtype), max(
            peak_during(lambda: maskmm.block_masked_mm(big, small, 64, None, mask, out=out)),
            peak_during(lambda: maskmm.block_masked_mm(big.T, small, 64, None, mask, out=out)),
            peak_during(lambda: maskmm.block_masked_mm(unaligned, small, 64, None, mask, out=out)),
            peak_during(lambda: maskmm.block_masked_mm(big[::-1, ::-1], small, 64, None, mask, out=out)),
            peak_during(lambda: maskmm.block_masked_mm(small.T, big, 64, None, None, mask, out=wide_out)),
            peak_during(lambda: maskmm.block_masked_mm(small.T, big.T, 64, None, None, mask, out=wide_out)),
            peak_during(lambda: maskmm.block_masked_mm(big, small, 64, mask[:, :1], out=out)),
        ))
"""


def test_no_copy_of_an_operand_that_is_mostly_dead() -> None:
    for line in run_python(MEMORY, timeout=300).splitlines():
        dtype, megabytes = line.split()
        assert int(megabytes) < 48, (
            f"{dtype}: {megabytes} MB more at the peak of a call, of operands of 512 MB and more"
        )
