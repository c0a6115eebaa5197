"""torch tensors: what comes back, what is taken, what is refused. test_torch_gradients.py has the derivatives."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch

import maskmm
import maskmm.torch
from torch_dense import DEVICES, call, dot, example, numbers, product

FUNCTIONS = [maskmm.block_masked_mm, maskmm.torch.block_masked_mm]
pytestmark = pytest.mark.parametrize("device", DEVICES)


def close(result: Any, expected: Any, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(result.double(), expected.double(), rtol=rtol, atol=rtol * 10)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_tensor_comes_back(device: str, function: Any, dtype: Any) -> None:
    inputs, sizes = example(device, dtype, batch=True)
    result = call(function, inputs, sizes)
    assert type(result) is torch.Tensor
    assert result.device == inputs["a"].device
    assert result.dtype == dtype
    assert result.is_contiguous()
    assert not result.requires_grad
    close(result, product(inputs, sizes), 2e-2 if dtype.itemsize == 2 else 1e-5)
    out = torch.full_like(result.mT, torch.nan).mT
    assert call(function, inputs, sizes, out=out) is out
    assert torch.equal(out, result)


def test_dot(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    inputs = {"x": numbers(37, 41, dtype=torch.bfloat16, device=device), **inputs}
    for function in (maskmm.block_masked_dot, maskmm.torch.block_masked_dot):
        result = call(function, inputs, sizes)
        assert type(result) is torch.Tensor
        assert result.dtype == torch.float32
        close(result, dot(inputs, sizes), 1e-4)
    out = torch.empty_like(result)
    assert call(maskmm.block_masked_dot, inputs, sizes, out=out) is out
    assert torch.equal(out, result)
    inputs["x"] = inputs["x"].double()
    assert call(maskmm.block_masked_dot, inputs, sizes).dtype == torch.float64


@pytest.mark.parametrize("grad", [False, True])
def test_layouts_are_taken_without_copies(device: str, grad: bool) -> None:
    """An expanded operand of a terabyte: any copy of it would fail."""
    a = torch.ones(1, 1, device=device).expand(64, 2**32).requires_grad_(grad)
    b = torch.full((1, 1), 2.0, device=device).expand(2**32, 64)
    mask = torch.zeros(1, dtype=torch.bool, device=device).expand(1, 2**24).clone()
    mask[0, 12345] = True
    result = maskmm.block_masked_mm(a, b, 256, mask_lhs=mask)
    assert result.requires_grad == grad
    assert torch.equal(result.detach(), torch.full((64, 64), 512.0, device=device))


def test_views(device: str) -> None:
    a, b = numbers(3, 64, 200, device=device), numbers(5, 130, 200, device=device)
    plain = maskmm.block_masked_mm(a, b[2].T.contiguous())
    close(maskmm.block_masked_mm(a, b[2].T), plain)
    close(maskmm.block_masked_mm(a.expand(2, 3, 64, 200), b[2].mT)[1], plain)
    every_second = torch.zeros(3, 128, 400, dtype=a.dtype, device=device)[:, ::2, 1::2].copy_(a)
    close(maskmm.block_masked_mm(every_second, b[2].T), plain)
    assert maskmm.block_masked_mm(a[0, 0], b[0, 0]).shape == ()
    assert maskmm.block_masked_mm(a[:0], b[2].T).shape == (0, 64, 130)
    assert not maskmm.block_masked_mm(a[..., :0], b[2].T[:0]).any()
    with torch.no_grad():
        assert not maskmm.block_masked_mm(torch.nn.Parameter(a), b[2].T).requires_grad
    with torch.inference_mode():
        out = torch.empty_like(plain)
        close(maskmm.block_masked_mm(a, b[2].T, out=out), plain)


@pytest.mark.parametrize("grad", [False, True])
def test_masks_of_other_kinds(device: str, grad: bool) -> None:
    inputs, sizes = example(device, torch.float32)
    expected = call(maskmm.block_masked_mm, inputs, sizes)
    inputs["a"].requires_grad_(grad)
    in_numpy = {name: x.cpu().numpy() if name.startswith("mask") else x for name, x in inputs.items()}
    on_host = {name: x.cpu() if name.startswith("mask") else x for name, x in inputs.items()}
    rounded = {name: x.bfloat16() if name.startswith("mask") else x for name, x in inputs.items()}
    of_ml = {
        name: x.cpu().numpy().astype(ml_dtypes.bfloat16) if name.startswith("mask") else x
        for name, x in inputs.items()
    }
    assert torch.equal(call(maskmm.block_masked_mm, in_numpy, sizes).detach(), expected)
    assert torch.equal(call(maskmm.block_masked_mm, on_host, sizes).detach(), expected)
    assert torch.equal(
        call(maskmm.block_masked_mm, rounded, sizes).detach(),
        call(maskmm.block_masked_mm, of_ml, sizes).detach(),
    )
    a, b = inputs["a"], inputs["b"]
    twice = maskmm.block_masked_mm(a, b, mask_lhs=True, mask_rhs=2.0, mask_out=np.int16(1)).detach()
    assert torch.equal(twice, maskmm.block_masked_mm(a, b, mask_lhs=2).detach())
    assert not maskmm.block_masked_mm(a, b, mask_out=False).any()


def test_what_is_dead_has_no_effect(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    clean = call(maskmm.block_masked_mm, inputs, sizes)
    dead = inputs["mask_lhs"] == 0
    spread = dead.repeat_interleave(16, 0).repeat_interleave(16, 1)[:37, :52]
    inputs["a"] = torch.where(spread, torch.nan, inputs["a"])
    assert torch.equal(call(maskmm.block_masked_mm, inputs, sizes), clean)


@pytest.mark.parametrize("grad", [False, True])
def test_negations_still_to_be_done(device: str, grad: bool) -> None:
    inputs, sizes = example(device)
    lazy = {name: torch._neg_view(x) for name, x in inputs.items()}
    plain = {name: -x for name, x in inputs.items()}
    if grad:
        lazy["b"].requires_grad_()
    for function in (maskmm.block_masked_mm, maskmm.explain):
        found, expected = (call(function, given, sizes) for given in (lazy, plain))
        assert found == expected if function is maskmm.explain else torch.equal(found, expected)

    def loss(product: Any) -> Any:  # its derivative is such a view
        return torch.complex(torch.zeros_like(product), product).conj().imag.sum()

    a = inputs["a"].requires_grad_()
    (by_a,) = torch.autograd.grad(loss(call(maskmm.block_masked_mm, inputs, sizes)), a)
    (negative,) = torch.autograd.grad(-call(maskmm.block_masked_mm, inputs, sizes).sum(), a)
    assert torch.equal(by_a, negative)


def test_writing_to_out_shows_in_its_version(device: str) -> None:
    x = numbers(8, 8, device=device, dtype=torch.float32)
    out = torch.ones(8, 8, device=device)
    w = torch.ones(8, 8, device=device, requires_grad=True)
    y = (w * out).sum()
    maskmm.block_masked_mm(x, x, out=out)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_streams_named_by_their_device(device: str) -> None:
    a = numbers(20, 20, device=device)
    kind = maskmm.gpu if device == "cuda" else maskmm.cpu
    expected = maskmm.block_masked_mm(a, a)
    for stream in (kind, maskmm.Device(kind), maskmm.default_stream(kind), maskmm.new_stream(kind)):
        found = maskmm.block_masked_mm(a.requires_grad_(), a, stream=stream)
        maskmm.synchronize(maskmm.default_stream(kind))
        if device == "cuda":
            torch.cuda.synchronize()
        assert torch.equal(found.detach(), expected)


def test_explain(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    explanation = call(maskmm.explain, inputs, sizes)
    assert explanation.device.type is (maskmm.gpu if device == "cuda" else maskmm.cpu)
    assert 0 < explanation.live_fraction < 1


OPERAND = "expected float16, bfloat16, float32 or float64, got"
ONE = "expected arrays of one framework, got"
Make = Callable[[Callable[..., Any]], tuple[tuple[Any, ...], dict[str, Any]]]
ERRORS: list[tuple[Make, type[Exception], str]] = [
    (lambda x: ((x(64, 64), np.ones((64, 64))), {}), TypeError, f"a, b: {ONE} torch.Tensor, numpy.ndarray"),
    (lambda x: ((np.ones((64, 64)), x(64, 64)), {}), TypeError, f"a, b: {ONE} numpy.ndarray, torch.Tensor"),
    (lambda x: ((x(64, 64), 1.0), {}), TypeError, f"a, b: {ONE} torch.Tensor, float"),
    (lambda x: ((np.ones((64, 64)),) * 2, {"mask_lhs": x(1, 1)}), TypeError,
     f"a, b, mask_lhs: {ONE} numpy.ndarray, numpy.ndarray, torch.Tensor"),
    (lambda x: ((x(64, 64), x(64, 64)), {"out": np.ones((64, 64))}), TypeError,
     f"a, b, out: {ONE} torch.Tensor, torch.Tensor, numpy.ndarray"),
    (lambda x: ((x(64, 64).to(torch.float8_e4m3fn), x(64, 64)), {}), TypeError, f"a: {OPERAND} float8_e4m3fn"),
    (lambda x: ((x(64, 64), x(64, 64)), {"mask_out": x(1, 1).to(torch.float8_e5m2)}), TypeError,
     "mask_out: expected bool, an integer or a float type, got float8_e5m2"),
    (lambda x: ((x(64, 64), x(64, 64).to(torch.complex64)), {}), TypeError, f"b: {OPERAND} complex64"),
    (lambda x: ((x(64, 64), x(64, 64).to_sparse()), {}), TypeError,
     "b: expected a tensor with strided elements in memory, got a Tensor of layout sparse_coo"),
    (lambda x: ((x(64, 64), torch._neg_view(x(64, 64))), {"out": x(64, 64)}), TypeError,
     "b: a view with a negation still to be done; pass b.resolve_neg()"),
    (lambda x: ((x(64, 64), torch.nested.nested_tensor([x(64, 64)])), {}), TypeError,
     "b: expected a tensor with strided elements in memory, got a nested one"),
    (lambda x: ((torch.nested.nested_tensor([x(64, 64)], layout=torch.jagged), x(64, 64)), {}), TypeError,
     "a: expected a tensor with strided elements in memory, got a nested one"),
    (lambda x: ((x(64, 64).cpu(), x(64, 64).cpu().requires_grad_()), {"mask_lhs": x(1, 1).to("meta")}), ValueError,
     "mask_lhs: expected an array on cpu:0 as a is, got one on meta:0"),
    (lambda x: ((x(64, 64), x(64, 64)), {"mask_out": [[True]]}), TypeError,
     "mask_out: expected an array (NumPy, buffer protocol or DLPack), got list"),
    (lambda x: ((x(64, 64), x(32, 64)), {}), ValueError,
     "b: expected (..., 64, N) to match a of shape (64, 64), got (32, 64)"),
    (lambda x: ((x(64), x(32, 64).requires_grad_()), {}), ValueError,
     "b: expected (..., 64, N) to match a of shape (64,), got (32, 64)"),
    (lambda x: ((x(64, 64), x(64, 64).requires_grad_()), {"mask_lhs": x(1, 2)}), ValueError,
     "mask_lhs: expected (..., 1, 1) for block_size 64, got (1, 2)"),
    (lambda x: ((x(64, 64), x(64, 64)), {"out": x(64, 64).double()}), TypeError,
     "out: expected float32, got float64"),
    (lambda x: ((x(64, 64), x(64, 64)), {"out": x(1, 64).expand(64, 64)}), ValueError,
     "out: its elements overlap each other"),
    (lambda x: ((y := x(64, 64), x(64, 64)), {"out": y}), ValueError, "out: overlaps a in memory"),
    (lambda x: ((x(64, 64), x(64, 64).requires_grad_()), {"out": x(64, 64)}), TypeError,
     "out: expected none where a gradient is asked for; call it under torch.no_grad(), or without out"),
    (lambda x: ((x(64, 64), x(64, 64)), {"stream": 0}), TypeError,
     "stream: expected a Stream, a Device, a DeviceType or None, got int"),
    (lambda x: ((x(64, 64), x(64, 64).requires_grad_()), {"stream": 0}), TypeError,
     "stream: expected a Stream, a Device, a DeviceType or None, got int"),
    (lambda x: ((x(64, 64).cpu(), x(64, 64).cpu().requires_grad_()), {"stream": maskmm.gpu}), ValueError,
     "stream: expected one on cpu:0 as a is, got gpu:0"),
    (lambda x: ((x(64, 64).cpu(), x(64, 64).cpu()), {"stream": maskmm.gpu}), ValueError,
     "stream: expected one on cpu:0 as a is, got gpu:0"),
    (lambda x: ((x(64, 64), x(64, 64).requires_grad_(), 64.0), {}), TypeError,
     "block_size: expected an int or a tuple of three ints (m, n, k), got float"),
    (lambda x: ((x(64, 64), x(64, 64).requires_grad_()), {"precision": "fast"}), ValueError,
     "precision: expected 'ieee' or 'tf32', got 'fast'"),
    (lambda x: ((x(1, 1).expand(2**24, 64), x(1, 1).expand(64, 2**24)), {}), MemoryError,
     "no memory for a result of shape (16777216, 16777216)"),
    (lambda x: ((x(1, 1).expand(2**31, 1), x(1, 1).expand(1, 2**31)), {}), MemoryError,
     "no memory for a result of shape (2147483648, 2147483648)"),
]  # fmt: skip


@pytest.mark.parametrize("grad", [False, True])
def test_operands_that_are_no_tensors(device: str, grad: bool) -> None:
    a = torch.ones(64, 64, device=device, requires_grad=grad)
    for operand, kind in ((np.ones((64, 64)), "ndarray"), ([1.0], "list"), (2.0, "float")):
        for name, operands in (("a", (operand, a)), ("b", (a, operand))):
            with pytest.raises(TypeError, match=rf"^{name}: expected a torch\.Tensor, got {kind}$"):
                maskmm.torch.block_masked_mm(*operands)
        with pytest.raises(TypeError, match=rf"^x: expected a torch\.Tensor, got {kind}$"):
            maskmm.torch.block_masked_dot(operand, a, a)


@pytest.mark.parametrize(("make", "error", "message"), ERRORS, ids=[str(i) for i in range(len(ERRORS))])
def test_errors(device: str, make: Make, error: Any, message: str) -> None:
    def ones(*shape: int) -> Any:
        return torch.ones(shape, device=device)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nested tensors
        arguments, keywords = make(ones)
    with pytest.raises(error) as raised:
        maskmm.block_masked_mm(*arguments, **keywords)
    assert type(raised.value) is error
    assert str(raised.value) == message
    assert maskmm.block_masked_mm(ones(64, 64), ones(64, 64)).sum().item() == 64**3, "the next call must work"


def test_tensors_that_no_longer_hold_numbers(device: str) -> None:
    kept = []
    torch.func.vmap(lambda x: kept.append(x) or x)(torch.ones(2, 3, 3, device=device))
    with pytest.raises((TypeError, ValueError, RuntimeError), match=re.compile(".")):
        maskmm.block_masked_mm(kept[0], kept[0])
