"""The oracle against the formula with masks multiplied in, where all is finite; and that it rejects what is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from case_builders import Call, product, with_scales
from oracle import BFLOAT16, Array, check_result, evaluate, promote


def spread(mask: Array | None, block: int, rows: int, columns: int) -> Array:
    if mask is None:
        return np.ones((rows, columns))
    return mask.astype(np.float64).repeat(block, -2).repeat(block, -1)[..., :rows, :columns]


def by_formula(call: Call, block: int) -> Array:
    (M, K), N = call.a.shape[-2:], call.b.shape[-1]
    out, lhs, rhs = call.masks()
    a = call.a.astype(np.float64) * spread(lhs, block, M, K)
    b = call.b.astype(np.float64) * spread(rhs, block, K, N)
    result: Array = spread(out, block, M, N) * np.einsum("...ik,...kj->...ij", a, b)
    return result


@pytest.mark.parametrize("masks", ["", "out", "lhs", "rhs", "out lhs rhs"])
@pytest.mark.parametrize("scaled", [False, True])
def test_oracle_is_the_formula_for_finite_numbers(masks: str, scaled: bool) -> None:
    rng = np.random.default_rng(11)
    for block, batch in ((16, ()), (32, (2, 3))):
        call = product(rng, 70, 45, 83, block, masks, batch=batch)
        if scaled:
            call = with_scales(call, rng)
        exact = evaluate(call.a, call.b, block, *call.masks())
        assert np.abs(exact.value - by_formula(call, block)).max() < 1e-12


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float32, np.float64], ids=str)
def test_oracle_accepts_the_rounded_result_and_rejects_neighbours(dtype: type) -> None:
    call = product(np.random.default_rng(2), 40, 50, 60, 16, "out lhs", 0.6, dtype)
    exact = evaluate(call.a, call.b, 16, *call.masks())
    right = exact.value.astype(dtype)
    check_result(right, exact)
    live, dead = np.argwhere(exact.live_k > 0)[5], np.argwhere(exact.live_k == 0)[5]
    for place, value in [
        (
            live,
            exact.value[tuple(live)]
            + 3 * exact.error()[tuple(live)]
            + abs(exact.value[tuple(live)]) * 2.0**-6,
        ),
        (live, np.nan),
        (live, np.inf),
        (dead, -0.0),
        (dead, 1e-30 if dtype != np.float16 else 1e-7),
        (dead, np.nan),
    ]:
        wrong = right.copy()
        wrong[tuple(place)] = value
        with pytest.raises(AssertionError, match=r"^1 of 2000 elements are wrong; at "):
            check_result(wrong, exact)
    with pytest.raises(AssertionError, match="expected dtype"):
        check_result(right.astype(np.float64 if dtype != np.float64 else np.float32), exact)
    with pytest.raises(AssertionError, match="expected shape"):
        check_result(right[1:], exact)


def test_promotion() -> None:
    f16, f32, f64 = (np.dtype(f"float{bits}") for bits in (16, 32, 64))
    assert promote(f16, BFLOAT16) == f32
    assert promote(f16, f16) == f16
    assert promote(BFLOAT16, f32) == f32
    assert promote(f64, f16) == f64
    assert promote(np.dtype("int64"), BFLOAT16) == BFLOAT16
    with pytest.raises(TypeError):
        promote(np.dtype("int8"), np.dtype("bool"))
