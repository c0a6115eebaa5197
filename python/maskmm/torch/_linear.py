"""A linear layer of whose weight only some blocks are there."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from maskmm.torch import patterns
from maskmm.torch._front import block_masked_mm


class BlockMaskedLinear(torch.nn.Module):
    """``y = x @ weight.T + bias``, as ``torch.nn.Linear``, where only the blocks of weight that ``block_mask`` keeps
    count. What is dropped costs nothing in the product and in both gradients, and its gradient is zero.

    Args:
        in_features: the size of x's last axis.
        out_features: the size of y's last axis.
        bias: whether there is one.
        block_mask: (ceil(out_features / rows), ceil(in_features / columns)), bool: the blocks to keep. Where
            absent, a random mask of the given density.
        density: the share of blocks to keep where there is no block_mask.
        block_size: of the weight, one for both or ``(rows, columns)``; each 16, 32, 64, 128 or 256.
        precision: "ieee" or "tf32", as in ``block_masked_mm``.
        device, dtype: of weight and bias. On the meta device the mask has a shape only: load a state before use.

    Attributes:
        weight: (out_features, in_features), a parameter. Its dropped blocks are zero at first and get no gradient.
        bias: (out_features,), a parameter, or None.
        block_mask: a buffer, saved with the state, that moves with the module and stays bool. Its contents may
            change between calls.

    Leading axes of x count as rows of one product, so that the weight's gradient is a single product over all
    of them. In that product a block is kept or dropped as the mask says: nothing else of the gradient is computed.

    Raises:
        ValueError, TypeError: a block size, block_mask, density or precision that does not do; x, when called.

    >>> import torch
    >>> from maskmm.torch import BlockMaskedLinear
    >>> layer = BlockMaskedLinear(256, 128, density=0.25)
    >>> layer
    BlockMaskedLinear(in_features=256, out_features=128, bias=True, block_size=(64, 64), density=0.250)
    >>> layer(torch.ones(2, 10, 256)).shape
    torch.Size([2, 10, 128])
    """

    weight: torch.nn.Parameter
    block_mask: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        block_mask: Tensor | None = None,
        density: float = 0.5,
        block_size: int | tuple[int, int] = 64,
        precision: str = "ieee",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features, self.precision = in_features, out_features, precision
        self.block_size = _checked_sizes(block_size)
        if precision not in ("ieee", "tf32"):
            raise ValueError(f"precision: expected 'ieee' or 'tf32', got {precision!r}")
        rows, columns = self.block_size
        shape = (-(-out_features // rows), -(-in_features // columns))
        if block_mask is None:
            block_mask = patterns.random(shape, density, device=device)
        elif not isinstance(block_mask, Tensor):
            raise TypeError(f"block_mask: expected a torch.Tensor, got {type(block_mask).__name__}")
        elif tuple(block_mask.shape) != shape or block_mask.dtype != torch.bool:
            got = f"{tuple(block_mask.shape)} of {block_mask.dtype}"
            raise ValueError(
                f"block_mask: expected {shape} of torch.bool for block_size {block_size}, got {got}"
            )
        self.weight = torch.nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        if bias:
            self.bias = torch.nn.Parameter(torch.empty(out_features, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.register_buffer("block_mask", block_mask.to(self.weight.device).clone())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform numbers as of ``torch.nn.Linear`` for as many inputs as are left on average; zeros elsewhere."""
        with torch.no_grad():
            live = self.in_features * self.block_mask.mean(dtype=torch.float32)  # stays on the device
            bound = torch.where(live > 0, live.rsqrt(), 0)
            self.weight.uniform_(-1, 1).mul_(bound).mul_(self.element_mask())
            if self.bias is not None:
                self.bias.uniform_(-1, 1).mul_(bound)

    @classmethod
    def from_linear(
        cls,
        linear: torch.nn.Linear,
        density: float,
        block_size: int | tuple[int, int] = 64,
        precision: str = "ieee",
    ) -> BlockMaskedLinear:
        """A layer with the weight and bias of ``linear``, of which the blocks of the largest mean square stay:
        ``round(density * number of blocks)`` of them, the first of equals. The others are set to zero.
        """
        if not 0 <= density <= 1:
            raise ValueError(f"density: expected 0 to 1, got {density}")
        if not isinstance(linear, torch.nn.Linear):
            raise TypeError(f"linear: expected a torch.nn.Linear, got {type(linear).__name__}")
        weight = linear.weight.detach()
        wide = torch.promote_types(weight.dtype, torch.float32)
        rows, columns = _checked_sizes(block_size)
        ones = torch.ones(1, 1, dtype=wide, device=weight.device).expand_as(weight)
        squares, counts = (_block_sums(x, rows, columns) for x in (weight.to(wide) ** 2, ones))
        order = (squares / counts).flatten().argsort(descending=True, stable=True)
        mask = torch.zeros(squares.numel(), dtype=torch.bool, device=weight.device)
        mask[order[: round(density * mask.numel())]] = True
        layer = cls(
            linear.in_features,
            linear.out_features,
            linear.bias is not None,
            block_mask=mask.reshape(squares.shape),
            block_size=block_size,
            precision=precision,
            device=weight.device,
            dtype=weight.dtype,
        )
        with torch.no_grad():
            layer.weight.copy_(torch.where(layer.element_mask(), weight, 0))
            if layer.bias is not None:
                layer.bias.copy_(linear.bias)
        return layer

    @property
    def density(self) -> float:
        """The share of blocks that are kept. Waits for the device."""
        return float(self.block_mask.mean(dtype=torch.float32)) if self.block_mask.numel() else 0.0

    def element_mask(self) -> Tensor:
        """(out_features, in_features), bool: block_mask for each element of the weight."""
        rows, columns = self.block_size
        full = self.block_mask.repeat_interleave(rows, 0).repeat_interleave(columns, 1)
        return full[: self.out_features, : self.in_features]

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"x: expected a torch.Tensor, got {type(x).__name__}")
        if x.is_nested:
            raise TypeError("x: expected a tensor with strided elements in memory, got a nested one")
        if x.shape[-1:] != (self.in_features,):
            raise ValueError(f"x: expected (..., {self.in_features}), got {tuple(x.shape)}")
        rows, columns = self.block_size
        flat = x if x.dim() == 2 else x.flatten(end_dim=-2) if x.dim() > 1 else x[None]
        block_size = (ROW_BLOCK, rows, columns)
        y = block_masked_mm(
            flat,
            self.weight.mT,
            block_size,
            mask_rhs=self.block_mask.mT,
            precision=self.precision,  # type: ignore[arg-type]
        )
        if self.bias is not None:
            y = y + self.bias.to(y.dtype)  # which is autocast's, where that is on
        return y if x.dim() == 2 else y.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        density = "" if self.block_mask.is_meta else f", density={self.density:.3f}"
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}, "
            f"block_size={self.block_size}{density}"
        )


BLOCK_SIZES = (16, 32, 64, 128, 256)
ROW_BLOCK = 64  # along x's rows, where no mask ever is


def _checked_sizes(block_size: Any) -> tuple[int, int]:
    """The rows and columns of a block."""
    sizes = block_size if isinstance(block_size, tuple) else (block_size, block_size)
    if len(sizes) != 2 or any(isinstance(x, bool) or not hasattr(x, "__index__") for x in sizes):
        got = repr(block_size) if isinstance(block_size, tuple) else type(block_size).__name__
        raise TypeError(f"block_size: expected an int or a tuple of two ints (rows, columns), got {got}")
    rows, columns = map(operator.index, sizes)
    for size in (rows, columns):
        if size not in BLOCK_SIZES:
            raise ValueError(f"block_size: expected 16, 32, 64, 128 or 256, got {size}")
    return rows, columns


def _block_sums(x: Tensor, rows: int, columns: int) -> Tensor:
    """The sums over blocks, of which the last may be partial."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[1] % columns, 0, -x.shape[0] % rows))
    sums: Tensor = padded.reshape(padded.shape[0] // rows, rows, padded.shape[1] // columns, columns).sum(
        (1, 3)
    )
    return sums
