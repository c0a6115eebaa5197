# mypy: ignore-errors
"""What a user of Triton would write: one program a tile of one block of the result, a loop over k that skips the blocks
that a mask kills. A peer of the benchmark, not part of maskmm.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def _kernel(
    a, b, out, lhs, rhs, mask_out, M, N, K,
    HAS_LHS: tl.constexpr, HAS_RHS: tl.constexpr, HAS_OUT: tl.constexpr,
    BLOCK: tl.constexpr, WIDE: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    # tiles of one block by WIDE columns; GROUP rows of tiles side by side keep b in the cache
    tiles_n = tl.cdiv(N, WIDE)
    tile = tl.program_id(0)
    group = tile // (GROUP * tiles_n)
    rows = min(tl.cdiv(M, BLOCK) - group * GROUP, GROUP)
    i = group * GROUP + tile % (GROUP * tiles_n) % rows
    j = tile % (GROUP * tiles_n) // rows
    row = i * BLOCK + tl.arange(0, BLOCK)
    column = j * WIDE + tl.arange(0, WIDE)
    inner = tl.arange(0, BLOCK)
    blocks_k = K // BLOCK
    blocks_n = N // BLOCK
    live_out = True
    if HAS_OUT:
        live_out = tl.load(mask_out + i * blocks_n + j * WIDE // BLOCK) != 0
    total = tl.zeros((BLOCK, WIDE), dtype=tl.float32)
    if live_out:
        for k in range(blocks_k):
            live = True
            if HAS_LHS:
                live = tl.load(lhs + i * blocks_k + k) != 0
            if HAS_RHS:
                live = live & (tl.load(rhs + k * blocks_n + j * WIDE // BLOCK) != 0)
            if live:
                left = tl.load(a + row[:, None] * K + (k * BLOCK + inner)[None, :])
                right = tl.load(b + (k * BLOCK + inner)[:, None] * N + column[None, :])
                total = tl.dot(left, right, total)
    tl.store(out + row[:, None] * N + column[None, :], total.to(out.dtype.element_ty))


def multiply(a: Any, b: Any, out: Any, block: int, lhs: Any, rhs: Any, mask_out: Any) -> None:
    """out = the masked product, of bool masks; all sizes multiples of the block."""
    (m, k), n = a.shape, b.shape[1]
    # a mask of columns of blocks limits a tile to one of them
    wide = block if rhs is not None or mask_out is not None else max(block, 128)
    absent = out
    _kernel[(triton.cdiv(m, block) * triton.cdiv(n, wide),)](
        a, b, out, *(absent if mask is None else mask for mask in (lhs, rhs, mask_out)), m, n, k,
        lhs is not None, rhs is not None, mask_out is not None, block, wide, max(1, 2048 // block), num_stages=4,
    )  # fmt: skip


def describe() -> str:
    return f"Triton {triton.__version__}, torch {torch.__version__}"
