"""torch.compile, torch.export, fakes, autocast: what traces the operation, and what it may not break."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import maskmm
import maskmm.torch
from torch_dense import DEVICES, call, example, numbers, product

pytestmark = pytest.mark.parametrize("device", DEVICES)


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    torch.compiler.reset()


def on_tensors(function: Any, names: Any, sizes: Any) -> Any:
    return lambda *tensors: call(function, dict(zip(names, tensors, strict=True)), sizes)


@pytest.mark.parametrize("name", ["block_masked_mm", "block_masked_dot"])
@pytest.mark.parametrize("batch", [False, True])
def test_opcheck(device: str, name: str, batch: bool) -> None:
    inputs, sizes = example(device, torch.float32, batch)
    tensors = [x.requires_grad_() for x in inputs.values()]
    if name == "block_masked_dot":
        tensors.insert(0, numbers(37, 41, device=device, dtype=torch.float32).requires_grad_())
    torch.library.opcheck(getattr(torch.ops.maskmm, name).default, (*tensors, list(sizes), "ieee"))
    absent = [*tensors[:-3], None, None, None]
    torch.library.opcheck(getattr(torch.ops.maskmm, name).default, (*absent, list(sizes), "ieee"))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("function", [maskmm.block_masked_mm, maskmm.torch.block_masked_mm])
def test_compile(device: str, function: Any, grad: bool, dynamic: bool) -> None:
    inputs, sizes = example(device, torch.float32)
    eager = on_tensors(function, inputs, sizes)
    compiled = torch.compile(eager, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for rows in (37, 40):
        tensors = [x.detach().clone().requires_grad_(grad) for x in inputs.values()]
        tensors[0] = numbers(rows, 52, dtype=torch.float32, device=device).requires_grad_(grad)
        result, expected = compiled(*tensors), eager(*tensors)
        assert torch.equal(result, expected)
        if grad:
            found, right = (torch.autograd.grad(y.sin().sum(), tensors) for y in (result, expected))
            assert all(torch.equal(x, y) for x, y in zip(found, right, strict=True))


def test_compile_with_what_is_reshaped(device: str) -> None:
    """1-D operands, masks that are spread, and out."""
    a, b = (numbers(*shape, dtype=torch.float32, device=device) for shape in ((52,), (3, 52, 41)))
    mask, out = torch.tensor([1.0, 0, 2, 3], device=device), torch.empty(3, 41, device=device)

    def f(a: Any, b: Any, mask: Any, out: Any) -> Any:
        return maskmm.block_masked_mm(a, b, 16, mask_lhs=mask, mask_out=True, out=out)

    expected = f(a, b, mask, out).clone()
    out.zero_()
    result = torch.compile(f, fullgraph=True, backend="aot_eager")(a, b, mask, out)
    assert torch.equal(out, expected)
    assert torch.equal(result, expected)


def test_compile_by_the_default_backend(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    f = on_tensors(maskmm.block_masked_mm, inputs, sizes)
    tensors = tuple(inputs.values())
    torch.testing.assert_close(
        torch.compile(lambda *x: f(*x).relu() + 1, fullgraph=True)(*tensors), f(*tensors).relu() + 1
    )


def test_compiled_vmap(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    f = on_tensors(maskmm.torch.block_masked_mm, inputs, sizes)
    a, *rest = inputs.values()
    over_a = torch.vmap(f, (0, None, None, None, None))
    many = torch.stack([a, -a])
    compiled = torch.compile(over_a, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(many, *rest), over_a(many, *rest))


@pytest.mark.parametrize("strict", [False, True])
def test_export(device: str, strict: bool) -> None:
    layer = maskmm.torch.BlockMaskedLinear(96, 80, block_size=(16, 32), device=device)
    x = torch.randn(5, 7, 96, device=device)
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},), strict=strict)
    module = program.module()
    for rows in (5, 9):
        x = torch.randn(rows, 7, 96, device=device)
        assert torch.equal(module(x), layer(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_traced_by_jit(device: str) -> None:
    layer = maskmm.torch.BlockMaskedLinear(96, 80, block_size=(16, 32), device=device)
    traced = torch.jit.trace(layer, (torch.randn(5, 96, device=device),))
    x = torch.randn(9, 96, device=device, requires_grad=True)
    assert torch.equal(traced(x), layer(x))
    assert "maskmm::block_masked_mm" in str(traced.graph)
    found, expected = (torch.autograd.grad(f(x).sin().sum(), [x, layer.weight]) for f in (traced, layer))
    assert all(torch.equal(g, e) for g, e in zip(found, expected, strict=True))


def test_a_transform_is_traced(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    f = on_tensors(maskmm.block_masked_mm, inputs, sizes)
    gradient = torch.func.grad(lambda *x: f(*x).sin().sum(), (0, 1, 2, 3, 4))
    tensors = tuple(inputs.values())
    graph = make_fx(gradient)(*tensors)
    targets = {str(node.target) for node in graph.graph.nodes}
    assert {"maskmm.block_masked_mm.default", "maskmm.block_masked_dot.default"} <= targets
    assert all(torch.equal(x, y) for x, y in zip(graph(*tensors), gradient(*tensors), strict=True))


def test_fakes_and_meta(device: str) -> None:
    inputs, sizes = example(device, torch.bfloat16, batch=True)
    expected = call(maskmm.block_masked_mm, inputs, sizes)
    meta = {name: x.to("meta") for name, x in inputs.items()}
    with FakeTensorMode() as mode:
        fakes = {name: mode.from_tensor(x) for name, x in inputs.items()}
        results = [call(maskmm.block_masked_mm, fakes, sizes)]
    results.append(call(maskmm.block_masked_mm, meta, sizes))
    for result in results:
        assert (result.shape, result.dtype, result.stride()) == (
            expected.shape,
            expected.dtype,
            expected.stride(),
        )
    with pytest.raises(
        ValueError, match=r"^mask_lhs: expected \(\.\.\., 3, 4\) for block_size \(16, 32, 16\), got "
    ):
        call(maskmm.block_masked_mm, {**meta, "mask_lhs": meta["mask_lhs"][..., :2]}, sizes)


def test_wrong_fakes(device: str) -> None:
    inputs, sizes = example("meta")
    x = torch.empty(37, 41, device="meta")
    assert call(maskmm.block_masked_dot, {"x": x.half(), **inputs}, sizes).dtype == torch.float64
    for wrong, error, message in (
        (
            {"x": x[:36]},
            ValueError,
            r"^x: expected \(\.\.\., 37, 41\) as the product of a and b has, got \(36, 41\)$",
        ),
        (
            {"x": x[0]},
            ValueError,
            r"^x: expected \(\.\.\., 37, 41\) as the product of a and b has, got \(41,\)$",
        ),
        ({"x": x.to(torch.complex64)}, TypeError, r"^x: expected float16, .* got complex64$"),
        (
            {"x": torch.empty(37, 41)},
            ValueError,
            r"^x: expected an array on meta:0 as a is, got one on cpu:0$",
        ),
        ({"x": x, "b": torch.empty(52, 41)}, ValueError, r"^b: expected an array on meta:0 as a is, "),
    ):
        with pytest.raises(error, match=message):
            call(maskmm.block_masked_dot, {**inputs, **wrong}, sizes)
    a = torch.ones(64, 64)
    for grad in (False, True):
        with pytest.raises(ValueError, match=r"^b: expected an array on cpu:0 as a is, got one on meta:0$"):
            maskmm.block_masked_mm(a.requires_grad_(grad), torch.empty(64, 64, device="meta"))


def test_a_vector_with_symbolic_sizes(device: str) -> None:
    def f(a: Any, b: Any) -> Any:
        return maskmm.block_masked_mm(a, b, 16)

    for rows in (20, 30):
        a, b = numbers(rows, device=device), numbers(rows, 40, device=device)
        graph = make_fx(f, tracing_mode="symbolic")(a, b)
        assert torch.equal(graph(a, b), f(a, b))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(device: str, dtype: Any) -> None:
    inputs, sizes = example(device, torch.float32)
    low = {name: x if name.startswith("mask") else x.to(dtype) for name, x in inputs.items()}
    expected = call(maskmm.block_masked_mm, low, sizes)
    inputs["b"].requires_grad_()
    with torch.autocast(device, dtype):
        result = call(maskmm.block_masked_mm, inputs, sizes)
        double = call(maskmm.block_masked_mm, {n: x.double() for n, x in inputs.items()}, sizes)
        reduced = call(maskmm.block_masked_dot, {"x": inputs["a"] @ inputs["b"].detach(), **inputs}, sizes)
    assert result.dtype == dtype
    assert torch.equal(result.detach(), expected)
    assert double.dtype == torch.float64
    assert reduced.dtype == torch.float32
    result.float().sum().backward()
    assert inputs["b"].grad.dtype == torch.float32
    exact = inputs["b"].detach().clone().requires_grad_()
    product({**inputs, "b": exact}, sizes).sum().backward()
    torch.testing.assert_close(inputs["b"].grad, exact.grad, rtol=2e-2, atol=0.2)


def test_out_under_autocast_and_modes(device: str) -> None:
    a, b = (numbers(64, 64, device=device, dtype=torch.bfloat16, seed=i) for i in (1, 2))
    expected = maskmm.block_masked_mm(a, b)
    for context in (lambda: torch.autocast(device, torch.bfloat16), lambda: torch.device(device)):
        out = torch.empty_like(expected)
        with context():
            assert maskmm.block_masked_mm(a, b, out=out) is out
            assert torch.equal(out, expected)
            with pytest.raises(ValueError, match=r"^out: overlaps a in memory$"):
                maskmm.block_masked_mm(a, b, out=a)
            with pytest.raises(TypeError, match=r"^out: expected bfloat16, got float32$"):
                maskmm.block_masked_mm(a, b, out=a.float())
            with pytest.raises(ValueError, match=r"^out: expected shape \(64, 64\), got \(2, 2\)$"):
                maskmm.block_masked_mm(a, b, out=a[:2, :2].clone())


@pytest.mark.parametrize("function", [maskmm.block_masked_mm, maskmm.torch.block_masked_mm])
def test_a_number_that_changes_is_compiled(device: str, function: Any) -> None:
    a = numbers(64, 64, device=device)

    def f(a: Any, scale: float) -> Any:
        return function(a, a, 32, mask_lhs=scale)

    compiled = torch.compile(f, fullgraph=True, backend="aot_eager")
    for scale in (2.0, 0.5, 3.0, 0.0, 2, 5, True):
        assert torch.equal(compiled(a, scale), f(a, scale))


@pytest.mark.parametrize("mask", [np.array([[1.0, 0], [0, 2]]), np.array([[True, False]]), 2.0, True, 3])
def test_a_mask_that_is_no_tensor_is_compiled(device: str, mask: Any) -> None:
    a = numbers(64, 64, device=device)

    def f(a: Any) -> Any:
        return maskmm.block_masked_mm(a, a, 32, mask_lhs=mask)

    assert torch.equal(torch.compile(f, fullgraph=True, backend="aot_eager")(a), f(a))


@pytest.mark.parametrize(
    ("size", "more", "error", "message"),
    [
        ((16, 16, 16.0), {}, TypeError, r"^block_size: expected an int or a tuple"),
        (2**70, {}, ValueError, r"^block_size: the integer does not fit"),
        (16, {"precision": None}, TypeError, r"^precision: expected 'ieee' or 'tf32', got NoneType"),
        (16, {"precision": "fast"}, ValueError, r"^precision: expected 'ieee' or 'tf32', got 'fast'"),
    ],
)
def test_wrong_settings(device: str, size: Any, more: Any, error: type[Exception], message: str) -> None:
    for a in (torch.ones(64, 64, device="meta"), torch.ones(64, 64, device=device)):
        with pytest.raises(error, match=message), torch.device(device):
            maskmm.block_masked_mm(a, a, size, **more)


def test_a_stream_cannot_be_compiled(device: str) -> None:
    a = torch.ones(16, 16, device=device)
    f = torch.compile(
        lambda a: maskmm.block_masked_mm(a, a, stream=maskmm.cpu), backend="eager", fullgraph=True
    )
    with pytest.raises(Exception, match=r"stream: expected None under torch\.compile"):
        f(a)
