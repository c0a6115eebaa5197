"""JAX: ``block_masked_mm`` and ``block_masked_dot`` as functions of JAX arrays, on the CPU and on CUDA GPUs.

They work under jit, grad, vmap, jvp, jacfwd, jacrev, scan and checkpoint, to any order of derivatives, and run in the
order of XLA's own work. Nothing is copied: XLA lends its buffers to the kernels.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from maskmm import _abstract, _derivatives
from maskmm._derivatives import INPUTS
from maskmm._jax_primitive import Operand, bind

__all__ = ["block_masked_dot", "block_masked_mm"]

BlockSize: TypeAlias = int | tuple[int, int, int]
ArrayLike: TypeAlias = Any  # jax.typing.ArrayLike
Precision: TypeAlias = Literal["ieee", "tf32"]


def block_masked_mm(
    a: ArrayLike,
    b: ArrayLike,
    /,
    block_size: BlockSize = 64,
    mask_out: ArrayLike | None = None,
    mask_lhs: ArrayLike | None = None,
    mask_rhs: ArrayLike | None = None,
    *,
    stream: None = None,
    out: None = None,
    precision: Precision = "ieee",
) -> jax.Array:
    """Multiplies matrices of which whole blocks are masked away::

        out[bi,bj] = mask_out[bi,bj] * sum over live bk of
                     mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj])

    The operation of ``maskmm.block_masked_mm``, for JAX: what is not live contributes nothing and is not read.
    ``block_size`` and ``precision`` are static; everything else may be traced.

    There are derivatives for a, b and every floating mask, in forward and reverse mode, to any order; that of a
    mask is there where the mask is zero too. Where a and b are float16 or bfloat16, those of masks are summed in
    float32 and rounded once.

    Args:
        a: (..., M, K), or (K,). float16, bfloat16, float32 or float64; an integer or bool type only beside a
            float one. NumPy arrays are welcome everywhere.
        b: (..., K, N), or (K,).
        block_size: rows, columns and inner elements of a block, one for all or ``(m, n, k)``; each 16, 32,
            64, 128 or 256. M, N and K need not be multiples.
        mask_out: (..., ceil(M/m), ceil(N/n)), of any bool, integer or float type. Batch axes of all arguments
            broadcast together; a mask may have size 1 in a block axis, lack axes on the left, or be a number.
        mask_lhs: (..., ceil(M/m), ceil(K/k)), the same.
        mask_rhs: (..., ceil(K/k), ceil(N/n)), the same.
        stream: None: XLA orders the work.
        out: None: JAX arrays cannot be written to.
        precision: "ieee", or "tf32" to let float32 use TF32 tensor cores where the device has them.

    Returns:
        An array of the shape (..., M, N) and the promoted type of a and b.

    Raises:
        ValueError: shapes, a size or a block size that do not fit. Also while tracing.
        TypeError: an element type or an object that is not accepted; ``stream`` or ``out``.
        MemoryError: no memory for the result, where that is known when the call returns.

    >>> import jax, jax.numpy as jnp, maskmm
    >>> from maskmm.jax import block_masked_mm
    >>> a, b = jnp.ones((128, 256), "float32"), jnp.ones((256, 64), "float32")
    >>> mask = jnp.array(maskmm.patterns.causal(2, 4), jnp.float32)  # 2 x 4 blocks of 64 x 64
    >>> jax.jit(block_masked_mm)(a, b, mask_lhs=mask)[jnp.array([0, 64]), 0]
    Array([192., 256.], dtype=float32)
    >>> jax.grad(lambda mask: block_masked_mm(a, b, mask_lhs=mask).sum())(mask)[0]
    Array([262144., 262144., 262144., 262144.], dtype=float32)
    """
    result: jax.Array = _call(
        "mm", (a, b), block_size, (mask_out, mask_lhs, mask_rhs), stream, out, precision
    )
    return result


def block_masked_dot(
    x: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    /,
    block_size: BlockSize = 64,
    mask_out: ArrayLike | None = None,
    mask_lhs: ArrayLike | None = None,
    mask_rhs: ArrayLike | None = None,
    *,
    stream: None = None,
    out: None = None,
    precision: Precision = "ieee",
) -> jax.Array:
    """The sums, block by block, of x times a masked product that is never stored::

        dot[bi,bj] = mask_out[bi,bj] * sum over i, j in the block of x[i,j] *
                     (sum over live bk of mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj]))[i,j]

    It is the derivative of ``sum(x * block_masked_mm(a, b))`` by mask_out. It has derivatives for x, a, b and
    every floating mask.

    Args:
        x: (..., M, N), as the product of a and b.
        a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision: as of ``block_masked_mm``.

    Returns:
        An array of the shape (..., ceil(M/m), ceil(N/n)): float64 where x, a or b is, else float32.

    Raises:
        ValueError, TypeError, MemoryError: as ``block_masked_mm``.

    >>> import jax.numpy as jnp
    >>> from maskmm.jax import block_masked_dot
    >>> x, a, b = (jnp.ones(shape, "float32") for shape in ((64, 64), (64, 32), (32, 64)))
    >>> block_masked_dot(x, a, b, 32, mask_lhs=jnp.array([[True], [False]]))
    Array([[32768., 32768.],
           [    0.,     0.]], dtype=float32)
    """
    masks = (mask_out, mask_lhs, mask_rhs)
    result: jax.Array = _call("dot", (x, a, b), block_size, masks, stream, out, precision)
    return result


def _call(
    operation: str,
    operands: tuple[Any, ...],
    block_size: Any,
    masks: tuple[Any, Any, Any],
    stream: Any,
    out: Any,
    precision: Any,
) -> Any:
    if stream is not None:
        raise TypeError(f"stream: expected None, as XLA orders the work, got {type(stream).__name__}")
    if out is not None:
        raise TypeError(f"out: expected None, as JAX arrays cannot be written to, got {type(out).__name__}")
    if type(block_size) is not int:
        block_size = _plain_size(block_size)
    if type(precision) is not str:
        precision = _Wrong(precision)
    names = INPUTS[operation]
    operands = tuple([_operand(name, x) for name, x in zip(names, operands, strict=False)])
    masks = tuple([_mask(name, x) for name, x in zip(names[-3:], masks, strict=True)])
    try:
        return _compiled(operation, operands, masks, block_size, precision)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError(f"no memory for the result or the workspace: {error}") from error
        raise


def _plain_size(size: Any) -> Any:
    """What jit can take as static; whatever is no size is refused when it is checked."""
    try:
        if isinstance(size, bool) or (isinstance(size, tuple) and any(isinstance(x, bool) for x in size)):
            return _Wrong(size)
        return tuple(map(operator.index, size)) if isinstance(size, tuple) else operator.index(size)
    except TypeError:
        return _Wrong(size)


def _operand(name: str, x: Any) -> Any:
    if isinstance(x, _ARRAYS):
        return x
    if hasattr(x, "__jax_array__"):
        return x.__jax_array__()
    raise TypeError(f"{name}: expected an array, got {type(x).__name__}")


def _mask(name: str, x: Any) -> Any:
    if x is None or isinstance(x, jax.Array):
        return x
    if hasattr(x, "__jax_array__"):
        return x.__jax_array__()
    x = _abstract.host_mask(name, x)
    return float(x) if isinstance(x, int) and abs(x) >= 2**31 else x  # jit takes ints of 32 bits


_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


class _Wrong:
    """A setting of a wrong type, on its way to the check."""

    def __init__(self, value: Any) -> None:
        self.value = value


@functools.partial(jax.jit, static_argnums=(0, 3, 4), inline=True)
def _compiled(
    operation: str,
    operands: tuple[Any, ...],
    masks: tuple[Any, Any, Any],
    block_size: Any,
    precision: Any,
) -> Any:
    named = zip(INPUTS[operation], (*operands, *masks), strict=True)
    given = {name: jnp.asarray(x) for name, x in named if x is not None}
    settings = [s.value if isinstance(s, _Wrong) else s for s in (block_size, precision)]
    kinds = {name: (x.shape, str(x.dtype)) for name, x in given.items()}
    shape = _result_shape(operation, kinds, *settings)
    sizes = block_size if isinstance(block_size, tuple) else (block_size,) * 3
    shapes = _derivatives.canonical_shapes(operation, {name: x.shape for name, x in given.items()})
    canonical = {name: jnp.reshape(x, shapes[name]) for name, x in given.items()}
    canonical = _rows_of_a_batch(operation, canonical, sizes)
    axes = max(x.ndim for x in canonical.values())
    canonical = {name: jnp.reshape(x, (1,) * (axes - x.ndim) + x.shape) for name, x in canonical.items()}
    stored = {name: Operand(x) for name, x in canonical.items() if not name.startswith("mask")}
    wide = tuple(canonical.get(name) for name in ("mask_out", "mask_lhs", "mask_rhs"))
    return jnp.reshape(bind(operation, stored, sizes, wide, precision), shape)


def _result_shape(operation: str, kinds: dict[str, Any], block_size: Any, precision: Any) -> tuple[Any, ...]:
    shapes = {name: shape for name, (shape, _) in kinds.items()}
    if all(isinstance(size, int) for shape in shapes.values() for size in shape):
        return _abstract.result(operation, kinds, block_size, precision)[0]
    # Sizes that jax.export does not know yet: the kernels check the shapes when they come.
    canonical = _derivatives.canonical_shapes(operation, shapes)
    batch = jax.lax.broadcast_shapes(*(shape[:-2] for shape in canonical.values()))
    rows, columns = canonical["a"][-2], canonical["b"][-1]
    if operation == "dot":
        m, n, _ = block_size if isinstance(block_size, tuple) else (block_size,) * 3
        rows, columns = -(-rows // m), -(-columns // n)
    return _derivatives.result_shape((*batch, rows, columns), len(shapes["a"]), len(shapes["b"]))


def _rows_of_a_batch(
    operation: str, canonical: dict[str, jax.Array], sizes: tuple[int, int, int]
) -> dict[str, jax.Array]:
    """Where only rows have a batch, they become the rows of one product: then the gradient of b is one product too,
    and not a sum over as many as the batch has elements.
    """
    m = sizes[0]
    *batch, rows, _ = canonical["a"].shape
    count = math.prod(batch)
    columns_batched = any(
        math.prod(canonical[name].shape[:-2]) != 1 for name in ("b", "mask_rhs") if name in canonical
    )
    widest = jax.lax.broadcast_shapes(*(x.shape[:-2] for x in canonical.values()))
    if count in (0, 1) or rows % m != 0 or columns_batched or tuple(batch) != widest:
        return canonical
    if operation == "dot" and canonical["x"].shape[:-2] != widest:
        return canonical
    result = dict(canonical)
    for name, blocks in (("a", rows), ("x", rows), ("mask_lhs", rows // m), ("mask_out", rows // m)):
        if name in canonical:
            x = canonical[name]
            if math.prod(x.shape[:-1]) != 1:
                x = jnp.broadcast_to(x, (*batch, blocks, x.shape[-1]))
            result[name] = jnp.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    for name in ("b", "mask_rhs"):
        if name in canonical:
            result[name] = jnp.reshape(canonical[name], canonical[name].shape[-2:])
    return result
