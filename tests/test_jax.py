"""maskmm.jax on JAX's default device: values, shapes, types, errors, and what JAX does with functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import product
from cases import CASES, build
from jax_setup import block_sums, dense, jax, jnp, scales
from maskmm.jax import block_masked_dot, block_masked_mm
from oracle import check_result, evaluate
from processes import run_python

RNG = np.random.default_rng(9)
CALL = product(RNG, 200, 150, 130, 32)
A, B = jnp.asarray(CALL.a), jnp.asarray(CALL.b)
MASKS = [jnp.asarray(mask) for mask in CALL.masks()]


@pytest.mark.parametrize("name", CASES)
def test_case(name: str) -> None:
    call = build(name)
    inputs = [
        None if x is None else np.ascontiguousarray(x).reshape(x.shape)
        for x in (call.a, call.b, *call.masks())
    ]
    a, b, *masks = (None if x is None else jnp.asarray(x) for x in inputs)
    result = block_masked_mm(a, b, call.block_size, *masks)
    assert isinstance(result, jax.Array)
    check_result(np.asarray(result), evaluate(call.a, call.b, call.block_size, *call.masks()))


def test_dot_is_the_block_sums() -> None:
    rng = np.random.default_rng(3)
    sizes = (32, 16, 64)
    x, a, b = (
        rng.standard_normal((2, 70, 50)),
        rng.standard_normal((70, 130)),
        rng.standard_normal((2, 130, 50)),
    )
    masks = scales(rng, 3, 4), scales(rng, 2, 3, 3), scales(rng, 3, 4)
    expected = block_sums(x * dense(a, b, sizes, *masks), sizes)
    assert np.allclose(block_masked_dot(x, a, b, sizes, *masks), expected, rtol=1e-12, atol=1e-9)
    for dtype, result in (("float16", "float32"), ("bfloat16", "float32"), ("float64", "float64")):
        small = [jnp.asarray(y, dtype) for y in (x, a, b)]
        assert block_masked_dot(*small, sizes).dtype == result


def test_inside_of_jit_and_outside_the_bits_are_the_same() -> None:
    def function(a: Any, b: Any, out: Any, lhs: Any, rhs: Any) -> Any:
        return block_masked_mm(a, b, 32, out, lhs, rhs)

    eager = function(A, B, *MASKS)
    assert np.array_equal(jax.jit(function)(A, B, *MASKS), eager)
    assert np.array_equal(jax.checkpoint(function)(A, B, *MASKS), eager)
    with jax.disable_jit():
        assert np.array_equal(function(A, B, *MASKS), eager)
    check_result(np.asarray(eager), evaluate(CALL.a, CALL.b, 32, *CALL.masks()))


def test_numpy_arrays_and_numbers_are_taken() -> None:
    result = block_masked_mm(CALL.a, CALL.b, np.int64(32), True, CALL.mask_lhs, 2.0)
    expected = evaluate(CALL.a, CALL.b, 32, np.array(True), CALL.mask_lhs, np.array(2, np.float32))
    check_result(np.asarray(result), expected)


@pytest.mark.parametrize("rows", [64, 65])
def test_a_batch_of_rows(rows: int) -> None:
    """Where blocks fit, the batch becomes the rows of one product."""
    rng = np.random.default_rng(rows)
    a, b = rng.standard_normal((2, 3, rows, 70)), rng.standard_normal((70, 40))
    blocks = -(-rows // 32)
    for out, lhs in (
        (scales(rng, 3, blocks, 2), scales(rng, 2, 1, blocks, 3)),
        (scales(rng, 1, 2), scales(rng, 3)),
        (scales(rng), None),
    ):
        exact = evaluate(a, b, 32, out, lhs, scales(np.random.default_rng(1), 3, 2))
        check_result(
            np.asarray(block_masked_mm(a, b, 32, out, lhs, scales(np.random.default_rng(1), 3, 2))), exact
        )
        x = rng.standard_normal((2, 3, rows, 40))
        if lhs is None or lhs.ndim != 1:
            continue
        expected = block_sums(x * np.asarray(block_masked_mm(a, b, 32, None, lhs)), (32, 32, 32))
        assert np.allclose(block_masked_dot(x, a, b, 32, None, lhs), expected)


def test_in_scan_and_with_donated_memory() -> None:
    square = jnp.asarray(RNG.standard_normal((64, 64)), jnp.float32)
    mask = jnp.array([[True, False], [True, True]])

    def step(carry: Any, _: Any) -> Any:
        carry = block_masked_mm(carry, square, 32, mask_rhs=mask) / 8
        return carry, carry[0, 0]

    def loop(x: Any) -> Any:
        for _ in range(4):
            x, _ = step(x, None)
        return x

    start = jnp.ones((64, 64), jnp.float32)
    expected = jax.jit(loop)(start)
    assert np.allclose(jax.lax.scan(step, start, None, length=4)[0], expected)
    donating = jax.jit(lambda x: block_masked_mm(x, square, 32, mask_rhs=mask), donate_argnums=0)
    assert np.array_equal(donating(start + 0), block_masked_mm(start, square, 32, mask_rhs=mask))


@pytest.mark.parametrize("axes", [(0, None, None), (None, 1, None), (None, None, 2), (2, 0, 1), (0, 0, 0)])
def test_vmap(axes: Any) -> None:
    rng = np.random.default_rng(5)
    shapes = ((70, 90), (2, 90, 40), (3, 3))
    a, b, mask = (
        jnp.asarray(rng.standard_normal(shape if axis is None else (*shape[:axis], 4, *shape[axis:])))
        for shape, axis in zip(shapes, axes, strict=True)
    )

    def function(a: Any, b: Any, mask: Any) -> Any:
        return block_masked_mm(a, b, 32, mask_lhs=mask)

    def part(x: Any, axis: int | None, i: int) -> Any:
        return x if axis is None else jnp.take(x, i, axis)

    result = jax.vmap(function, axes)(a, b, mask)
    for i in range(4):
        exact = evaluate(*(np.asarray(part(x, axis, i)) for x, axis in zip((a, b), axes, strict=False)), 32, None,
                         np.asarray(part(mask, axes[2], i)))  # fmt: skip
        check_result(np.asarray(result[i]), exact)


def test_in_other_order_of_axes() -> None:
    """XLA may keep a transposed array in any layout; what the kernels are given is row-major."""
    call = product(np.random.default_rng(2), 96, 64, 160, 32)
    function = jax.jit(lambda a, b: block_masked_mm(a.T, b.T, 32, *call.masks()).T)
    exact = evaluate(call.a, call.b, 32, *call.masks())
    check_result(np.asarray(function(call.a.T.copy(), call.b.T.copy())).T, exact)


ERRORS: dict[str, tuple[type[Exception], str, Any]] = {
    "shape": (ValueError, r"^b: expected \(\.\.\., 130, N\) to match a", lambda a, b: block_masked_mm(a, b.T)),
    "mask": (
        ValueError,
        r"^mask_lhs: expected \(\.\.\., 7, 5\) for block_size 32, got \(5, 5\)",
        lambda a, b: block_masked_mm(a, b, 32, mask_lhs=np.ones((5, 5))),
    ),
    "block size": (ValueError, "^block_size: expected 16, 32, 64, .* got 17", lambda a, b: block_masked_mm(a, b, 17)),
    "list": (TypeError, "^block_size: expected an int or a tuple", lambda a, b: block_masked_mm(a, b, [32] * 3)),
    "complex": (TypeError, "^a: expected float16, .* got complex", lambda a, b: block_masked_mm(a * 1j, b)),
    "8 bits": (
        TypeError,
        "^b: expected float16, .* got float8_e5m2",
        lambda a, b: block_masked_mm(a, b.astype("float8_e5m2")),
    ),
    "integers": (
        TypeError,
        "^a, b: expected float16, .* got int32 and int32",
        lambda a, b: block_masked_mm(a.astype("int32"), b.astype("int32")),
    ),
    "precision": (ValueError, "^precision: expected 'ieee' or", lambda a, b: block_masked_mm(a, b, precision="")),
    "precision's type": (TypeError, "^precision: ", lambda a, b: block_masked_mm(a, b, precision=3)),
    "object": (TypeError, "^mask_out: expected an array .NumPy, ", lambda a, b: block_masked_mm(a, b, 32, object())),
    "stream": (TypeError, "^stream: expected None", lambda a, b: block_masked_mm(a, b, stream=maskmm.cpu)),
    "out": (TypeError, "^out: expected None", lambda a, b: block_masked_mm(a, b, out=a)),
    "x": (
        ValueError,
        r"^x: expected \(\.\.\., 200, 150\) as the product of a and b has, got \(150, 150\)",
        lambda a, b: block_masked_dot(jnp.ones((150, 150)), a, b),
    ),
}  # fmt: skip


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("name", ERRORS)
def test_errors(name: str, traced: bool) -> None:
    kind, message, function = ERRORS[name]
    with pytest.raises(kind, match=message):
        (jax.jit(function) if traced else function)(A, B)
    check_result(np.asarray(block_masked_mm(A, B, 32, *MASKS)), evaluate(CALL.a, CALL.b, 32, *CALL.masks()))


def test_no_memory_and_the_next_call_works() -> None:
    thin = jnp.ones((2**21, 1), jnp.float32), jnp.ones((1, 2**21), jnp.float32)
    late = jax.errors.JaxRuntimeError if jax.default_backend() == "gpu" else MemoryError
    with pytest.raises(late, match=r"(?i)memory"):
        block_masked_mm(*thin, mask_out=False).block_until_ready()
    check_result(np.asarray(block_masked_mm(A, B, 32, *MASKS)), evaluate(CALL.a, CALL.b, 32, *CALL.masks()))


def test_the_function_of_the_package_comes_here() -> None:
    expected = block_masked_mm(A, B, 32, *MASKS)
    for result in (
        maskmm.block_masked_mm(A, B, 32, *MASKS),
        maskmm.block_masked_mm(A, B, 32, *CALL.masks()),
        jax.jit(lambda a: maskmm.block_masked_mm(a, B, 32, *MASKS))(A),
    ):
        assert isinstance(result, jax.Array)
        assert np.array_equal(result, expected)
    x = jnp.ones((200, 150))
    assert np.array_equal(maskmm.block_masked_dot(x, A, B, 32), block_masked_dot(x, A, B, 32))
    assert jax.grad(lambda a: maskmm.block_masked_mm(a, B).sum())(A).shape == A.shape
    live = maskmm.explain(A, B, 32, *MASKS).live_fraction
    assert live == pytest.approx(evaluate(CALL.a, CALL.b, 32, *CALL.masks()).live_fraction)


def test_streams_and_devices_at_the_package() -> None:
    device = maskmm.explain(A, B).device
    for stream in (device, device.type):
        assert maskmm.block_masked_mm(A, B, stream=stream).shape == (200, 150)
    other = maskmm.Device(maskmm.gpu, 7)
    wrong: list[tuple[Any, type[Exception], str]] = [
        (
            other,
            ValueError,
            rf"^stream: expected one on {device.type.name}:{device.index} as a is, got gpu:7$",
        ),
        (
            maskmm.default_stream(device),
            TypeError,
            "^stream: expected None, as XLA orders the work, got Stream$",
        ),
    ]
    for stream, kind, message in wrong:
        with pytest.raises(kind, match=message):
            maskmm.block_masked_mm(A, B, stream=stream)
    with pytest.raises(TypeError, match=r"^out: expected None, as JAX arrays cannot be written to"):
        maskmm.block_masked_mm(A, B, out=A)
    with pytest.raises(
        TypeError, match=r"^a, b: expected arrays of one framework, got jax\.Array, numpy\.ndarray$"
    ):
        maskmm.block_masked_mm(A, CALL.b)
    with pytest.raises(TypeError, match=r"^a, b: .*, got numpy\.ndarray, jax\.Array"):
        jax.jit(lambda b: maskmm.block_masked_mm(CALL.a, b))(B)
    with pytest.raises(TypeError, match=r"^a: expected a JAX array with values, got one that is traced"):
        jax.jit(lambda a: maskmm.explain(a, B))(A)


def test_sizes_and_arrays_of_other_kinds() -> None:
    class Holder:
        def __init__(self, x: Any) -> None:
            self.x = x

        def __jax_array__(self) -> Any:
            return self.x

    expected = block_masked_mm(A, B, 32, *MASKS)
    sizes = np.int32(32), np.array(32), jnp.array(32), (32, np.int64(32), jnp.array(32))
    assert all(np.array_equal(block_masked_mm(A, B, size, *MASKS), expected) for size in sizes)
    assert np.array_equal(block_masked_mm(Holder(A), B, 32, *map(Holder, MASKS)), expected)
    for size in (True, (32, True, 32), (32, [32], 32), jnp.ones(2, int), 32.0):
        with pytest.raises(TypeError, match=r"^block_size: expected an int or a tuple of three ints"):
            block_masked_mm(A, B, size)


@pytest.mark.parametrize("batch", [(), (64,)])
def test_export_with_sizes_that_are_not_known(batch: tuple[int, ...]) -> None:
    export = pytest.importorskip("jax.export")
    (n,) = export.symbolic_shape("n")
    b, mask = jnp.ones((128, 50), jnp.float32), jnp.array([[True], [False]])

    def f(a: Any) -> Any:
        product = block_masked_mm(a, b, 64, mask_rhs=mask)
        gradient = jax.grad(lambda b: block_masked_mm(a, b, 64, mask_rhs=mask).sum())(b)
        return product, gradient, block_masked_dot(product, a, b, 64)

    checks = [export.DisabledSafetyCheck.custom_call("maskmm")]
    exported = export.export(jax.jit(f), disabled_checks=checks)(
        jax.ShapeDtypeStruct((n, *batch, 128), jnp.float32)
    )
    for size in (1, 3, 70):
        a = jnp.asarray(np.random.default_rng(size).standard_normal((size, *batch, 128)), jnp.float32)
        for found, expected in zip(exported.call(a), f(a), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    wrong = export.export(jax.jit(lambda a: block_masked_mm(a, b, 64)), disabled_checks=checks)(
        jax.ShapeDtypeStruct((2, n), jnp.float32)
    )
    with pytest.raises(
        jax.errors.JaxRuntimeError, match=r"b: expected \(\.\.\., 5, N\) to match a of shape \(2, 5\)"
    ):
        wrong.call(jnp.ones((2, 5), jnp.float32)).block_until_ready()


def test_several_devices() -> None:
    program = """
        import os
        os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax, jax.numpy as jnp, numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from maskmm.jax import block_masked_mm
        a = jnp.asarray(np.random.default_rng(0).standard_normal((2, 64, 64)), "float32")
        b, mask = 2 * a[0], jnp.asarray([[True, False], [True, True]])

        def multiply(a, b):
            return block_masked_mm(a, b, 32, mask_lhs=mask)

        def gradients(f):
            return jax.grad(lambda a, b: (f(a, b) ** 2).sum(), (0, 1))(a, b)

        mesh = Mesh(np.array(jax.devices()), "x")
        rows, whole = PartitionSpec("x"), PartitionSpec()
        split = jax.shard_map(multiply, mesh=mesh, in_specs=(rows, whole), out_specs=rows, check_vma=False)
        print(np.allclose(split(a, b), multiply(a, b)))
        print(all(np.allclose(x, y, rtol=1e-4) for x, y in zip(gradients(split), gradients(multiply))))
        gathered = jax.jit(multiply)(jax.device_put(a, NamedSharding(mesh, rows)), b)
        print(np.array_equal(gathered, multiply(a, b)))
    """
    assert run_python(program).split() == ["True"] * 3
