"""Derivatives for torch: against the same product made of dense operations, and against differences."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import maskmm
import maskmm.torch
import torch_dense
from torch_dense import DEVICES, Inputs, call, example, numbers, scales

pytestmark = pytest.mark.parametrize("device", DEVICES)
NAMES = ("a", "b", "mask_out", "mask_lhs", "mask_rhs")
SUBSETS = [names for count in range(1, 6) for names in itertools.combinations(NAMES, count)]
OPERATIONS = {
    "mm": (maskmm.block_masked_mm, torch_dense.product),
    "dot": (maskmm.block_masked_dot, torch_dense.dot),
}


def example_of(operation: str, device: str, dtype: Any = torch.float64, batch: bool = False) -> Any:
    inputs, sizes = example(device, dtype, batch)
    if operation == "dot":
        inputs = {
            "x": numbers(*((3, 37, 41) if batch else (37, 41)), device=device, dtype=dtype, seed=9),
            **inputs,
        }
    return inputs, sizes


def gradients(function: Any, inputs: Inputs, sizes: Any, names: Any, cotangent: Any = None) -> dict[str, Any]:
    leaves = {n: x if x is None else x.detach().requires_grad_(n in names) for n, x in inputs.items()}
    result = function(leaves, sizes)
    if cotangent is None:
        cotangent = numbers(*result.shape, device=result.device, seed=7)
    found = torch.autograd.grad(result, [leaves[n] for n in names], cotangent.to(result.dtype))
    return dict(zip(names, found, strict=True))


def ours(operation: str = "mm") -> Any:
    return lambda inputs, sizes: call(OPERATIONS[operation][0], inputs, sizes)


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    for name, x in expected.items():
        scale = float(x.abs().max()) or 1
        torch.testing.assert_close(found[name].double(), x.double(), rtol=0, atol=tolerance * scale, msg=name)


@pytest.mark.parametrize("batch", [False, True], ids=["", "batch"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradients(device: str, operation: str, batch: bool) -> None:
    """Scales are zero here and there, so this covers masks' gradients at zero."""
    inputs, sizes = example_of(operation, device, batch=batch)
    names = tuple(inputs)
    found = gradients(ours(operation), inputs, sizes, names)
    close(found, gradients(OPERATIONS[operation][1], inputs, sizes, names))
    for name, x in inputs.items():
        assert found[name].shape == x.shape
        assert found[name].any(), name


@pytest.mark.parametrize("names", SUBSETS, ids="+".join)
def test_any_subset(device: str, names: tuple[str, ...]) -> None:
    """A gradient's bits do not depend on which others are asked for."""
    inputs, sizes = example(device)
    every = gradients(ours(), inputs, sizes, NAMES)
    some = gradients(ours(), inputs, sizes, names)
    assert all(torch.equal(some[name], every[name]) for name in names)


@pytest.mark.parametrize("absent", [names for names in SUBSETS if not {"a", "b"} & set(names)], ids="+".join)
def test_absent_masks(device: str, absent: tuple[str, ...]) -> None:
    inputs, sizes = example(device)
    inputs |= dict.fromkeys(absent)
    names = [name for name in NAMES if name not in absent]
    close(gradients(ours(), inputs, sizes, names), gradients(torch_dense.product, inputs, sizes, names))


@pytest.mark.parametrize("batch", [False, True], ids=["", "batch"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_differences(device: str, operation: str, batch: bool) -> None:
    inputs, sizes = example_of(operation, device, batch=batch)
    leaves = [x.requires_grad_() for x in inputs.values()]

    def function(*tensors: Any) -> Any:
        return call(OPERATIONS[operation][0], dict(zip(inputs, tensors, strict=True)), sizes)

    fast = {"fast_mode": True, "atol": 1e-4}
    batched = {"check_batched_grad": True, "check_batched_forward_grad": True}
    assert gradcheck(function, leaves, check_forward_ad=True, **batched, **fast)
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, check_batched_grad=True, **fast)


def test_every_element_by_differences(device: str) -> None:
    a, b = (numbers(2, *shape, device=device).requires_grad_() for shape in ((17, 3), (3, 18)))
    masks = [scales(*shape, device=device).requires_grad_() for shape in ((2, 2, 2), (2, 1), (1, 2))]

    def function(a: Any, b: Any, *masks: Any) -> Any:
        return maskmm.block_masked_mm(a, b, 16, *masks)

    assert gradcheck(function, (a, b, *masks), check_forward_ad=True)


def test_third_order(device: str) -> None:
    inputs, sizes = example(device)

    def third(function: Any) -> list[Any]:
        leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        total = function(leaves, sizes).sin().sum()
        for _ in range(3):
            total = sum(
                (g**2).sum() for g in torch.autograd.grad(total, list(leaves.values()), create_graph=True)
            )
        return [total.detach()]

    torch.testing.assert_close(third(ours()), third(torch_dense.product), rtol=1e-10, atol=0)


@pytest.mark.parametrize("shapes", [
    ((52,), (52, 41), (2,), (4,), (4, 2)),
    ((37, 52), (52,), (3,), (3, 4), (4,)),
    ((52,), (52,), (), (4,), (4,)),
    ((52,), (3, 52, 41), (3, 2), (4,), ()),
    ((5, 37, 52), (52,), (5, 3), (1, 1), ()),
    ((37, 52), (52, 41), (2,), (), (4, 1)),
    ((37, 52), (52, 41), (6, 1, 1), (2, 1, 3, 4), (1, 2)),
    ((2, 1, 37, 52), (3, 52, 41), (2, 3, 3, 2), (3, 1, 4), (1, 1, 1, 1)),
])  # fmt: skip
def test_shapes(device: str, shapes: Any) -> None:
    """1-D operands, and masks and batches that are spread, against operands made full by torch itself."""
    inputs = {
        name: (numbers if name in "ab" else scales)(*shape, device=device, seed=i)
        for i, (name, shape) in enumerate(zip(NAMES, shapes, strict=True))
    }

    def full(leaves: Inputs, sizes: Any) -> Any:
        rows, columns = leaves["a"].dim() > 1, leaves["b"].dim() > 1
        lead = {"a": not rows, "mask_lhs": not rows, "mask_out": not rows}
        last = {"b": not columns, "mask_rhs": not columns, "mask_out": not columns}
        tensors = {}
        for name, x in leaves.items():
            if x.dim() and lead.get(name):
                x = x.unsqueeze(-2 if not last.get(name) and x.dim() else -1)
            if x.dim() and last.get(name):
                x = x.unsqueeze(-1)
            tensors[name] = x if x.dim() > 1 else x.expand(1, *x.shape) if x.dim() else x.expand(1, 1)
        result = torch_dense.product(tensors, sizes)
        result = result if rows else result.squeeze(-2)
        return result if columns else result.squeeze(-1)

    found = gradients(ours(), inputs, (16, 32, 16), NAMES)
    close(found, gradients(full, inputs, (16, 32, 16), NAMES))
    assert all(found[name].shape == inputs[name].shape for name in NAMES)


@pytest.mark.parametrize("types", [
    ("float16", "float32", "float64", "float16", "bfloat16"),
    ("bfloat16", "bfloat16", "float32", "bfloat16", "float16"),
    ("float32", "float64", "float32", "float16", "float32"),
    ("float16", "bfloat16", "float64", "float64", "float64"),
])  # fmt: skip
def test_mixed_types(device: str, types: tuple[str, ...]) -> None:
    inputs, sizes = example(device)
    inputs = {n: x.to(getattr(torch, t)) for (n, x), t in zip(inputs.items(), types, strict=True)}
    found = gradients(ours(), inputs, sizes, NAMES)
    assert all(found[name].dtype == inputs[name].dtype for name in NAMES)
    exact = gradients(torch_dense.product, {n: x.double() for n, x in inputs.items()}, sizes, NAMES)
    close(found, exact, 2e-2)


def test_integers_have_none(device: str) -> None:
    inputs, sizes = example(device, torch.float32)
    inputs["a"] = (inputs["a"] * 4).to(torch.int8)
    inputs["mask_lhs"] = inputs["mask_lhs"] != 0
    inputs["mask_out"] = (inputs["mask_out"] * 3).int()
    names = ("b", "mask_rhs")
    close(gradients(ours(), inputs, sizes, names), gradients(torch_dense.product, inputs, sizes, names), 1e-4)

    for name in ("a", "mask_lhs", "mask_out"):
        with pytest.raises(RuntimeError, match=r"[Oo]nly .*floating point"):
            torch.func.grad(lambda x, name=name: ours()({**inputs, name: x}, sizes).sum())(inputs[name])


def test_what_is_dead_has_no_effect(device: str) -> None:
    """NaN in dead blocks of the operands, and in the cotangent where mask_out is zero."""
    inputs, sizes = example(device)
    names = ("a", "b", "mask_rhs")
    cotangent = numbers(37, 41, device=device)
    clean = gradients(ours(), inputs, sizes, names, cotangent)
    dead_a = torch_dense.spread(inputs["mask_lhs"] == 0, (16, 16), (37, 52))
    dead_g = torch_dense.spread(inputs["mask_out"] == 0, (16, 32), (37, 41))
    inputs["a"] = inputs["a"].masked_fill(dead_a, torch.nan)
    found = gradients(ours(), inputs, sizes, names, cotangent.masked_fill(dead_g, torch.nan))
    assert all(torch.equal(found[name], clean[name]) for name in names)
    assert not found["a"][dead_a].any()


def test_a_dead_cotangent_of_the_dot_has_no_effect(device: str) -> None:
    """NaN and Inf in the cotangent where mask_out is zero, in first and second order; the mask's own gradient sees
    them only where the other masks leave something.
    """
    inputs, sizes = example_of("dot", device)
    names = ("x", "a", "b", "mask_lhs", "mask_rhs")
    dead = inputs["mask_out"] == 0
    assert dead.any()
    x = inputs["x"]
    x[torch_dense.spread(dead, (16, 32), x.shape)] = torch.inf

    def both_orders(fill: float) -> list[Any]:
        leaves = {name: x.detach().requires_grad_() for name, x in inputs.items()}
        cotangent = numbers(3, 2, device=device).masked_fill(dead, fill).requires_grad_()
        result = call(maskmm.block_masked_dot, leaves, sizes)
        first = torch.autograd.grad(result, [leaves[n] for n in names], cotangent, create_graph=True)
        second = torch.autograd.grad(
            sum((g**2).sum() for g in first), [*(leaves[n] for n in names), cotangent]
        )
        return [*first, *second]

    clean = both_orders(0.0)
    assert all(x.isfinite().all() and x.any() for x in clean)
    for fill in (torch.nan, torch.inf):
        assert all(torch.equal(x, y) for x, y in zip(both_orders(fill), clean, strict=True))

    inputs["mask_lhs"][:] = 0
    nan = torch.full((3, 2), torch.nan, device=device, dtype=torch.float64)
    assert not gradients(ours("dot"), inputs, sizes, ("mask_out",), nan)["mask_out"].any()


def test_transposed_and_expanded(device: str) -> None:
    inputs, sizes = example(device)
    spread = {
        "a": inputs["a"].mT.contiguous().mT,
        "b": inputs["b"].mT.contiguous().mT,
        "mask_out": inputs["mask_out"][:1].expand(3, 2),
        "mask_lhs": inputs["mask_lhs"].mT.contiguous().mT,
        "mask_rhs": inputs["mask_rhs"][:, :1].expand(4, 2),
    }
    found = gradients(ours(), spread, sizes, NAMES)
    close(found, gradients(torch_dense.product, spread, sizes, NAMES))
    assert found["b"].mT.is_contiguous(), "a gradient has the layout of its input"


def test_transforms(device: str) -> None:
    inputs, sizes = example(device, batch=True)
    values = tuple(inputs.values())
    tangents = tuple(numbers(*x.shape, device=device, seed=11) for x in values)

    def f(function: Any) -> Any:
        return lambda *tensors: function(dict(zip(inputs, tensors, strict=True)), sizes)

    def total(function: Any) -> Any:
        return lambda *tensors: (f(function)(*tensors) ** 3).sum()

    def everything(function: Any) -> list[Any]:
        numbers = tuple(range(5))
        return [
            torch.func.jvp(f(function), values, tangents),
            torch.func.vjp(f(function), *values)[1](f(function)(*values)),
            torch.func.grad(total(function), argnums=numbers)(*values),
            torch.func.jvp(torch.func.grad(total(function), argnums=numbers), values, tangents),
            torch.func.jacrev(f(function), argnums=(2, 3, 4))(*values),
            torch.func.jacfwd(f(function), argnums=(2, 3, 4))(*values),
            torch.func.hessian(total(function), argnums=(2, 4))(*values),
        ]

    torch.testing.assert_close(everything(ours()), everything(torch_dense.product), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "in_dims", [(0, None, None, None, None), (0, 1, 2, 0, 1), (None, None, 0, None, None)]
)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_vmap(device: str, operation: str, in_dims: tuple[int | None, ...]) -> None:
    inputs, sizes = example_of(operation, device)
    dims = (1, *in_dims) if operation == "dot" else in_dims
    values = [
        x if d is None else torch.stack([x, x.flip(0), -x], d)
        for x, d in zip(inputs.values(), dims, strict=True)
    ]

    def f(function: Any) -> Any:
        return lambda *tensors: function(dict(zip(inputs, tensors, strict=True)), sizes)

    def every(function: Any) -> list[Any]:
        arguments = tuple(range(len(values)))
        return [
            torch.vmap(f(function), dims)(*values),
            torch.vmap(torch.vmap(f(function), dims), dims)(
                *(
                    torch.stack([x, 2 * x], d or 0) if d is not None else x
                    for x, d in zip(values, dims, strict=True)
                )
            ),
            torch.vmap(torch.func.grad(lambda *x: f(function)(*x).sin().sum(), arguments), dims)(*values),
        ]

    torch.testing.assert_close(
        every(ours(operation)), every(OPERATIONS[operation][1]), rtol=1e-10, atol=1e-10
    )


def test_accumulation_and_retained_graphs(device: str) -> None:
    inputs, sizes = example(device)
    leaves = {name: x.requires_grad_() for name, x in inputs.items()}
    result = call(maskmm.block_masked_mm, leaves, sizes)
    result.sum().backward(retain_graph=True)
    once = {name: x.grad.clone() for name, x in leaves.items()}
    result.sum().backward()
    for name, x in leaves.items():
        assert torch.equal(x.grad, 2 * once[name])


def test_gradients_that_nobody_needs(device: str) -> None:
    inputs, sizes = example(device)
    result = call(maskmm.block_masked_mm, {**inputs, "b": inputs["b"].requires_grad_()}, sizes)
    assert result.grad_fn.next_functions[0][0] is None
    assert torch.autograd.grad(result, inputs["b"], torch.zeros_like(result))[0].count_nonzero() == 0
    detached = call(maskmm.block_masked_mm, {**inputs, "b": inputs["b"].detach()}, sizes)
    assert detached.grad_fn is None
