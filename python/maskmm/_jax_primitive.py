"""The operation ("mm") and its block-wise reduction ("dot") as two primitives of JAX, with the rules of its
transformations.

Their arguments have one form (``canonical``): two axes, and before these the same number of batch axes for all, each of
size 1 or of the size of the widest. An operand may be stored transposed, so that no rule here transposes more than
masks. Both primitives are linear in every argument; maskmm._derivatives says what their transposes are.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from maskmm import _derivatives, _maskmm
from maskmm._derivatives import INPUTS, BlockSizes

jax: Any = importlib.import_module("jax")
jnp: Any = jax.numpy
ad: Any = importlib.import_module("jax.interpreters.ad")
batching: Any = importlib.import_module("jax.interpreters.batching")
mlir: Any = importlib.import_module("jax.interpreters.mlir")
Primitive: TypeAlias = Any  # jax.extend.core.Primitive

Shape: TypeAlias = tuple[int, ...]

TARGET = "maskmm"
OPERATIONS = ("mm", "dot")
MASKS = ("mask_out", "mask_lhs", "mask_rhs")
PRECISIONS = ("ieee", "tf32")
OPERAND_BITS = {"a": 1, "b": 2, "x": 4}  # of the attribute, see python/xla_ffi.cpp

for _platform, _handler in _maskmm.xla_ffi_handlers().items():
    jax.ffi.register_ffi_target(TARGET, _handler, platform=_platform)


class Settings(NamedTuple):
    """What a primitive knows beside its arguments."""

    names: tuple[str, ...]  # of the arguments: INPUTS without the masks that are absent
    block_size: BlockSizes
    transposed: frozenset[str]  # operands that are stored with their last two axes exchanged
    precision: str


class Operand:
    """x, a or b, as it is stored."""

    def __init__(self, stored: Any, transposed: bool = False) -> None:
        self.stored = stored
        self.transposed = transposed

    @property
    def shape(self) -> Shape:
        *batch, rows, columns = self.stored.shape
        return (*batch, columns, rows) if self.transposed else (*batch, rows, columns)

    @property
    def dtype(self) -> Any:
        return self.stored.dtype


class Product(NamedTuple):
    """A product that is not computed yet: in which layout depends on what it is for."""

    a: Operand
    b: Operand
    block_size: BlockSizes
    masks: tuple[Any, ...]

    def computed(self, transposed: bool, dtype: Any, precision: str) -> Any:
        """In a type as wide as dtype. Transposed: (a b)^T = b^T a^T."""
        a, b, (m, n, k), (out, lhs, rhs) = self
        if jnp.promote_types(promote(a.dtype, b.dtype), dtype) != promote(a.dtype, b.dtype):
            b = Operand(b.stored.astype(dtype), b.transposed)
        if not transposed:
            return bind("mm", {"a": a, "b": b}, (m, n, k), (out, lhs, rhs), precision)
        operands = {"a": flipped(b), "b": flipped(a)}
        return bind("mm", operands, (n, m, k), (swapped(out), swapped(rhs), swapped(lhs)), precision)


class Functions:
    """JAX for maskmm._derivatives: operands are Operands, masks and reductions are arrays."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def mm(self, a: Any, b: Any, block_size: BlockSizes, *masks: Any) -> Any:
        return Product(a, b, block_size, masks)

    def dot(self, x: Any, a: Any, b: Any, block_size: BlockSizes, *masks: Any) -> Any:
        return bind("dot", {"x": x, "a": a, "b": b}, block_size, masks, self.precision)

    def transpose(self, x: Any) -> Any:
        return flipped(x) if isinstance(x, Operand) else swapped(x)

    def scaled(self, x: Any, mask: Any) -> Any:
        return scaled(x, mask.astype(x.dtype))

    def like(self, gradient: Any, x: Any) -> Any:
        shape = x.stored.shape if isinstance(x, Operand) else x.shape
        if isinstance(gradient, Product):
            gradient = gradient.computed(x.transposed, x.dtype, self.precision)
        axes = tuple(i for i, size in enumerate(shape) if size == 1 and gradient.shape[i] != 1)
        return (jnp.sum(gradient, axes, keepdims=True) if axes else gradient).astype(x.dtype)


def bind(
    operation: str,
    operands: dict[str, Operand],
    block_size: BlockSizes,
    masks: Sequence[Any],
    precision: str,
) -> Any:
    """The operation on arguments in canonical form; absent masks are None."""
    there = {name: mask for name, mask in zip(MASKS, masks, strict=True) if mask is not None}
    settings = Settings(
        (*operands, *there),
        block_size,
        frozenset(name for name, operand in operands.items() if operand.transposed),
        precision,
    )
    stored = [operand.stored for operand in operands.values()]
    return PRIMITIVES[operation].bind(*stored, *there.values(), settings=settings)


def _scaled(x: Any, mask: Any) -> Any:
    return jnp.where(mask != 0, x * mask, 0)


def _scaled_jvp(primals: Any, tangents: Any) -> Any:
    (x, mask), (x_tangent, mask_tangent) = primals, tangents
    tangent = jnp.where(mask != 0, x_tangent * mask, 0) + jnp.where(x != 0, mask_tangent * x, 0)
    return scaled(x, mask), tangent


scaled: Any = jax.custom_jvp(_scaled)
scaled.defjvp(_scaled_jvp)


def flipped(x: Operand) -> Operand:
    return Operand(x.stored, not x.transposed)


def swapped(mask: Any) -> Any:
    return None if mask is None else jnp.swapaxes(mask, -1, -2)


def promote(a: Any, b: Any) -> Any:
    """The type of a product: float16 with bfloat16 gives float32, an integer takes the float's."""
    return jnp.promote_types(a, b)


def arguments(settings: Settings, values: Sequence[Any]) -> dict[str, Any]:
    """By name: operands as Operands, masks as they are."""
    return {
        name: value if name in MASKS else Operand(value, name in settings.transposed)
        for name, value in zip(settings.names, values, strict=True)
    }


def abstract(operation: str, *avals: Any, settings: Settings) -> Any:
    known = arguments(settings, avals)
    a, b = known["a"], known["b"]
    batch = jax.lax.broadcast_shapes(*(aval.shape[:-2] for aval in avals))
    if operation == "mm":
        return jax.core.ShapedArray((*batch, a.shape[-2], b.shape[-1]), promote(a.dtype, b.dtype))
    m, n, _ = settings.block_size
    wide = any(known[name].dtype == np.float64 for name in ("x", "a", "b"))
    blocks = (-(-a.shape[-2] // m), -(-b.shape[-1] // n))
    return jax.core.ShapedArray((*batch, *blocks), np.dtype("float64" if wide else "float32"))


def jvp(
    primitive: Primitive, primals: Sequence[Any], tangents: Sequence[Any], *, settings: Settings
) -> tuple[Any, Any]:
    result = primitive.bind(*primals, settings=settings)
    total = None
    for i, tangent in enumerate(tangents):
        if type(tangent) is ad.Zero:
            continue
        term = primitive.bind(*primals[:i], tangent, *primals[i + 1 :], settings=settings)
        total = term if total is None else total + term
    return result, ad.Zero.from_primal_value(result) if total is None else total


def transpose(operation: str, cotangent: Any, *values: Any, settings: Settings) -> list[Any]:
    """The cotangents of the arguments that the result is linear in, of which each equation has one."""
    wanted = [
        name for name, value in zip(settings.names, values, strict=True) if ad.is_undefined_primal(value)
    ]
    if type(cotangent) is ad.Zero:
        return [ad.Zero(value.aval) if ad.is_undefined_primal(value) else None for value in values]
    known = arguments(settings, [value.aval if ad.is_undefined_primal(value) else value for value in values])
    gradients = _derivatives.vjp(
        operation,
        Functions(settings.precision),
        known,
        settings.block_size,
        Operand(cotangent) if operation == "mm" else cotangent,
        wanted,
    )
    return [gradients.get(name) for name in settings.names]


def batch(
    primitive: Primitive, values: Sequence[Any], axes: Sequence[Any], *, settings: Settings
) -> tuple[Any, int]:
    stacked = [
        jnp.expand_dims(value, 0) if axis is None else jnp.moveaxis(value, axis, 0)
        for value, axis in zip(values, axes, strict=True)
    ]
    return primitive.bind(*stacked, settings=settings), 0


def lower(operation: str, context: Any, *values: Any, settings: Settings) -> Any:
    attribute = np.array(
        [
            OPERATIONS.index(operation),
            *settings.block_size,
            PRECISIONS.index(settings.precision),
            sum(1 << MASKS.index(name) for name in settings.names if name in MASKS),
            sum(OPERAND_BITS[name] for name in settings.transposed),
        ],
        np.int64,
    )
    return jax.ffi.ffi_lowering(TARGET)(context, *values, settings=attribute)


def evaluate(primitive: Primitive, *values: Any, settings: Settings) -> Any:
    """Outside of jit, which is only where it is disabled."""
    with jax.disable_jit(False):
        return _compiled(primitive, settings)(*values)


@functools.lru_cache(maxsize=256)
def _compiled(primitive: Primitive, settings: Settings) -> Any:
    return jax.jit(functools.partial(primitive.bind, settings=settings))


def define(operation: str) -> Primitive:
    primitive = importlib.import_module("jax.extend.core").Primitive(f"block_masked_{operation}")
    primitive.def_impl(functools.partial(evaluate, primitive))
    primitive.def_abstract_eval(functools.partial(abstract, operation))
    ad.primitive_jvps[primitive] = functools.partial(jvp, primitive)
    ad.primitive_transposes[primitive] = functools.partial(transpose, operation)
    batching.primitive_batchers[primitive] = functools.partial(batch, primitive)
    for platform in ("cpu", "cuda"):
        mlir.register_lowering(primitive, functools.partial(lower, operation), platform=platform)
    return primitive


PRIMITIVES = {operation: define(operation) for operation in INPUTS}
