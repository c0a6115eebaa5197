"""What else a PyTorch user can call for a masked product on a GPU, beside block_masked_mm: a call for each peer.

- expand + cuBLAS: dead blocks are set to zero and the dense product is taken, in the same call.
- plain Triton: a kernel that skips dead blocks (triton_kernel.py).
- torch BSR: the Triton kernel of torch's block-sparse rows; "tuned" has the fastest parameters of a grid.
- STK: dsd, dds and sdd (which packs its result) of stanford-stk; blocks of 128 only, as its configuration says.

What depends on the masks alone, and the packing of a sparse operand, is done before the call and not timed. A call's
work on the host counts where it outlasts the device's: that of torch BSR (0.3 ms, 0.6 ms on a busy host) hides what
tuning gives at low densities.

TileLang 0.1.15 is not among them. A kernel of ours after its block-sparse example (TMA and WGMMA, the mask tested in
the loop over k; tiles of 64 x 128, three stages) took 0.83 ms for b64 lhs d=0.25, in a run without ours beside it; a
deeper one had not come back when its time was over.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import itertools
import statistics
from collections.abc import Callable, Iterable
from typing import Any

import triton_kernel

torch: Any = importlib.import_module("torch")

Call = Callable[[], Any]
DISTRIBUTIONS = {"STK": "stanford-stk"}


def versions() -> dict[str, str | None]:
    """Of the peers that are packages of their own; None where one is not installed."""
    found: dict[str, str | None] = dict.fromkeys(DISTRIBUTIONS)
    for name, distribution in DISTRIBUTIONS.items():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(distribution)
    return found


def prepare(a: Any, b: Any, block: int, lhs: Any, rhs: Any, mask_out: Any, tune: bool) -> dict[str, Call]:
    """The calls of the peers that take this case."""
    out = torch.empty_like(a)

    def expand() -> Any:
        product = torch.mm(masked(a, lhs, block), masked(b, rhs, block), out=out)
        return masked(product, mask_out, block)

    def plain_triton() -> Any:
        triton_kernel.multiply(a, b, out, block, lhs, rhs, mask_out)
        return out

    found: dict[str, Call] = {"expand + cuBLAS": expand, "plain Triton": plain_triton}
    one_mask = sum(mask is not None for mask in (lhs, rhs, mask_out)) == 1
    if one_mask and lhs is not None:
        found |= torch_bsr(masked(a, lhs, block), b, block, tune)
    if one_mask and block == 128 and versions()["STK"]:
        found["STK"] = stk(a, b, block, lhs, rhs, mask_out)
    return found


def torch_bsr(a: Any, b: Any, block: int, tune: bool) -> dict[str, Call]:
    triton_ops: Any = importlib.import_module("torch.sparse._triton_ops")
    sparse = a.to_sparse_bsr((block, block))
    zero = torch.zeros(a.shape[0], b.shape[1], device=a.device, dtype=a.dtype)
    out = torch.empty_like(zero)

    def call_with(meta: dict[str, int] | None) -> Call:
        return lambda: triton_ops.bsr_dense_addmm(zero, sparse, b, beta=0, out=out, meta=meta)

    found = {"torch BSR": call_with(None)}
    if tune:
        names = ("SPLIT_N", "num_warps", "num_stages", "GROUP_SIZE_ROW")
        grid = itertools.product((b.shape[1] // width for width in (64, 128, 256)), (4, 8), (2, 3, 4), (1, 4))
        found["torch BSR tuned"] = fastest(call_with(dict(zip(names, point, strict=True))) for point in grid)
    return found


def stk(a: Any, b: Any, block: int, lhs: Any, rhs: Any, mask_out: Any) -> Call:
    library: Any = importlib.import_module("stk")

    def sparse(x: Any, mask: Any) -> Any:
        rows, columns = mask.nonzero(as_tuple=True)
        blocks = x.view(mask.shape[0], block, mask.shape[1], block).transpose(1, 2)[rows, columns]
        offsets = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)).int()
        return library.Matrix(x.shape, blocks.contiguous(), rows.short(), columns.short(), offsets)

    if lhs is not None:
        left = sparse(a, lhs)
        return lambda: library.ops.dsd(left, b)
    if rhs is not None:
        right = sparse(b, rhs)
        return lambda: library.ops.dds(a, right)
    topology = sparse(torch.empty_like(a), mask_out)
    return lambda: library.ops.sdd(a, b, topology)


def dense(result: Any) -> Any:
    """A result as a tensor: STK's sdd gives a matrix of packed blocks."""
    if isinstance(result, torch.Tensor):
        return result
    return importlib.import_module("stk").ops.to_dense(result)


def masked(x: Any, mask: Any, block: int) -> Any:
    if mask is None:
        return x
    rows, columns = mask.shape
    return (x.view(rows, block, columns, block) * mask[:, None, :, None]).view(x.shape)


def fastest(calls: Iterable[Call]) -> Call:
    """The fastest of the calls; one that does not fit the card (its shared memory) is passed over."""
    times: dict[Call, float] = {}
    for call in calls:
        with contextlib.suppress(Exception):
            call()
            times[call] = device_ms(call, budget_ms=6)
    return min(times, key=times.__getitem__)


def device_ms(call: Callable[[], Any], budget_ms: float = 12) -> float:
    """Median device time of one call, after a warm-up that also says how many calls fit the budget."""
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    call()
    last.record()
    last.synchronize()
    count = int(max(3, min(60, budget_ms / max(first.elapsed_time(last), 1e-3))))
    events = [torch.cuda.Event(enable_timing=True) for _ in range(count + 1)]
    events[0].record()
    for event in events[1:]:
        call()
        event.record()
    events[-1].synchronize()
    median: float = statistics.median(one.elapsed_time(other) for one, other in itertools.pairwise(events))
    return median
