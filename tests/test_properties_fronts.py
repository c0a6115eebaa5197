"""Random calls through the fronts that have derivatives: the result, and the gradients of any subset of the inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import gpu_arrays
import maskmm
from case_builders import SPECIALS, Call, numbers
from oracle import FLOATS, Array, check_result, evaluate
from test_properties import calls, describe

NAMES = ("a", "b", "mask_out", "mask_lhs", "mask_rhs")
Inputs = dict[str, Array]
Terms = tuple[
    Array, Array, Array
]  # a gradient in a wide type, the sum of its terms' magnitudes, what it may be off by


def inputs_of(call: Call) -> Inputs:
    return {name: x for name in NAMES if (x := getattr(call, name)) is not None}


def apply(inputs: dict[str, Any], block_size: Any) -> Any:
    a, b, *masks = map(inputs.get, NAMES)
    return maskmm.block_masked_mm(a, b, block_size, *masks)


def with_torch(
    call: Call, wanted: tuple[str, ...], cotangent: Array, device: str = "cpu"
) -> tuple[Array, list[Array]]:
    torch = pytest.importorskip("torch")
    plain = {name: gpu_arrays.to_torch(x, device) for name, x in inputs_of(call).items()}
    leaves = {name: x.detach().requires_grad_(name in wanted) for name, x in plain.items()}
    result = apply(leaves, call.block_size)
    direct = gpu_arrays.to_numpy(apply(plain, call.block_size))
    assert direct.tobytes() == gpu_arrays.to_numpy(result.detach()).tobytes()
    if not wanted:
        return direct, []
    cotangents = gpu_arrays.to_torch(cotangent, device)
    gradients = torch.autograd.grad(result, [leaves[name] for name in wanted], cotangents)
    return direct, list(map(gpu_arrays.to_numpy, gradients))


def with_torch_on_gpu(*arguments: Any) -> tuple[Array, list[Array]]:
    return with_torch(*arguments, "cuda")


def with_jax(call: Call, wanted: tuple[str, ...], cotangent: Array) -> tuple[Array, list[Array]]:
    from jax_setup import jax, jnp

    jax.clear_caches()  # no two calls are alike
    plain = {name: jnp.asarray(x.copy()) for name, x in inputs_of(call).items()}

    def function(*given: Any) -> Any:
        return apply({**plain, **dict(zip(wanted, given, strict=True))}, call.block_size)

    result, pull = jax.vjp(function, *(plain[name] for name in wanted))
    return np.asarray(result), list(map(np.asarray, pull(jnp.asarray(cotangent))))


def with_mlx(call: Call, wanted: tuple[str, ...], cotangent: Array) -> tuple[Array, list[Array]]:
    mx = pytest.importorskip("mlx.core")
    from test_mlx import to_mlx, to_numpy

    plain = {name: to_mlx(x.copy(order="K")) for name, x in inputs_of(call).items()}

    def function(*given: Any) -> Any:
        return apply({**plain, **dict(zip(wanted, given, strict=True))}, call.block_size)

    if not wanted:
        return to_numpy(function()), []
    with mx.stream(mx.cpu):  # which has float64
        (result,), gradients = mx.vjp(function, [plain[name] for name in wanted], [to_mlx(cotangent)])
        return to_numpy(result), list(map(to_numpy, gradients))


FRONTS = [with_torch, with_jax, with_mlx, *([with_torch_on_gpu] if gpu_arrays.usable("torch") else [])]


@pytest.mark.parametrize("front", FRONTS, ids=[front.__name__ for front in FRONTS])
@settings(max_examples=settings.default.max_examples // 12)  # a twelfth: JAX compiles each
@given(calls(), st.data())
def test_any_call(front: Callable[..., Any], call: Call, data: st.DataObject) -> None:
    note(describe(call))
    floating = [name for name, x in inputs_of(call).items() if x.dtype in FLOATS]
    wanted = tuple(name for name in floating if data.draw(st.booleans(), name))
    exact = evaluate(call.a, call.b, call.block_size, *call.masks())
    cotangent = numbers(np.random.default_rng(data.draw(st.integers(0, 99))), exact.value.shape, exact.dtype)
    if call.mask_out is not None and data.draw(st.booleans(), "NaN in the cotangent where mask_out is dead"):
        ones = (np.ones(x.shape, exact.dtype) for x in (call.a, call.b))
        by_out = evaluate(*ones, call.block_size, call.mask_out)
        cotangent[np.broadcast_to(by_out.live_k == 0, cotangent.shape)] = data.draw(st.sampled_from(SPECIALS))
    result, gradients = front(call, wanted, cotangent)
    check_result(result, exact)
    for name, gradient in zip(wanted, gradients, strict=True):
        note(name)
        check_gradient(gradient, getattr(call, name), exact.dtype, exact_gradient(call, name, cotangent))


def check_gradient(found: Array, like: Array, result: np.dtype[Any], exact: Terms) -> None:
    """It is rounded to the type of the result or wider, summed along broadcast axes, and rounded to its input's."""
    value, magnitude, error = exact
    assert found.dtype == like.dtype
    assert found.shape == like.shape
    types = [ml_dtypes.finfo(dtype) for dtype in (found.dtype, result)]
    eps, tiny = (float(sum(getattr(t, name) for t in types)) for name in ("eps", "smallest_normal"))
    largest = float(min(t.max for t in types))
    with np.errstate(all="ignore"):
        near = np.abs(found.astype(value.dtype) - value) <= 2 * error + 8 * (eps + 1e-6) * magnitude + tiny
        right = near | ~np.isfinite(value) | (magnitude > largest / 4)
    assert right.all(), (
        f"{(~right).sum()} of {right.size} are wrong: {found[~right][:3]}, exact {value[~right][:3]}"
    )


def exact_gradient(call: Call, name: str, cotangent: Array) -> Terms:
    """From the definition: the oracle's product of what the input is multiplied with."""
    m, n, k = call.block_size if isinstance(call.block_size, tuple) else (call.block_size,) * 3
    rows, columns = call.a.ndim > 1, call.b.ndim > 1

    def full(x: Any, has_rows: bool, has_columns: bool) -> Any:
        """With two axes or more."""
        if x is None:
            return None
        x = x.reshape((1,) * (has_rows + has_columns - x.ndim) + x.shape)
        x = x if has_columns else x[..., None]
        return x if has_rows else x[..., None, :]

    def turned(x: Any) -> Any:
        return None if x is None else x.swapaxes(-1, -2)

    g = full(cotangent, rows, columns)
    a, b = (x if x.dtype in FLOATS else x.astype(g.dtype) for x in (call.a, call.b))
    inputs = {
        "a": full(a, rows, True),
        "b": full(b, True, columns),
        "mask_out": full(call.mask_out, rows, columns),
        "mask_lhs": full(call.mask_lhs, rows, True),
        "mask_rhs": full(call.mask_rhs, True, columns),
    }
    a, b, out, lhs, rhs = inputs.values()
    by_a = g, turned(b), (m, k, n)
    by_b = turned(a), g, (k, n, m)
    if name == "a":
        terms = terms_of(by_a, lhs, out, turned(rhs))
    elif name == "b":
        terms = terms_of(by_b, rhs, turned(lhs), out)
    elif name == "mask_out":
        terms = terms_of((a, b, (m, n, k)), None, lhs, rhs, g)
    elif name == "mask_lhs":
        terms = terms_of(by_a, None, out, turned(rhs), a)
    else:
        terms = terms_of(by_b, None, turned(lhs), out, b)
    value, magnitude, error = (
        sum_to(x, inputs[name].shape).reshape(getattr(call, name).shape) for x in terms
    )
    return value, magnitude, error


def terms_of(operands: Any, out: Any, lhs: Any, rhs: Any, x: Any = None) -> Terms:
    """Of the masked product, or with x of the sums of x * product over its blocks."""
    a, b, sizes = operands
    exact = evaluate(a, b, sizes, out, lhs, rhs)
    if x is None:
        return exact.value, exact.magnitude, exact.error()
    x = x.astype(exact.value.dtype)
    live = exact.live_k > 0
    with np.errstate(all="ignore"):
        factors = ((exact.value, x), (exact.magnitude, np.abs(x)), (exact.error(), np.abs(x)))
        value, magnitude, error = (block_sums(np.where(live, p * q, 0), sizes) for p, q in factors)
    return value, magnitude, error


def block_sums(x: Array, sizes: tuple[int, int, int]) -> Array:
    (m, n, _), (rows, columns) = sizes, x.shape[-2:]
    x = np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, -rows % m), (0, -columns % n)])
    blocks: Array = x.reshape(*x.shape[:-2], x.shape[-2] // m, m, x.shape[-1] // n, n)
    return blocks.sum((-3, -1))


def sum_to(x: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which an input of that shape was broadcast."""
    shape = (1,) * (x.ndim - len(shape)) + shape
    with np.errstate(all="ignore"):
        return x.sum(tuple(i for i, size in enumerate(shape) if size == 1 and x.shape[i] != 1), keepdims=True)
