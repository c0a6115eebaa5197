"""MLX: ``block_masked_mm`` and ``block_masked_dot`` as functions of MLX arrays, computed on the CPU.

Code that was written for ``mlx.core.block_masked_mm`` runs unchanged when the function comes from here: the names, the
order and the defaults of the arguments are the same, and so are shapes and types. They work under mx.grad, mx.vjp,
mx.jvp, mx.vmap and mx.compile, to any order of derivatives.
"""

from __future__ import annotations

import importlib
import operator
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from maskmm import _abstract, _derivatives, _maskmm, _mlx_graph
from maskmm._derivatives import INPUTS, BlockSizes

__all__ = ["block_masked_dot", "block_masked_mm"]

mx: Any = importlib.import_module("mlx.core")
Array: TypeAlias = Any  # mlx.core.array
BlockSize: TypeAlias = int | tuple[int, int, int]
Mask: TypeAlias = Any  # mx.array, or what mx.array takes
Precision: TypeAlias = Literal["ieee", "tf32"]

_CORE: dict[str, Any] = {"mm": _maskmm.block_masked_mm, "dot": _maskmm.block_masked_dot}
_GRAPH: dict[str, Any] = {"mm": _mlx_graph.mm, "dot": _mlx_graph.dot}
_STORED = {"float16": np.float16, "bfloat16": np.uint16, "float32": np.float32, "float64": np.uint64}
_TRACED = "during function transformations"  # what MLX's error says where arrays have no elements yet


def block_masked_mm(
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: Any = None,
    precision: Precision = "ieee",
) -> Array:
    """Multiplies matrices of which whole blocks are masked away::

        out[bi,bj] = mask_out[bi,bj] * sum over live bk of
                     mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj])

    The operation of ``maskmm.block_masked_mm``, for MLX: what is not live contributes nothing and is not read,
    all of its types and block sizes work, and masks may widen the batch.

    The inputs are evaluated and the call is finished when it returns: MLX's laziness ends here. Under mx.compile
    arrays have no elements yet; there the operation becomes a graph of MLX's own operations, which gives the same
    result at a dense price. There are derivatives for a, b and every floating mask, computed where they are asked
    for; what is bool or an integer has a derivative of zero.

    Args:
        a: (..., M, K), or (K,). float16, bfloat16, float32 or float64; an integer or bool type only beside a
            float one.
        b: (..., K, N), or (K,).
        block_size: rows, columns and inner elements of a block, one for all or ``(m, n, k)``; each 16, 32,
            64, 128 or 256. M, N and K need not be multiples.
        mask_out: (..., ceil(M/m), ceil(N/n)), of any bool, integer or float type. Batch axes of all arguments
            broadcast together; a mask may have size 1 in a block axis, lack axes on the left, or be a number.
        mask_lhs: (..., ceil(M/m), ceil(K/k)), the same.
        mask_rhs: (..., ceil(K/k), ceil(N/n)), the same.
        stream: None, ``mx.cpu``, or a device or stream of MLX's on the CPU.
        precision: "ieee", or "tf32", which makes no difference on the CPU.

    Returns:
        An array of the shape (..., M, N) and the promoted type of a and b.

    Raises:
        ValueError: shapes, a size or a block size that do not fit; a stream on a GPU.
        TypeError: an element type or an object that is not accepted.
        MemoryError: no memory for the workspace.

    >>> import maskmm, mlx.core as mx
    >>> from maskmm.mlx import block_masked_mm
    >>> a, b = mx.ones((128, 256)), mx.ones((256, 64))
    >>> mask = mx.array(maskmm.patterns.causal(2, 4)).astype(mx.float32)  # 2 x 4 blocks of 64 x 64
    >>> block_masked_mm(a, b, mask_lhs=mask, stream=mx.cpu)[mx.array([0, 64]), 0]
    array([192, 256], dtype=float32)
    >>> mx.grad(lambda mask: block_masked_mm(a, b, mask_lhs=mask).sum())(mask)[0]
    array([262144, 262144, 262144, 262144], dtype=float32)
    """
    return _call("mm", (a, b), block_size, (mask_out, mask_lhs, mask_rhs), stream, precision)


def block_masked_dot(
    x: Array,
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: Any = None,
    precision: Precision = "ieee",
) -> Array:
    """The sums, block by block, of x times a masked product that is never stored::

        dot[bi,bj] = mask_out[bi,bj] * sum over i, j in the block of x[i,j] *
                     (sum over live bk of mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj]))[i,j]

    It is the derivative of ``(x * block_masked_mm(a, b)).sum()`` by mask_out. It has derivatives for x, a, b and
    every floating mask.

    Args:
        x: (..., M, N), as the product of a and b.
        a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, precision: as of ``block_masked_mm``.

    Returns:
        An array of the shape (..., ceil(M/m), ceil(N/n)): float64 where x, a or b is, else float32.

    Raises:
        ValueError, TypeError, MemoryError: as ``block_masked_mm``.

    >>> import mlx.core as mx
    >>> from maskmm.mlx import block_masked_dot
    >>> x, a, b = mx.ones((64, 64)), mx.ones((64, 32)), mx.ones((32, 64))
    >>> block_masked_dot(x, a, b, 32, mask_lhs=mx.array([[True], [False]]))
    array([[32768, 32768],
           [0, 0]], dtype=float32)
    """
    return _call("dot", (x, a, b), block_size, (mask_out, mask_lhs, mask_rhs), stream, precision)


def _call(
    operation: str,
    operands: Sequence[Any],
    block_size: Any,
    masks: Sequence[Any],
    stream: Any,
    precision: Any,
) -> Any:
    _check_stream(stream)
    inputs = {}
    wide = any(isinstance(x, mx.array) and x.dtype == mx.float64 for x in operands)
    for name, x in zip(INPUTS[operation], (*operands, *masks), strict=True):
        if name.startswith("mask"):
            if x is not None:
                inputs[name] = x if isinstance(x, mx.array) else _mask(name, x, wide)
        elif isinstance(x, mx.array):
            inputs[name] = x
        else:
            kind = "numpy.ndarray" if isinstance(x, np.ndarray) else type(x).__name__
            raise TypeError(f"{name}: expected an mlx.core.array, got {kind}")
    kinds = {name: (tuple(x.shape), _name(x.dtype)) for name, x in inputs.items()}
    shape, _ = _abstract.result(operation, kinds, block_size, precision)
    with mx.stream(mx.cpu):
        shapes = _derivatives.canonical_shapes(operation, {name: kind[0] for name, kind in kinds.items()})
        canonical = {
            name: x if shapes[name] == kinds[name][0] else x.reshape(shapes[name])
            for name, x in inputs.items()
        }
        m, n, k = map(operator.index, block_size if isinstance(block_size, tuple) else (block_size,) * 3)
        result = _Operation(operation, (m, n, k), precision)(canonical)
        return result if tuple(result.shape) == shape else result.reshape(shape)


class _Operation:
    """mm or dot on arrays in canonical form, with its rules of differentiation and batching.

    The rules that MLX lets a function bring compute the derivatives by all inputs at once. So that none is computed
    that nobody asked for, each floating input gets a function of its own: a mark, which says of an input how the
    result depends on it and has no other value. ``attach`` joins the value with the marks.
    """

    def __init__(self, operation: str, block_size: BlockSizes, precision: str) -> None:
        self.operation = operation
        self.block_size = block_size
        self.precision = precision

    def __call__(self, inputs: dict[str, Any]) -> Any:
        kinds = {name: (tuple(x.shape), _name(x.dtype)) for name, x in inputs.items()}
        shape, dtype = _abstract.result(self.operation, kinds, self.block_size, self.precision)
        value = mx.stop_gradient(self.value(inputs, shape, dtype))
        marks = [
            self.mark(name, inputs, value)(x)
            for name, x in inputs.items()
            if mx.issubdtype(x.dtype, mx.floating)
        ]
        return self.attach(list(inputs), len(marks))(value, *marks, *inputs.values())

    def value(self, inputs: dict[str, Any], shape: tuple[int, ...], dtype: str) -> Any:
        *operands, mask_out, mask_lhs, mask_rhs = map(inputs.get, INPUTS[self.operation])
        masks = (mask_out, mask_lhs, mask_rhs)
        try:
            mx.eval(*inputs.values())
        except (RuntimeError, ValueError) as error:
            if _TRACED not in str(error):
                raise
            return _GRAPH[self.operation](*operands, self.block_size, masks, getattr(mx, dtype))
        out = mx.array(np.empty(shape, _STORED[dtype]))  # memory of MLX's that nothing else refers to
        if _name(out.dtype) != dtype:
            out = out.view(getattr(mx, dtype))
        _CORE[self.operation](*operands, self.block_size, *masks, None, out, self.precision)
        return out

    def mark(self, name: str, inputs: dict[str, Any], value: Any) -> Any:
        """A function of the input alone; the others are constants to it, and variables to what its rules compute."""

        def nothing(x: Any) -> Any:
            return mx.broadcast_to(mx.array(0, value.dtype), value.shape)

        def vjp(x: Any, cotangent: Any, output: Any) -> Any:
            functions = _Functions(self.precision)
            return _derivatives.vjp(self.operation, functions, inputs, self.block_size, cotangent, [name])[
                name
            ]

        def jvp(x: Any, tangent: Any) -> Any:
            return self({**inputs, name: tangent})

        def vmap(x: Any, axis: int) -> Any:
            return mx.broadcast_to(mx.array(0, value.dtype), (x.shape[axis], *value.shape)), 0

        return _with_rules(nothing, vjp, jvp, vmap)

    def attach(self, names: list[str], marks: int) -> Any:
        """A function of the value, its marks and the inputs, which batching needs."""

        def first(value: Any, *others: Any) -> Any:
            return value

        def vjp(primals: Any, cotangent: Any, output: Any) -> Any:
            zeros = [mx.broadcast_to(mx.array(0, x.dtype), x.shape) for x in primals[1 + marks :]]
            return (mx.array(0, cotangent.dtype), *[cotangent] * marks, *zeros)

        def jvp(primals: Any, tangents: Any) -> Any:
            total = None
            for tangent in tangents[1 : 1 + marks]:
                if tangent is not None:
                    total = tangent if total is None else total + tangent
            return mx.zeros_like(primals[0]) if total is None else total

        def vmap(given: Any, axes: Any) -> Any:
            inputs = dict(zip(names, given[1 + marks :], strict=True))
            batched = dict(zip(names, axes[1 + marks :], strict=True))
            rank = max(x.ndim - (batched[name] is not None) for name, x in inputs.items())
            return self({name: _batched(x, batched[name], rank) for name, x in inputs.items()}), 0

        return _with_rules(first, vjp, jvp, vmap)


class _Functions:
    """MLX for maskmm._derivatives."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def mm(self, a: Any, b: Any, block_size: BlockSizes, *masks: Any) -> Any:
        return self._call("mm", (a, b), block_size, masks)

    def dot(self, x: Any, a: Any, b: Any, block_size: BlockSizes, *masks: Any) -> Any:
        return self._call("dot", (x, a, b), block_size, masks)

    def transpose(self, x: Any) -> Any:
        return mx.swapaxes(x, -1, -2)

    def scaled(self, x: Any, mask: Any) -> Any:
        def vjp(primals: Any, cotangent: Any, output: Any) -> Any:  # mx.where's own lets NaN through
            x, mask = primals
            is_floating = mx.issubdtype(mask.dtype, mx.floating)
            by_mask = self.like(self.scaled(cotangent, x), mask) if is_floating else mx.zeros_like(mask)
            return self.scaled(cotangent, mask), by_mask

        def jvp(primals: Any, tangents: Any) -> Any:
            (x, mask), (x_tangent, mask_tangent) = primals, tangents
            total = None if x_tangent is None else self.scaled(x_tangent, mask)
            if mask_tangent is not None:
                term = self.scaled(mx.broadcast_to(mask_tangent.astype(x.dtype), x.shape), x)
                total = term if total is None else total + term
            return total

        def vmap(given: Any, axes: Any) -> Any:
            rank = max(x.ndim - (axis is not None) for x, axis in zip(given, axes, strict=True))
            return self.scaled(*(_batched(x, axis, rank) for x, axis in zip(given, axes, strict=True))), 0

        return _with_rules(_scaled, vjp, jvp, vmap)(x, mask)

    def like(self, gradient: Any, x: Any) -> Any:
        shape = (1,) * (gradient.ndim - x.ndim) + tuple(x.shape)
        axes = [i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1]
        if axes:
            gradient = gradient.sum(axes, keepdims=True)
        return gradient.reshape(x.shape).astype(x.dtype)

    def _call(self, operation: str, operands: Any, block_size: BlockSizes, masks: Any) -> Any:
        named = zip(INPUTS[operation], (*operands, *masks), strict=True)
        there = {name: x for name, x in named if x is not None}
        return _Operation(operation, block_size, self.precision)(there)


def _scaled(x: Any, mask: Any) -> Any:
    mask = mask.astype(x.dtype)
    return mx.where(mask != 0, x * mask, 0)


def _batched(x: Any, axis: int | None, rank: int) -> Any:
    """With the axis that is mapped over, or one of size 1, in front of ``rank`` others."""
    x = mx.expand_dims(x, 0) if axis is None else mx.moveaxis(x, axis, 0)
    return x.reshape(x.shape[0], *(1,) * (rank + 1 - x.ndim), *x.shape[1:])


def _with_rules(function: Any, vjp: Any, jvp: Any, vmap: Any) -> Any:
    result = mx.custom_function(function)
    result.vjp(vjp)
    result.jvp(jvp)
    result.vmap(vmap)
    return result


def _mask(name: str, x: Any, wide: bool) -> Any:
    """A mask that came as a number or another array. float64 becomes float32 unless an operand is ``wide``."""
    x = np.array(_abstract.host_mask(name, x), order="C")
    if x.dtype.name == "bfloat16":  # of ml_dtypes
        return mx.array(x.view(np.uint16)).view(mx.bfloat16)
    if x.dtype == np.float64 and wide:
        return mx.array(x.view(np.uint64)).view(mx.float64)
    return mx.array(x)


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("mlx.core.")


def _check_stream(stream: Any) -> None:
    if stream is None or stream == mx.cpu:
        return
    device = getattr(stream, "device", stream)
    kind = getattr(device, "type", device)
    if not isinstance(kind, mx.DeviceType):
        name = type(stream).__name__
        raise TypeError(f"stream: expected None, or a device or stream of MLX's on the CPU, got {name}")
    if kind != mx.cpu:
        raise ValueError(f"stream: expected one on the CPU, where maskmm runs MLX's arrays, got {stream}")
