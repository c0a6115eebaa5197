"""Masks that are no arrays of the operands' framework: every front takes the same, and refuses in the same words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import maskmm

ONES = np.ones((64, 64), np.float32)


class OnlyDLPack:
    """An array on the CPU that shows nothing but DLPack."""

    def __init__(self, x: Any) -> None:
        self.x = x

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.x.__dlpack__(**arguments)

    def __dlpack_device__(self) -> Any:
        return self.x.__dlpack_device__()


def with_torch(mask: Any) -> float:
    torch = pytest.importorskip("torch")
    return float(maskmm.block_masked_mm(torch.from_numpy(ONES), torch.from_numpy(ONES), mask_lhs=mask)[0, 0])


def with_gradients(mask: Any) -> float:
    torch = pytest.importorskip("torch")
    b = torch.from_numpy(ONES).requires_grad_()
    return float(maskmm.block_masked_mm(torch.from_numpy(ONES), b, mask_lhs=mask).detach()[0, 0])


def with_autocast(mask: Any) -> float:
    torch = pytest.importorskip("torch")
    with torch.autocast("cpu", torch.bfloat16):
        return with_torch(mask)


def with_jax(mask: Any) -> float:
    a = pytest.importorskip("jax.numpy").asarray(ONES)
    return float(maskmm.block_masked_mm(a, a, mask_lhs=mask)[0, 0])


def with_mlx(mask: Any) -> float:
    a = pytest.importorskip("mlx.core").array(ONES)
    return float(maskmm.block_masked_mm(a, a, mask_lhs=mask)[0, 0])


def with_numpy(mask: Any) -> float:
    return float(maskmm.block_masked_mm(ONES, ONES, mask_lhs=mask)[0, 0])


FRONTS = [with_numpy, with_torch, with_gradients, with_autocast, with_jax, with_mlx]
pytestmark = pytest.mark.parametrize("front", FRONTS, ids=[front.__name__ for front in FRONTS])


@pytest.mark.parametrize(
    ("mask", "scale"),
    [
        (True, 1), (False, 0), (2, 2), (2**40, 2**40), (0.5, 0.5), (np.int16(-3), -3), (np.float64(0.5), 0.5),
        (np.full((1, 1), 2, np.uint64), 2), (np.full(1, 3, ml_dtypes.bfloat16), 3), (memoryview(ONES[:1, :1]), 1),
        (np.broadcast_to(np.float16(2), (1, 1)), 2), (b"\2", 2), (OnlyDLPack(ONES[:1, :1]), 1),
        (np.arange(2.0)[None, ::-2], 1),
    ],
)  # fmt: skip
def test_taken(front: Callable[[Any], float], mask: Any, scale: float) -> None:
    assert front(mask) == 64 * scale


NO_ARRAY = "mask_lhs: expected an array (NumPy, buffer protocol or DLPack), got"
TYPES = "mask_lhs: expected bool, an integer or a float type, got"


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([[True]], TypeError, f"{NO_ARRAY} list"),
        ((1.0,), TypeError, f"{NO_ARRAY} tuple"),
        ({}, TypeError, f"{NO_ARRAY} dict"),
        ("causal", TypeError, f"{NO_ARRAY} str"),
        (1j, TypeError, f"{NO_ARRAY} complex"),
        (object(), TypeError, f"{NO_ARRAY} object"),
        (2**70, ValueError, "mask_lhs: the integer does not fit into 64 bits: 1180591620717411303424"),
        (np.ones((1, 1), ">f4"), TypeError, f"{TYPES} >f4"),
        (np.ones((1, 1), object), TypeError, f"{TYPES} object"),
        (np.ones((1, 1), complex), TypeError, f"{TYPES} complex128"),
        (np.ones((1, 2)), ValueError, "mask_lhs: expected (..., 1, 1) for block_size 64, got (1, 2)"),
    ],
)
def test_refused(front: Callable[[Any], float], mask: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        front(mask)
    assert type(raised.value) is error
    assert str(raised.value) == message
