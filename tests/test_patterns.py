"""maskmm.patterns against definitions written out as loops, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import maskmm
from maskmm import patterns

SHAPES = [(0, 0), (0, 3), (3, 0), (1, 1), (4, 4), (3, 7), (7, 3)]


def by_definition(shape: tuple[int, ...], value: Callable[..., bool]) -> np.ndarray[Any, Any]:
    result = np.zeros(shape, np.bool_)
    for index in np.ndindex(shape):
        result[index] = value(*index)
    return result


@pytest.mark.parametrize("shape", SHAPES)
def test_causal(shape: tuple[int, int]) -> None:
    expected = by_definition(shape, lambda i, j: j <= i + shape[1] - shape[0])
    np.testing.assert_array_equal(patterns.causal(*shape), expected, strict=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("below", "above"), [(0, 0), (1, None), (2, 0), (0, 3), (9, 9)])
def test_band(shape: tuple[int, int], below: int, above: int | None) -> None:
    expected = by_definition(shape, lambda i, j: -below <= j - i <= (below if above is None else above))
    np.testing.assert_array_equal(patterns.band(*shape, below=below, above=above), expected, strict=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 2, 3, 10])
def test_diagonal_groups(shape: tuple[int, int], groups: int) -> None:
    rows, cols = shape
    expected = by_definition(shape, lambda i, j: i * groups // rows == j * groups // cols)
    np.testing.assert_array_equal(patterns.diagonal_groups(*shape, groups=groups), expected, strict=True)


@pytest.mark.parametrize("lengths", [[], [0], [100, 64, 65, 0, 200, 1]])
def test_from_sequence_lengths(lengths: list[int]) -> None:
    expected = by_definition((len(lengths), 4), lambda s, i: i * 64 < lengths[s])
    mask = patterns.from_sequence_lengths(iter(lengths), size=200, block_size=64)
    np.testing.assert_array_equal(mask, expected, strict=True)


@pytest.mark.parametrize("lengths", [[], [0, 0], [100, 64, 1, 0, 20], [16] * 10, [200]])
@pytest.mark.parametrize("size", [None, 200, 201, 1000])
def test_packed_sequences(lengths: list[int], size: int | None) -> None:
    owner = np.repeat(np.arange(len(lengths)), lengths)
    extent = len(owner) if size is None else size
    blocks = [set(owner[start : start + 32]) for start in range(0, extent, 32)]
    expected = by_definition((len(blocks),) * 2, lambda i, j: bool(blocks[i] & blocks[j]))
    mask = patterns.packed_sequences(lengths, size, block_size=32)
    np.testing.assert_array_equal(mask, expected, strict=True)


@pytest.mark.parametrize("shape", [(), 5, (8, 8), (3, 0, 2), (2, 5, 7)])
@pytest.mark.parametrize("density", [0, 0.1, 0.5, 1])
def test_random_keeps_exactly_the_share(shape: int | tuple[int, ...], density: float) -> None:
    mask = patterns.random(shape, density, seed=3)
    assert mask.dtype == np.bool_
    assert mask.shape == (shape if isinstance(shape, tuple) else (shape,))
    assert mask.sum() == round(density * mask.size)


def test_random_follows_from_its_seed() -> None:
    first, again, other = (patterns.random((20, 20), 0.5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    generator = np.random.default_rng(1)
    np.testing.assert_array_equal(patterns.random((20, 20), 0.5, generator), first)
    assert (patterns.random((20, 20), 0.5, generator) != first).any()


def test_masks_fit_the_product() -> None:
    a = np.ones((200, 200), np.float32)
    mask = patterns.causal(4)
    result = maskmm.block_masked_mm(a, a, mask_lhs=mask)
    assert result[0, 0] == 64
    assert result[-1, 0] == 200


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: patterns.causal(-1), ValueError, "n_rows: expected at least 0, got -1"),
        (lambda: patterns.causal(2.0), TypeError, "n_rows: expected an int, got float"),  # type: ignore[arg-type]
        (lambda: patterns.causal(2, "3"), TypeError, "n_cols: expected an int, got str"),  # type: ignore[arg-type]
        (lambda: patterns.band(2, below=-1), ValueError, "below: expected at least 0, got -1"),
        (lambda: patterns.band(2, above=-2), ValueError, "above: expected at least 0, got -2"),
        (lambda: patterns.diagonal_groups(4, groups=0), ValueError, "groups: expected at least 1, got 0"),
        (
            lambda: patterns.from_sequence_lengths([3, 65], 64),
            ValueError,
            "lengths: expected at most size = 64, got 65",
        ),
        (
            lambda: patterns.from_sequence_lengths([-1], 64),
            ValueError,
            "lengths: expected at least 0, got -1",
        ),
        (
            lambda: patterns.from_sequence_lengths([1], 64, 0),
            ValueError,
            "block_size: expected at least 1, got 0",
        ),
        (
            lambda: patterns.packed_sequences([40, 40], 64),
            ValueError,
            "lengths: expected a sum of at most size = 64, got 80",
        ),
        (lambda: patterns.random((2, -2), 0.5), ValueError, "shape: expected at least 0, got -2"),
        (lambda: patterns.random(4, 1.5), ValueError, "density: expected 0 to 1, got 1.5"),
        (lambda: patterns.random(4, float("nan")), ValueError, "density: expected 0 to 1, got nan"),
    ],
)
def test_errors(call: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        call()
    assert str(raised.value) == message
