"""``block_masked_mm``, ``block_masked_dot`` and ``explain``. What lies in host memory goes to the extension as it is;
arrays on a GPU go by way of the front of their framework.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from maskmm import _maskmm
from maskmm._choice import as_stream, choose
from maskmm._maskmm import Device, DeviceType, Stream


class SupportsBuffer(Protocol):
    """Anything with the buffer protocol: a memoryview, an array.array, a JAX array on the CPU, ..."""

    def __buffer__(self, flags: int, /) -> memoryview: ...


class SupportsDLPack(Protocol):
    """Anything with DLPack."""

    def __dlpack__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, Any]: ...


Array: TypeAlias = npt.NDArray[Any] | np.generic | SupportsBuffer | SupportsDLPack
Mask: TypeAlias = Array | bool | int | float
BlockSize: TypeAlias = int | np.integer[Any] | tuple[int, int, int]
OutT = TypeVar("OutT")


class TorchStream(Protocol):
    """torch.cuda.Stream."""

    @property
    def cuda_stream(self) -> int: ...

    @property
    def device_index(self) -> int: ...


class CuPyStream(Protocol):
    """cupy.cuda.Stream."""

    @property
    def ptr(self) -> int: ...

    @property
    def device_id(self) -> int: ...


AnyStream: TypeAlias = Stream | Device | DeviceType | TorchStream | CuPyStream


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What a call of ``block_masked_mm`` would do. ``str()`` of it is a short report.

    Attributes:
        device: where it would run.
        kernel: the kernel, with its type and the size of its micro-tile.
        isa: the instruction set, or the GPU's architecture.
        reason: why this kernel, in a sentence.
        threads: the threads that the call would use; on a GPU, those of the kernel's launch.
        live_fraction: live triples of blocks as a share of all triples; 0 where there are none.
        workspace_bytes: scratch memory of all threads, with the bit rows of the masks.
    """

    device: Device
    kernel: str
    isa: str
    reason: str
    threads: int
    live_fraction: float
    workspace_bytes: int

    def __str__(self) -> str:
        isa = f" ({self.isa})" if self.isa else ""
        return (
            f"kernel     {self.kernel} on {self.device.type.name}:{self.device.index}{isa}\n"
            f"because    {self.reason}\n"
            f"threads    {self.threads}\n"
            f"live       {100 * self.live_fraction:.2f} % of the block triples\n"
            f"workspace  {self.workspace_bytes:,} bytes"
        )


@overload
def block_masked_mm(
    a: npt.NDArray[Any],
    b: npt.NDArray[Any],
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: AnyStream | None = None,
    out: None = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> npt.NDArray[Any]: ...


@overload
def block_masked_mm(
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: AnyStream | None = None,
    out: None = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Any: ...


@overload
def block_masked_mm(
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: AnyStream | None = None,
    out: OutT,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> OutT: ...


def block_masked_mm(
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: AnyStream | None = None,
    out: Any = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Any:
    """Multiplies matrices of which whole blocks are masked away::

        out[bi,bj] = mask_out[bi,bj] * sum over live bk of
                     mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj])

    A triple (bi, bj, bk) of blocks is live where all three masks are nonzero; an absent mask is all ones.
    What is not live contributes nothing, NaN and Inf included, and costs next to nothing: it is neither read
    nor multiplied. A block of the result with no live triple is zero. A mask that is not bool scales its
    blocks by its values.

    NumPy arrays (ml_dtypes.bfloat16 included) and whatever else lies in host memory with the buffer protocol or
    DLPack give a NumPy array. Nothing is copied, and the GIL is released while it multiplies. With
    ``stream=maskmm.gpu``, or a stream or device on a GPU, the elements of a and b are copied to that GPU and the
    result back; masks are copied in any case. The call is finished when it returns.

    Arrays of a framework give an array of that framework:

    - torch.Tensor, on the CPU or a GPU: with derivatives, under torch.func, torch.compile and autocast too; see
      ``maskmm.torch.block_masked_mm``.
    - cupy.ndarray. On a GPU, torch and CuPy alike, the work is enqueued on the framework's current stream, the
      result comes from its allocator, nothing is waited for, and CUDA graphs can capture the call.
    - jax.Array, on the CPU or a GPU, traced too: with derivatives, under jit, vmap and the like, in the order of
      XLA's own work; see ``maskmm.jax.block_masked_mm``.
    - mlx.core.array, on the CPU: with derivatives, under vmap and compile too; see ``maskmm.mlx.block_masked_mm``.
    - Anything else with DLPack on a GPU: the call waits for a and b on the GPU's default stream and returns when the
      result is there; that offers DLPack and nothing else.

    a, b and out are of one framework and on one device. A mask may also be a NumPy array or a number, or whatever
    else lies in host memory and is of no other framework: beside operands on a GPU it is copied in the order of the
    stream, except while a CUDA graph is captured, where it is refused. Gradients pass through
    torch tensors, JAX's and MLX's arrays.

    The layout of arrays is free: strides may be negative, zero or misaligned.

    Args:
        a: (..., M, K), or (K,). float16, bfloat16, float32 or float64; an integer or bool type only beside a
            float one.
        b: (..., K, N), or (K,). The types promote: float16 with bfloat16, and either with float32, give
            float32; anything with float64 gives float64; an integer or bool type takes the float's.
        block_size: rows, columns and inner elements of a block, one for all or ``(m, n, k)``; each 16, 32,
            64, 128 or 256. M, N and K need not be multiples: the last blocks are partial.
        mask_out: (..., ceil(M/m), ceil(N/n)), of any bool, integer or float type.
        mask_lhs: (..., ceil(M/m), ceil(K/k)), the same.
        mask_rhs: (..., ceil(K/k), ceil(N/n)), the same. The batch axes of all arguments broadcast together; a
            mask may also have size 1 in a block axis, lack axes on the left, or be a number.
        stream: where to run: a Stream, torch's, CuPy's or MLX's stream, a Device, a DeviceType, or None for the
            current stream of the framework, or else the default stream of the inputs' device. XLA orders the work
            of JAX arrays itself: no stream for these. The result is
            allocated in the order of that stream; whoever reads it on another waits for this one first.
        out: a NumPy array or another writable buffer, or a torch tensor or CuPy array on the device of a: the
            result is written here and this object returned. It has the result's shape and type and shares no
            memory with an input. Where a gradient is asked for, none can be given.
        precision: "ieee", or "tf32" to let float32 use TF32 tensor cores where the device has them.

    Returns:
        An array of the shape (..., M, N) and the promoted type of a and b, or ``out``. Sums run in float32
        (float64 for float64) and are rounded to that type once.

    Raises:
        ValueError: shapes, a size, a block size or a device that do not fit; ``out`` that overlaps an input
            or is read-only. The message begins with the argument's name.
        TypeError: an element type or an object that is not accepted; arrays of several frameworks; out
            where a gradient is asked for.
        MemoryError: no memory for the result or the workspace.
        NotImplementedError: this maskmm was built without CUDA, or does not run on this GPU.
        RuntimeError: CUDA failed.
        ImportError: the result is bfloat16, ``out`` was not given and ml_dtypes is not installed.

    >>> import numpy as np, maskmm
    >>> a = np.ones((128, 256), np.float32)
    >>> b = np.ones((256, 64), np.float32)
    >>> mask_lhs = maskmm.patterns.causal(2, 4)  # 2 x 4 blocks of 64 x 64
    >>> mask_lhs.astype(int)
    array([[1, 1, 1, 0],
           [1, 1, 1, 1]])
    >>> maskmm.block_masked_mm(a, b, mask_lhs=mask_lhs)[[0, 64], 0]
    array([192., 256.], dtype=float32)
    """
    front = choose(a, b, mask_out, mask_lhs, mask_rhs, out)
    if stream is not None:
        stream = as_stream(stream)
    if front is None:
        return _maskmm.block_masked_mm(a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision)
    return front.block_masked_mm(
        a, b, block_size, mask_out, mask_lhs, mask_rhs, stream=stream, out=out, precision=precision
    )


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
    stream: AnyStream | None = None,
    out: Any = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Any:
    """Multiplies x, element by element, with a masked product that is never stored, and sums each block::

        dot[bi,bj] = mask_out[bi,bj] * sum over i, j of x[bi,bj][i,j] * (sum over live bk of
                     mask_lhs[bi,bk] * mask_rhs[bk,bj] * (a[bi,bk] @ b[bk,bj]))[i,j]

    where i and j walk the elements of block (bi, bj). Triples are live as in ``block_masked_mm``: what is not
    live contributes nothing and is not read, x included where a block of the product has no live triple;
    those are zero. It is the derivative of ``(x * block_masked_mm(a, b)).sum()`` by mask_out, and with the
    roles changed those by the other masks.

    Args:
        x: (..., M, N), as the product of a and b: without the axes that a 1-D a or b drops. Its batch axes
            broadcast with the others. Any real type; an integer or bool type takes that of a and b.
        a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, precision: as of ``block_masked_mm``. Any of
            x, a and b may be of an integer or bool type beside a float one.
        out: as of ``block_masked_mm``, with the shape and type of this result.

    Returns:
        An array of the shape (..., ceil(M/m), ceil(N/n)), or ``out``: float64 where x, a or b is float64,
        else float32, which is what the sums run in. Their order is fixed.

    Raises:
        ValueError, TypeError, MemoryError, NotImplementedError, RuntimeError: as ``block_masked_mm``.

    >>> import numpy as np, maskmm
    >>> x = np.full((128, 64), 0.25, np.float32)
    >>> a = np.ones((128, 256), np.float32)
    >>> b = np.ones((256, 64), np.float32)
    >>> maskmm.block_masked_dot(x, a, b, mask_lhs=maskmm.patterns.causal(2, 4))
    array([[196608.],
           [262144.]], dtype=float32)
    >>> product = maskmm.block_masked_mm(a, b, mask_lhs=maskmm.patterns.causal(2, 4))
    >>> (x * product).reshape(2, 64, 1, 64).sum(axis=(1, 3))
    array([[196608.],
           [262144.]], dtype=float32)
    """
    front = choose(a, b, mask_out, mask_lhs, mask_rhs, out, x)
    stream = as_stream(stream)
    if front is None:
        return _maskmm.block_masked_dot(
            x, a, b, block_size, mask_out, mask_lhs, mask_rhs, stream, out, precision
        )
    return front.block_masked_dot(
        x, a, b, block_size, mask_out, mask_lhs, mask_rhs, stream=stream, out=out, precision=precision
    )


def explain(
    a: Array,
    b: Array,
    /,
    block_size: BlockSize = 64,
    mask_out: Mask | None = None,
    mask_lhs: Mask | None = None,
    mask_rhs: Mask | None = None,
    *,
    stream: AnyStream | None = None,
    out: Array | None = None,
    precision: Literal["ieee", "tf32"] = "ieee",
) -> Explanation:
    """Tells what ``block_masked_mm`` would do with the same arguments. Checks them and reads the masks;
    multiplies nothing and writes nothing. With masks on a GPU it waits for the stream.

    Args: as of ``block_masked_mm``.

    Returns:
        The kernel and why it was chosen, the threads, the share of the work that is live, the workspace.

    Raises:
        ValueError, TypeError, MemoryError: as ``block_masked_mm``.

    >>> import numpy as np, maskmm
    >>> a = np.ones((256, 256), np.float32)
    >>> maskmm.explain(a, a, mask_lhs=maskmm.patterns.causal(4)).live_fraction
    0.625
    """
    front = choose(a, b, mask_out, mask_lhs, mask_rhs, out)
    arguments = (a, b, block_size, mask_out, mask_lhs, mask_rhs, as_stream(stream), out, precision)
    return Explanation(*(_maskmm if front is None else front).explain(*arguments))
