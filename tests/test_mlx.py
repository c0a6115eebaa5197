"""maskmm.mlx: values, types, errors, and what MLX does with functions; test_parity_mlx.py has MLX's own kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import product
from cases import CASES, build
from oracle import BFLOAT16, Array, check_result, evaluate

mx = pytest.importorskip("mlx.core", reason="the extra 'test' installs mlx-cpu")
front = pytest.importorskip("maskmm.mlx")
block_masked_mm, block_masked_dot = front.block_masked_mm, front.block_masked_dot

RNG = np.random.default_rng(12)
SIZES = (32, 16, 64)
ALL = (0, 1, 2, 3, 4)
BATCHED = (0, None, None, 0, None)


def to_mlx(x: Array) -> Any:
    """In MLX's memory, transposed where it is so in NumPy's."""
    if x.dtype == BFLOAT16:
        return mx.array(np.ascontiguousarray(x).reshape(x.shape).view(np.uint16)).view(mx.bfloat16)
    if x.dtype == np.float64:
        return mx.array(np.ascontiguousarray(x).reshape(x.shape).view(np.uint64)).view(mx.float64)
    if x.ndim > 1 and x.strides[-1] != x.itemsize and x.size:
        return mx.array(np.ascontiguousarray(x.swapaxes(-1, -2))).swapaxes(-1, -2)
    return mx.array(np.ascontiguousarray(x).reshape(x.shape))


def to_numpy(x: Any) -> Array:
    if x.dtype == mx.bfloat16:
        return np.array(x.view(mx.uint16)).view(BFLOAT16)
    return np.array(x)


def normal(*shape: int) -> Any:
    return mx.array(RNG.standard_normal(shape).astype(np.float32)) / 4


def scales(*shape: int) -> Any:
    return normal(*shape) * mx.array((RNG.random(shape) < 0.6).astype(np.float32))


INPUTS = (normal(2, 70, 130), normal(130, 50), scales(2, 3, 4), scales(3, 3), scales(3, 4))
DIRECTIONS = tuple(normal(*x.shape) for x in INPUTS)


def ours(a: Any, b: Any, *masks: Any) -> Any:
    return block_masked_mm(a, b, SIZES, *masks)


def theirs(a: Any, b: Any, out: Any, lhs: Any, rhs: Any) -> Any:
    """Masks multiplied into dense matrices: right where all values are finite."""
    m, n, k = SIZES
    M, K, N = *a.shape[-2:], b.shape[-1]

    def spread(mask: Any, rows: int, columns: int, height: int, width: int) -> Any:
        return mx.repeat(mx.repeat(mask, rows, -2)[..., :height, :], columns, -1)[..., :width]

    return ((a * spread(lhs, m, k, M, K)) @ (b * spread(rhs, k, n, K, N))) * spread(out, m, n, M, N)


def squares(function: Any) -> Any:
    return lambda *inputs: mx.square(function(*inputs)).sum()


def assert_close(x: Any, y: Any) -> None:
    assert x.shape == y.shape
    assert x.dtype == y.dtype
    x, y = to_numpy(x), to_numpy(y)
    assert np.abs(x - y).max() <= 2e-5 * np.abs(y).max()


@pytest.fixture
def core_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernels were asked for."""
    calls: list[str] = []

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return call

    monkeypatch.setattr(front, "_CORE", {name: counted(name, f) for name, f in front._CORE.items()})
    return calls


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    call = build(name)
    masks = [None if mask is None else to_mlx(mask) for mask in call.masks()]
    result = block_masked_mm(to_mlx(call.a), to_mlx(call.b), call.block_size, *masks)
    check_result(to_numpy(result), evaluate(call.a, call.b, call.block_size, *call.masks()))


@pytest.mark.parametrize("name", list(CASES)[::25])
def test_case_compiled(name: str) -> None:
    """The graph in MLX's own operations gives the same, within what another order of its sums may change."""
    call = build(name)
    inputs = [call.a, call.b, *(mask for mask in call.masks() if mask is not None)]
    there = [mask is not None for mask in call.masks()]

    def function(a: Any, b: Any, *given: Any) -> Any:
        rest = iter(given)
        return block_masked_mm(a, b, call.block_size, *(next(rest) if present else None for present in there))

    result = mx.compile(function)(*map(to_mlx, inputs))
    expected = function(*map(to_mlx, inputs))
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    x, y = (np.array(z.astype(mx.float32)) for z in (result, expected))
    tolerance = 1e-2 if result.dtype in (mx.float16, mx.bfloat16) else 1e-4
    assert np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("i", ALL)
def test_a_gradient_and_only_that(i: int, core_calls: list[str]) -> None:
    gradient = mx.grad(squares(ours), i)(*INPUTS)
    assert core_calls == ["mm", "mm" if i < 2 else "dot"]
    assert_close(gradient, mx.grad(squares(theirs), i)(*INPUTS))


def test_all_gradients_and_the_tangent() -> None:
    for gradient, expected in zip(
        mx.grad(squares(ours), ALL)(*INPUTS), mx.grad(squares(theirs), ALL)(*INPUTS), strict=True
    ):
        assert_close(gradient, expected)
    assert_close(mx.jvp(ours, INPUTS, DIRECTIONS)[1][0], mx.jvp(theirs, INPUTS, DIRECTIONS)[1][0])
    some = mx.jvp(lambda b, rhs: ours(INPUTS[0], b, *INPUTS[2:4], rhs), INPUTS[1::3], DIRECTIONS[1::3])
    exact = mx.jvp(lambda b, rhs: theirs(INPUTS[0], b, *INPUTS[2:4], rhs), INPUTS[1::3], DIRECTIONS[1::3])
    assert_close(some[1][0], exact[1][0])


def along(function: Any) -> Any:
    """The derivative along DIRECTIONS, from all five gradients: its own gradients are of second order."""

    def derivative(*inputs: Any) -> Any:
        gradients = mx.grad(function, ALL)(*inputs)
        return sum((x * y).sum() for x, y in zip(gradients, DIRECTIONS, strict=True))

    return derivative


@pytest.mark.parametrize("i", ALL)
def test_second_and_third_order(i: int) -> None:
    second = [along(squares(function)) for function in (ours, theirs)]
    assert_close(*(mx.grad(function, i)(*INPUTS) for function in second))
    assert_close(*(mx.grad(along(function), i)(*INPUTS) for function in second))


@pytest.mark.parametrize("i", ALL)
def test_vmap_with_grad(i: int, core_calls: list[str]) -> None:
    inputs = [
        mx.stack([x, 2 * x, x - 1]) if axis == 0 else x for x, axis in zip(INPUTS, BATCHED, strict=True)
    ]
    assert_close(mx.vmap(ours, BATCHED)(*inputs), mx.vmap(theirs, BATCHED)(*inputs))
    assert core_calls == ["mm"]
    inside = [mx.vmap(mx.grad(squares(f), i), BATCHED)(*inputs) for f in (ours, theirs)]
    assert_close(*inside)
    outside = [mx.grad(squares(mx.vmap(f, BATCHED)), i)(*inputs) for f in (ours, theirs)]
    assert_close(*outside)
    crossed = [
        mx.grad(lambda *t, f=f: mx.grad(squares(mx.vmap(f, BATCHED)), i)(*t).sum(), 1)(*inputs)
        for f in (ours, theirs)
    ]
    assert_close(*crossed)


@pytest.mark.parametrize("i", ALL)
def test_compile(i: int) -> None:
    assert_close(mx.compile(ours)(*INPUTS), theirs(*INPUTS))
    assert_close(mx.compile(mx.grad(squares(ours), i))(*INPUTS), mx.grad(squares(theirs), i)(*INPUTS))
    stacked = mx.stack([INPUTS[0], INPUTS[0] + 1])
    mapped = mx.vmap(lambda a: ours(a, *INPUTS[1:]))
    assert_close(mx.compile(mapped)(stacked), mapped(stacked))


def test_the_dot() -> None:
    x = normal(2, 70, 50)
    product = to_numpy(x * theirs(*INPUTS))
    padded = np.pad(product, [(0, 0), (0, 26), (0, 14)]).reshape(2, 3, 32, 4, 16)
    result = block_masked_dot(x, *INPUTS[:2], SIZES, *INPUTS[2:])
    assert_close(result, mx.array(padded.sum((2, 4))))
    compiled = mx.compile(lambda x: block_masked_dot(x, *INPUTS[:2], SIZES, *INPUTS[2:]))
    assert_close(compiled(x), result)
    tangent = mx.jvp(lambda x: block_masked_dot(x, *INPUTS[:2], SIZES, *INPUTS[2:]), [x], [x])[1][0]
    assert_close(tangent, result)


def test_what_dead_blocks_hold_does_not_reach_results() -> None:
    mask = np.array([[1, 0, 2], [0, 0, 0], [0, 3, 0]], np.float32)
    spread = np.repeat(np.repeat(mask, 32, 0), 64, 1)[:70, :130]
    dirty = mx.where(mx.array(spread) != 0, INPUTS[0][0], mx.array(np.nan))
    b = INPUTS[1]
    b[64:128] = np.inf  # faces live blocks of the last row alone
    exact = evaluate(np.array(dirty), np.array(b), SIZES, None, mask)
    for function in (ours, mx.compile(ours)):
        check_result(
            to_numpy(function(dirty, b, mx.array(np.ones((1, 1), bool)), mx.array(mask), mx.array([[True]]))),
            exact,
        )
    b[64:128] = 0


@pytest.mark.parametrize("is_bool", [False, True])
def test_what_is_dead_in_the_dot_has_no_effect(is_bool: bool) -> None:
    """NaN and Inf where mask_out is zero, in the cotangent and in x, in first and second order."""
    dead = INPUTS[2][0] == 0
    mask_out = ~dead if is_bool else INPUTS[2][0]
    x, (m, n, _) = normal(70, 50), SIZES
    dead_x = mx.repeat(mx.repeat(dead, m, 0)[:70], n, 1)[:, :50]
    others = (0, 1, 2, 4, 5)

    def first(cotangent: Any, *inputs: Any) -> Any:
        gradients = mx.vjp(lambda *t: block_masked_dot(*t[:3], SIZES, *t[3:]), list(inputs), [cotangent])[1]
        return [gradients[i] for i in others]

    def both_orders(fill: float) -> list[Any]:
        cotangent = mx.where(dead, fill, 1.5)
        inputs = [mx.where(dead_x, fill, x), INPUTS[0][0], INPUTS[1], mask_out, *INPUTS[3:]]

        def squared(*t: Any) -> Any:
            return sum(mx.square(gradient).sum() for gradient in first(*t))

        second = mx.grad(squared, (0, *(i + 1 for i in others)))(cotangent, *inputs)
        return [*first(cotangent, *inputs), *second]

    clean = both_orders(0.0)
    for fill in (np.nan, np.inf):
        assert all(mx.array_equal(x, y) for x, y in zip(both_orders(fill), clean, strict=True))


@pytest.mark.parametrize("i", range(6))
def test_derivatives_of_the_dot(i: int) -> None:
    inputs = [normal(70, 50), INPUTS[0][0], INPUTS[1], INPUTS[2][0], *INPUTS[3:]]

    def dense(x: Any, *rest: Any) -> Any:
        product = mx.pad(x * theirs(*rest), [(0, 26), (0, 14)])
        return product.reshape(3, 32, 4, 16).sum((1, 3))

    def dot(*t: Any) -> Any:
        return block_masked_dot(*t[:3], SIZES, *t[3:])

    def second(function: Any) -> Any:
        return lambda *t: sum(mx.square(g).sum() for g in mx.grad(squares(function), (0, 1, 3, 4))(*t))

    assert_close(*(mx.grad(second(function), i)(*inputs) for function in (dot, dense)))
    stacked = [mx.stack([x, 2 * x]) for x in inputs]
    assert_close(*(mx.vmap(mx.grad(second(function), i))(*stacked) for function in (dot, dense)))


@pytest.mark.parametrize(
    "stream", [mx.cpu, mx.Device(mx.cpu, 0), mx.default_stream(mx.cpu), mx.new_stream(mx.cpu)]
)
def test_streams(stream: Any) -> None:
    call = product(RNG, 100, 90, 80, 32)
    late = mx.add(to_mlx(call.a), 0, stream=stream)
    masks = [None if mask is None else to_mlx(mask) for mask in call.masks()]
    result = block_masked_mm(late, to_mlx(call.b), 32, *masks, stream=stream)
    check_result(to_numpy(result), evaluate(call.a, call.b, 32, *call.masks()))


A, B = mx.ones((200, 130)), mx.ones((130, 150))
ERRORS: dict[str, tuple[type[Exception], str, Any]] = {
    "shape": (ValueError, r"^b: expected \(\.\.\., 130, N\) to match a", lambda a: block_masked_mm(a, B.T)),
    "mask": (
        ValueError,
        r"^mask_lhs: expected \(\.\.\., 7, 5\) for block_size 32, got \(5, 5\)$",
        lambda a: block_masked_mm(a, B, 32, mask_lhs=mx.ones((5, 5))),
    ),
    "block size": (ValueError, "^block_size: expected 16, 32, 64, .* got 17$", lambda a: block_masked_mm(a, B, 17)),
    "list": (TypeError, "^block_size: expected an int or a tuple", lambda a: block_masked_mm(a, B, [32] * 3)),
    "complex": (TypeError, "^a: expected float16, .* got complex64$", lambda a: block_masked_mm(a * 1j, B)),
    "precision": (ValueError, "^precision: expected 'ieee' or 'tf32'", lambda a: block_masked_mm(a, B, precision="")),
    "numpy": (TypeError, r"^b: expected an mlx\.core\.array, got numpy", lambda a: block_masked_mm(a, np.ones(9))),
    "object": (
        TypeError,
        r"^mask_out: expected an array \(NumPy, buffer protocol or DLPack\), got object$",
        lambda a: block_masked_mm(a, B, 64, object()),
    ),
    "gpu": (ValueError, "^stream: expected one on the CPU, ", lambda a: block_masked_mm(a, B, stream=mx.gpu)),
    "stream": (TypeError, "^stream: expected None, or a device or", lambda a: block_masked_mm(a, B, stream=3)),
    "x": (ValueError, r"^x: expected \(\.\.\., 200, 150\)", lambda a: block_masked_dot(mx.ones((9, 9)), a, B)),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str) -> None:
    kind, message, function = ERRORS[name]
    with pytest.raises(kind, match=message):
        function(A)
    assert float(block_masked_mm(A, B)[0, 0]) == 130


@pytest.mark.parametrize(
    "shapes", [((70,), (70, 40)), ((30, 70), (70,)), ((70,), (70,)), ((4, 30, 70), (70,))]
)
def test_gradients_of_1d_operands(shapes: Any) -> None:
    a, b = (normal(*shape) for shape in shapes)
    found = mx.grad(lambda a, b: mx.square(block_masked_mm(a, b, 32)).sum(), (0, 1))(a, b)
    for gradient, expected in zip(
        found, mx.grad(lambda a, b: mx.square(a @ b).sum(), (0, 1))(a, b), strict=True
    ):
        assert_close(gradient, expected)


@pytest.mark.parametrize("extents", [(0, 40, 33), (33, 0, 40), (33, 40, 0), (0, 0, 0)])
def test_empty_where_mlx_traces(extents: Any) -> None:
    """A batch that only a mask or b brings keeps its axis where there is nothing to sum."""
    M, N, K = extents
    a, b, mask = normal(M, K), normal(2, K, N), normal(3, 1, 1, 1)
    for i, function in enumerate((block_masked_mm, lambda *t: block_masked_dot(normal(M, N), *t))):
        expected = function(a, b, 32, mask)
        assert expected.shape == (3, 2, *((M, N) if i == 0 else (-(-M // 32), -(-N // 32))))
        assert mx.compile(lambda *t, f=function: f(*t[:2], 32, t[2]))(a, b, mask).shape == expected.shape
        mapped = mx.vmap(lambda m, f=function: f(a, b, 32, m))(mask)
        assert mapped.shape == expected.shape
        gradient = mx.grad(lambda a, m, f=function: f(a, b, 32, m).sum())
        assert mx.vmap(gradient, (None, 0))(a, mask).shape == (3, M, K)


def test_sizes_of_other_kinds() -> None:
    for m in (np.int32(32), np.array(32), mx.array(32)):
        result = block_masked_mm(*INPUTS[:2], (m, 16, 64), *INPUTS[2:])
        assert_close(result, ours(*INPUTS))
        compiled = mx.compile(lambda *t, m=m: block_masked_mm(*t[:2], (m, 16, 64), *t[2:]))
        assert_close(compiled(*INPUTS), result)


def test_the_function_of_the_package_comes_here() -> None:
    expected = ours(*INPUTS)
    for stream in (None, mx.cpu, maskmm.cpu, maskmm.Device(maskmm.cpu)):
        result = maskmm.block_masked_mm(*INPUTS[:2], SIZES, *INPUTS[2:], stream=stream)
        assert isinstance(result, mx.array)
        assert mx.array_equal(result, expected)
    x = normal(2, 70, 50)
    assert mx.array_equal(
        maskmm.block_masked_dot(x, *INPUTS[:2], SIZES), block_masked_dot(x, *INPUTS[:2], SIZES)
    )
    assert maskmm.explain(*INPUTS[:2], SIZES, stream=maskmm.cpu).live_fraction == 1
    with pytest.raises(TypeError, match=r"^out: expected None, as MLX's arrays do not change, got array$"):
        maskmm.block_masked_mm(A, B, out=A)
    with pytest.raises(
        TypeError, match=r"^a, b: expected arrays of one framework, got mlx\.core\.array, numpy\.ndarray$"
    ):
        maskmm.block_masked_mm(A, np.ones((130, 150), np.float32))
