"""Derivatives of the two operations, in reverse and forward mode to any order, and their rule under vmap.

``mm`` and ``dot`` are what everything else calls: they take the way that the situation needs, the shortest being that
to the extension. Operands and masks have two axes or more; batch axes broadcast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from maskmm import _derivatives
from maskmm.torch import _direct, _ops

# Of autograd.grad(..., is_grads_batched=True), which calls backward on tensors of a kind of its own.
_functorch: Any = torch._C._functorch
_is_batched = _functorch.is_legacy_batchedtensor
_is_dead = _functorch.is_dead_tensor_wrapper
_unwrap_if_dead = _functorch.unwrap_if_dead
_has_transforms = torch._C._are_functorch_transforms_active


class Settings:  # no tuple: vmap would look for tensors in it
    def __init__(self, block_size: tuple[int, int, int], precision: str) -> None:
        self.block_size, self.precision = block_size, precision


def mm(*arguments: Any) -> Tensor:
    """The product of (a, b, mask_out, mask_lhs, mask_rhs, settings), differentiable where that is asked for."""
    return _apply("mm", arguments[:-1], arguments[-1])


def dot(*arguments: Any) -> Tensor:
    """Its block-wise reduction with x, of (x, a, b, mask_out, mask_lhs, mask_rhs, settings)."""
    return _apply("dot", arguments[:-1], arguments[-1])


def _apply(operation: str, tensors: tuple[Any, ...], settings: Settings) -> Tensor:
    if torch.compiler.is_compiling() or _direct.is_traced():
        return _operator(operation, tensors, settings)
    if _has_transforms():
        result: Tensor = _FUNCTIONS[operation].apply(*tensors, settings)
        return result
    if is_differentiated(tensors):
        return differentiated(operation, tensors, settings)
    return _compute(operation, tensors, settings)


def differentiated(operation: str, tensors: tuple[Any, ...], settings: Settings) -> Tensor:
    """The operation, for which autograd keeps what its derivatives need. No transform is at work."""
    tensors = tuple([x if x is None else _unwrap_if_dead(x) for x in tensors])
    return _apply_without_transforms(_FUNCTIONS[operation], *tensors, settings)


def is_differentiated(arguments: tuple[Any, ...]) -> bool:
    """A gradient, or a tangent, is asked for."""
    if forward_ad._current_level >= 0:
        return True
    if torch.is_grad_enabled():
        for x in arguments:
            if x is not None and getattr(x, "requires_grad", False):
                return True
    return False


def _compute(operation: str, tensors: tuple[Any, ...], settings: Settings) -> Tensor:
    """The operation itself."""
    if _direct.is_watched() or not _direct.is_plain(tensors):
        return _operator(operation, tensors, settings)
    function = _direct.block_masked_mm if operation == "mm" else _direct.block_masked_dot
    try:
        result: Tensor = function(
            *tensors[:-3], settings.block_size, *tensors[-3:], None, None, settings.precision
        )
    except (
        ValueError
    ):  # tensors of torch's that have no memory are looked for only now: looking takes a microsecond
        given = [x for x in tensors if x is not None]
        if any(_is_batched(x) for x in given):
            return _operator(operation, tensors, settings)
        if not any(x._is_zerotensor() or _is_dead(x) for x in given):
            raise
        return _compute(operation, tuple(x if x is None else _with_memory(x) for x in tensors), settings)
    return result


def _with_memory(x: Tensor) -> Tensor:
    """The same numbers. torch's derivatives make tensors of nothing but zeros; and a function that torch.func.vjp
    returned keeps wrappers of a transform that is over.
    """
    x = _unwrap_if_dead(x)
    return torch.zeros((), dtype=x.dtype, device=x.device).expand(x.shape) if x._is_zerotensor() else x


def _operator(operation: str, tensors: tuple[Any, ...], settings: Settings) -> Tensor:
    if not torch.compiler.is_compiling():  # torch and the operator would say less, or nothing
        _check(operation, tensors, settings)
    function: Any = _ops.block_masked_mm if operation == "mm" else _ops.block_masked_dot
    result: Tensor = function(*tensors, settings.block_size, settings.precision)
    return result


def _check(operation: str, tensors: tuple[Any, ...], settings: Settings) -> None:
    given = {n: x for n, x in zip(_derivatives.INPUTS[operation], tensors, strict=True) if x is not None}
    for name, x in given.items():
        if x.device != given["a"].device:
            raise _direct.on_other_device(name, x, given["a"].device)
    if _direct.has_known_shapes(tensors):
        _direct.result_type(operation, tensors, settings.block_size, settings.precision)


def _apply_without_transforms(function: Any, *arguments: Any) -> Tensor:
    """function.apply(*arguments), without the 10 us in which it looks for transforms and for default arguments."""
    result: Tensor = super(torch.autograd.Function, function).apply(*arguments)
    return result


class _Function(torch.autograd.Function):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, settings = inputs
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.settings = settings


class _Functions:
    """What maskmm._derivatives calls. ``column_major``: the layout in which the product is wanted."""

    def __init__(self, precision: str, column_major: bool = False) -> None:
        self.precision, self.column_major = precision, column_major

    def mm(self, a: Tensor, b: Tensor, block_size: Any, out: Any, lhs: Any, rhs: Any) -> Tensor:
        if not self.column_major:
            return mm(a, b, out, lhs, rhs, Settings(block_size, self.precision))
        m, n, k = block_size
        masks = (mask if mask is None else mask.mT for mask in (out, rhs, lhs))
        return mm(b.mT, a.mT, *masks, Settings((n, m, k), self.precision)).mT

    def dot(self, x: Tensor, a: Tensor, b: Tensor, block_size: Any, *masks: Any) -> Tensor:
        return dot(x, a, b, *masks, Settings(block_size, self.precision))

    @staticmethod
    def transpose(x: Tensor) -> Tensor:
        return x.mT

    @staticmethod
    def scaled(x: Tensor, mask: Tensor) -> Tensor:
        function: Any = _Scaled.apply if mask.is_floating_point() else _scaled
        result: Tensor = function(x, mask)
        return result

    @staticmethod
    def like(gradient: Tensor, x: Tensor) -> Tensor:
        if gradient.shape != x.shape:
            gradient = gradient.sum_to_size(x.shape)
        return (
            gradient if gradient.dtype == x.dtype else gradient.to(x.dtype)
        )  # asking is cheaper than doing nothing


def gradients(
    operation: str,
    tensors: tuple[Any, ...],
    settings: Settings,
    wanted: tuple[bool, ...],
    cotangent: Tensor | None,
) -> list[Tensor | None]:
    """Of each of the tensors, None where it is not wanted."""
    names = _derivatives.INPUTS[operation]
    inputs = dict(zip(names, tensors, strict=True))
    result: list[Tensor | None] = []
    for name, is_wanted in zip(names, wanted, strict=False):  # the last is of the settings
        if not is_wanted or cotangent is None:
            result.append(None)
            continue
        x = inputs[name]
        functions = _Functions(settings.precision, x.stride(-1) != 1 and x.stride(-2) == 1)
        found = _derivatives.vjp(operation, functions, inputs, settings.block_size, cotangent, [name])
        result.append(found[name])
    return result


def _tangent(operation: str, ctx: Any, tangents: tuple[Any, ...]) -> Any:
    names = _derivatives.INPUTS[operation]
    inputs = dict(zip(names, ctx.saved_tensors, strict=True))
    given = dict(zip(names, tangents, strict=False))  # the last is of the settings
    functions = _Functions(ctx.settings.precision)
    return _derivatives.jvp(operation, functions, inputs, ctx.settings.block_size, given)


def batched(in_dims: tuple[int | None, ...], tensors: tuple[Any, ...]) -> list[Tensor | None]:
    """The tensors with the axis that vmap maps over in front of their batch axes."""
    n_axes = max(x.dim() - (d is not None) for x, d in zip(tensors, in_dims, strict=True) if x is not None)
    result: list[Tensor | None] = []
    for x, d in zip(tensors, in_dims, strict=True):
        if x is not None and d is not None:
            x = x.movedim(d, 0)
            x = x[(slice(None), *(None,) * (n_axes + 1 - x.dim()))]
        result.append(x)
    return result


class _Mm(_Function):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _compute("mm", inputs[:-1], inputs[-1])

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return (*gradients("mm", ctx.saved_tensors, ctx.settings, ctx.needs_input_grad, *cotangents), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _tangent("mm", ctx, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return mm(*batched(in_dims[:-1], inputs[:-1]), inputs[-1]), 0


class _Dot(_Function):
    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        return _compute("dot", inputs[:-1], inputs[-1])

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        return (*gradients("dot", ctx.saved_tensors, ctx.settings, ctx.needs_input_grad, *cotangents), None)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return _tangent("dot", ctx, tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return dot(*batched(in_dims[:-1], inputs[:-1]), inputs[-1]), 0


_FUNCTIONS: dict[str, Any] = {"mm": _Mm, "dot": _Dot}


class _Scaled(torch.autograd.Function):
    """maskmm._derivatives.Functions.scaled for a floating mask."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mask: Tensor) -> Tensor:
        return _scaled(x, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Any) -> Any:
        (cotangent,), (x, mask) = cotangents, ctx.saved_tensors
        by_x, by_mask = ctx.needs_input_grad
        return (
            _Functions.scaled(cotangent, mask) if by_x else None,
            _Functions.like(_Functions.scaled(cotangent, x), mask) if by_mask else None,
        )

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        (x_tangent, mask_tangent), (x, mask) = tangents, ctx.saved_tensors
        terms = []
        if x_tangent is not None:
            terms.append(_Functions.scaled(x_tangent, mask))
        if mask_tangent is not None:
            terms.append(_Functions.scaled(mask_tangent.to(x.dtype).expand_as(x), x))
        return sum(terms[1:], terms[0])


def _scaled(x: Tensor, mask: Tensor) -> Tensor:
    mask = mask.to(x.dtype)
    return torch.where(mask != 0, x * mask, 0)


def _register(operator: Any, operation: str) -> None:
    """The same for torch.compile and torch.export, which see the operator alone."""

    def setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, block_size, precision = inputs
        ctx.save_for_backward(*tensors)
        ctx.settings = Settings(tuple(block_size), precision)

    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor | None, ...]:
        found = gradients(operation, ctx.saved_tensors, ctx.settings, ctx.needs_input_grad, cotangent)
        return (*found[: len(ctx.saved_tensors)], None, None)

    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        return operator(*batched(in_dims[:-2], inputs[:-2]), *inputs[-2:]), 0

    operator.register_autograd(backward, setup_context=setup)
    operator.register_vmap(vmap)


_register(_ops.block_masked_mm, "mm")
_register(_ops.block_masked_dot, "dot")
