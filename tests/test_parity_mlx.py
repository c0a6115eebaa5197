"""The same numbers as MLX where MLX is right: float32, blocks of 32 and 64. The page of differences has the rest."""

from __future__ import annotations

import doctest
import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import Call, grid
from layouts import LAYOUTS
from oracle import Array, check_result, evaluate

mx = pytest.importorskip("mlx.core", reason="the extra 'test' installs mlx-cpu")
block_masked_mm = pytest.importorskip("maskmm.mlx").block_masked_mm

PAGE = Path(__file__).parents[1] / "docs" / "differences_from_mlx.md"


def to_mlx(x: Array | None) -> Any:
    return None if x is None else mx.array(x)


def by_mlx(call: Call) -> Array:
    """MLX's result; + 0 because it gives -0 for some empty blocks."""
    masks = [to_mlx(mask) for mask in call.masks()]
    return np.array(mx.block_masked_mm(to_mlx(call.a), to_mlx(call.b), call.block_size, *masks) + 0)


def by_maskmm_mlx(call: Call) -> Array:
    """The same call with the function from maskmm.mlx instead."""
    masks = [to_mlx(mask) for mask in call.masks()]
    return np.array(block_masked_mm(to_mlx(call.a), to_mlx(call.b), call.block_size, *masks, stream=mx.cpu))


def random_call(rng: np.random.Generator, kind: str, block: int, masks: str) -> Call:
    """Finite operands; batches only where MLX handles them, so a and b both have them."""
    M, N, K = (int(size) for size in rng.integers(1, 200, 3))
    if rng.random() < 0.3:
        M, N, K = (grid(size, block) * block for size in (M, N, K))
    batch = [(), (2,), (2, 3)][rng.integers(3)]
    a = rng.standard_normal((*batch, M, K)).astype(np.float32)
    b = rng.standard_normal((*batch, K, N)).astype(np.float32)
    shapes = {"out": (M, N), "lhs": (M, K), "rhs": (K, N)}
    chosen = {}
    for name in masks.split():
        rows, columns = (grid(size, block) for size in shapes[name])
        kept = rng.random((*(batch if rng.random() < 0.5 else ()), rows, columns)) < 0.6
        if kind == "float32":
            chosen[f"mask_{name}"] = np.where(kept, rng.standard_normal(kept.shape), 0).astype(np.float32)
        else:
            chosen[f"mask_{name}"] = (kept * rng.integers(1, 4, kept.shape)).astype(kind)
    return Call(a, b, block, **chosen)


@pytest.mark.parametrize("masks", ["", "out", "lhs", "rhs", "out lhs", "out rhs", "lhs rhs", "out lhs rhs"])
@pytest.mark.parametrize("block", [32, 64])
@pytest.mark.parametrize("kind", ["bool", "float32", "int32", "uint8"])
def test_same_numbers_as_mlx(kind: str, block: int, masks: str) -> None:
    rng = np.random.default_rng([block, len(kind), len(masks)])
    for _ in range(8):
        call = random_call(rng, kind, block, masks)
        exact = evaluate(call.a, call.b, call.block_size, *call.masks())
        theirs = by_mlx(call)
        ours = maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks())
        check_result(theirs, exact)
        check_result(ours, exact)
        assert np.array_equal(by_maskmm_mlx(call), ours)
        # Each is within the bound of the exact result, so they are within twice that of each other.
        assert (np.abs(ours - theirs) <= 2 * exact.error() + np.spacing(np.abs(theirs))).all()


@pytest.mark.parametrize("first", ["transposed", "every_third", "reversed_all"])
@pytest.mark.parametrize("second", ["transposed", "padded_rows"])
def test_same_numbers_as_mlx_for_any_layout(first: str, second: str) -> None:
    rng = np.random.default_rng(5)
    call = random_call(rng, "bool", 32, "lhs rhs")
    theirs = by_mlx(call)
    ours = maskmm.block_masked_mm(
        LAYOUTS[first](call.a),
        LAYOUTS[second](call.b),
        32,
        *(m if m is None else LAYOUTS[first](m) for m in call.masks()),
    )
    exact = evaluate(call.a, call.b, call.block_size, *call.masks())
    assert (np.abs(ours - theirs) <= 2 * exact.error() + np.spacing(np.abs(theirs))).all()


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "lhs", "rhs"),
    [((70,), (70, 90), (3,), (3, 3)), ((90, 70), (70,), (3, 3), (3,)), ((70,), (70,), (3,), (3,))],
)
def test_same_shapes_as_mlx_for_1d_operands(shape_a: Any, shape_b: Any, lhs: Any, rhs: Any) -> None:
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal(shape_a).astype(np.float32), rng.standard_normal(shape_b).astype(np.float32)
    call = Call(a, b, 32, None, rng.random(lhs) < 0.7, rng.random(rhs) < 0.7)
    theirs = by_mlx(call)
    ours = maskmm.block_masked_mm(call.a, call.b, call.block_size, *call.masks())
    assert ours.shape == theirs.shape
    assert np.array_equal(by_maskmm_mlx(call), ours)
    exact = evaluate(call.a, call.b, call.block_size, *call.masks())
    check_result(theirs, exact)
    check_result(ours, exact)


def test_zero_sizes_as_in_mlx() -> None:
    for M, N, K in itertools.product((0, 40), repeat=3):
        call = Call(np.ones((M, K), np.float32), np.ones((K, N), np.float32), 32)
        ours = maskmm.block_masked_mm(call.a, call.b, 32)
        assert np.array_equal(ours, by_mlx(call)) and ours.shape == (M, N)
        assert np.array_equal(ours, by_maskmm_mlx(call))


def test_the_page_of_differences() -> None:
    text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    failed, tried = doctest.DocTestRunner().run(examples)
    assert failed == 0
    assert tried > 25
