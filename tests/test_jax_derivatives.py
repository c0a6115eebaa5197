"""Derivatives through JAX: all inputs, forward and reverse mode, second order, masks at zero, and their types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jax_setup import assert_close, block_sums, dense, jax, jnp, scales
from maskmm.jax import block_masked_dot, block_masked_mm

check_grads = pytest.importorskip("jax.test_util").check_grads
SIZES = (32, 16, 64)
ALL = (0, 1, 2, 3, 4)
RNG = np.random.default_rng(11)
A, B = RNG.standard_normal((2, 70, 130)) / 4, RNG.standard_normal((130, 50)) / 4
MASKS = scales(RNG, 2, 3, 4), scales(RNG, 3, 3), scales(RNG, 3, 4)
X = RNG.standard_normal((2, 70, 50)) / 4
INPUTS = tuple(jnp.asarray(x) for x in (A, B, *MASKS))


def ours(a: Any, b: Any, *masks: Any) -> Any:
    return block_masked_mm(a, b, SIZES, *masks)


def theirs(a: Any, b: Any, *masks: Any) -> Any:
    return dense(a, b, SIZES, *masks)


def squares(function: Any) -> Any:
    return lambda *inputs: (function(*inputs) ** 2).sum()


@pytest.mark.parametrize("jit", [False, True])
def test_gradients_are_those_of_the_dense_product(jit: bool) -> None:
    gradients = jax.grad(squares(ours), ALL)
    found = (jax.jit(gradients) if jit else gradients)(*INPUTS)
    for gradient, expected in zip(found, jax.grad(squares(theirs), ALL)(*INPUTS), strict=True):
        assert_close(gradient, expected)
    for i in ALL:  # the value does not depend on which others are asked for
        alone = jax.grad(squares(ours), i)(*INPUTS)
        assert jit or np.array_equal(alone, found[i])


def test_check_grads_to_second_order() -> None:
    check_grads(ours, INPUTS, order=2)
    check_grads(
        lambda x, *rest: block_masked_dot(x, *rest[:2], SIZES, *rest[2:]), (jnp.asarray(X), *INPUTS), order=2
    )


def test_third_order_of_all_inputs_together() -> None:
    direction = tuple(jnp.asarray(RNG.standard_normal(x.shape)) for x in INPUTS)

    def along(function: Any, order: int) -> Any:
        for _ in range(order):
            function = (lambda f: lambda *inputs: jax.jvp(f, inputs, direction)[1])(function)
        return function

    for gradient, expected in zip(
        jax.grad(along(squares(ours), 2), ALL)(*INPUTS),
        jax.grad(along(squares(theirs), 2), ALL)(*INPUTS),
        strict=True,
    ):
        assert_close(gradient, expected)


def test_jacobians() -> None:
    def few(function: Any) -> Any:
        return lambda mask: function(*INPUTS[:3], mask, INPUTS[4])[0, ::30, ::20]

    expected = jax.jacrev(few(theirs))(INPUTS[3])
    assert_close(jax.jacrev(few(ours))(INPUTS[3]), expected)
    assert_close(jax.jacfwd(few(ours))(INPUTS[3]), expected)
    assert_close(
        jax.hessian(lambda m: squares(few(ours))(m))(INPUTS[3]),
        jax.hessian(squares(few(theirs)))(INPUTS[3]),
        1e-11,
    )


@pytest.mark.parametrize("i", ALL)
def test_vmap_of_grad_and_grad_of_vmap(i: int) -> None:
    stacked = [jnp.stack([x, 2 * x, x - 1]) for x in INPUTS]
    axes = (0, None, 0, None, 0)
    inputs = [s if axis == 0 else x for s, x, axis in zip(stacked, INPUTS, axes, strict=True)]
    for mapped in (
        lambda f: jax.vmap(jax.grad(squares(f), i), axes),
        lambda f: jax.grad(lambda *inputs: (jax.vmap(f, axes)(*inputs) ** 2).sum(), i),
    ):
        assert_close(mapped(ours)(*inputs), mapped(theirs)(*inputs))


def test_masks_that_are_not_floating_have_no_gradient() -> None:
    mask = INPUTS[3] != 0
    with pytest.raises(TypeError, match="grad requires real- or complex-valued inputs"):
        jax.grad(lambda mask: block_masked_mm(A, B, SIZES, mask_lhs=mask).sum())(mask)
    gradient, none = jax.grad(
        lambda a, mask: block_masked_mm(a, B, SIZES, mask_lhs=mask).sum(), (0, 1), allow_int=True
    )(INPUTS[0], mask)
    assert none.dtype == jax.dtypes.float0
    assert_close(gradient, jax.grad(lambda a: theirs(a, B, None, mask, None).sum())(INPUTS[0]))
    tangent = jax.jvp(lambda a: block_masked_mm(a, B, SIZES, mask_lhs=mask), INPUTS[:1], INPUTS[:1])[1]
    assert_close(tangent, theirs(A, B, None, mask, None))


def test_integer_operands() -> None:
    a = jnp.asarray(RNG.integers(-3, 4, (70, 130)))
    gradient = jax.grad(lambda b: block_masked_mm(a, b, SIZES, mask_lhs=MASKS[1]).sum())(INPUTS[1])
    assert_close(gradient, jax.grad(lambda b: theirs(a, b, None, MASKS[1], None).sum())(INPUTS[1]))
    x = jnp.asarray(X[0])
    gradient = jax.grad(lambda x: block_masked_dot(x, a, a.T[:, :50], SIZES).sum())(x)
    assert_close(gradient, (a @ a.T[:, :50]).astype(x.dtype))


@pytest.mark.parametrize("types", ["float32", "float16", "bfloat16", "bfloat16 float32", "float32 float16"])
def test_types_of_gradients(types: str) -> None:
    first, second = (types.split() * 2)[:2]
    a, b = INPUTS[0].astype(first), INPUTS[1].astype(second)
    masks = [INPUTS[2].astype("bfloat16"), INPUTS[3].astype("float64"), INPUTS[4].astype("float32")]
    wide = [x.astype("float64") for x in (a, b, *masks)]
    inputs = (a, b, *masks)
    eps = max(float(jnp.finfo(x.dtype).eps) for x in inputs)
    for gradient, x, exact in zip(
        jax.grad(lambda *inputs: ours(*inputs).astype("float64").sum(), ALL)(*inputs),
        inputs,
        jax.grad(lambda *inputs: theirs(*inputs).sum(), ALL)(*wide),
        strict=True,
    ):
        assert gradient.dtype == x.dtype
        assert_close(gradient.astype("float64"), exact, 2 * eps)


def test_the_gradient_by_x_is_as_wide_as_x() -> None:
    a, b = INPUTS[0][0].astype("bfloat16"), INPUTS[1].astype("bfloat16")
    gradient = jax.grad(lambda x: block_masked_dot(x, a, b, SIZES).sum())(jnp.asarray(X[0], "float32"))
    assert_close(gradient, (a.astype("float64") @ b.astype("float64")).astype("float32"), 1e-6)


def test_a_mask_that_is_all_zeros() -> None:
    zero = jnp.zeros((3, 3))
    found = jax.grad(lambda m: (block_masked_mm(A[0], B, SIZES, mask_lhs=m) * X[0]).sum())(zero)
    full = jax.grad(lambda m: (theirs(A[0], B, None, m, None) * X[0]).sum())(zero)
    assert_close(found, full)
    by_out = jax.grad(lambda m: (block_masked_mm(A[0], B, SIZES, m) * X[0]).sum())(jnp.zeros((3, 4)))
    assert_close(by_out, block_sums(X[0] * (A[0] @ B), SIZES))


def test_what_dead_blocks_hold_does_not_reach_gradients() -> None:
    mask = np.array([[1.0, 0, 2], [0, 0, 0], [0, 3, 0]])
    dirty = np.where(np.repeat(np.repeat(mask, 32, 0), 64, 1)[:70, :130] != 0, A[0], np.nan)

    def total(function: Any) -> Any:
        return lambda a, b: function(a, b, None, jnp.asarray(mask), None).sum()

    for i in (0, 1):
        gradient = jax.grad(total(ours), i)(jnp.asarray(dirty), INPUTS[1])
        assert_close(gradient, jax.grad(total(theirs), i)(jnp.asarray(A[0]), INPUTS[1]))


def test_a_dead_cotangent_of_the_dot_has_no_effect() -> None:
    mask_out, x = INPUTS[2][0], jnp.asarray(X[0])
    inputs = (x, INPUTS[0][0], INPUTS[1], mask_out, *INPUTS[3:])

    def first(fill: float, *inputs: Any) -> Any:
        cotangent = jnp.where(mask_out == 0, fill, 1.5)
        return jax.vjp(lambda *t: block_masked_dot(*t[:3], SIZES, *t[3:]), *inputs)[1](cotangent)

    def second(fill: float) -> Any:
        others = (0, 1, 2, 4, 5)
        total = lambda *t: sum((g**2).sum() for i, g in enumerate(first(fill, *t)) if i in others)  # noqa: E731
        return jax.grad(total, others)(*inputs)

    for fill in (np.nan, np.inf):
        for i, (found, clean) in enumerate(zip(first(fill, *inputs), first(0.0, *inputs), strict=True)):
            assert i == 3 or np.array_equal(found, clean)
        for found, clean in zip(second(fill), second(0.0), strict=True):
            assert np.array_equal(found, clean)
    by_mask = jax.grad(lambda m: (block_masked_dot(*inputs[:3], SIZES, m, jnp.zeros((3, 3))) * np.nan).sum())
    assert not np.asarray(by_mask(mask_out)).any()


@pytest.mark.parametrize(
    "shapes", [((70,), (70, 40)), ((30, 70), (70,)), ((70,), (70,)), ((4, 30, 70), (70,))]
)
def test_1d_operands(shapes: Any) -> None:
    a, b = (jnp.asarray(RNG.standard_normal(shape)) for shape in shapes)
    mask = jnp.asarray(scales(RNG, 3))

    def masked(a: Any, b: Any, mask: Any) -> Any:
        return (block_masked_mm(a, b, 32, mask_lhs=mask if a.ndim == 1 else mask[None]) ** 2).sum()

    def plain(a: Any, b: Any, mask: Any) -> Any:
        return (((a * jnp.repeat(mask, 32)[:70]) @ b) ** 2).sum()

    for found, expected in zip(
        jax.grad(masked, (0, 1, 2))(a, b, mask), jax.grad(plain, (0, 1, 2))(a, b, mask), strict=True
    ):
        assert_close(found, expected)


@pytest.mark.parametrize("extents", [(0, 40, 50), (40, 0, 50), (40, 50, 0), (0, 0, 0)])
def test_empty(extents: Any) -> None:
    M, N, K = extents
    a, b, mask = jnp.ones((M, K)), jnp.ones((K, N)), jnp.ones((-(-M // 32), -(-K // 32)))
    gradients = jax.grad(lambda *t: block_masked_mm(*t[:2], 32, mask_lhs=t[2]).sum(), (0, 1, 2))(a, b, mask)
    for gradient, x in zip(gradients, (a, b, mask), strict=True):
        assert gradient.shape == x.shape
        assert not np.asarray(gradient).any() or M * N * K > 0
