"""Trains small character-level transformers on the text of Python's own documentation: one with dense linear layers and
two whose weights keep only a half and a quarter of their blocks (maskmm.torch.BlockMaskedLinear).

First it checks gradients: a block-sparse model and the same model as dense products with masked weights take ten steps
side by side in float64, and all their gradients are compared at each step. Then it trains all models on the same
batches and shows losses, tokens per second and the parameters that a step touches. Needs torch; the picture needs
matplotlib.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import pydoc_data.topics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F

import maskmm
from maskmm.torch import BlockMaskedLinear

CONTEXT, WIDTH, HEADS, LAYERS, INNER, BLOCK = 128, 256, 4, 3, 1024, 32
BATCH, STEPS, PEAK, WARM_UP = 16, 400, 2e-3, 40
DENSITIES = (1.0, 0.5, 0.25)  # 1: torch.nn.Linear
CHECKED_STEPS = 10


class Text:
    """The topics of pydoc as numbers of characters, of which the last tenth is kept for validation."""

    def __init__(self, device: str) -> None:
        text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
        self.alphabet = sorted(set(text))
        number = {character: i for i, character in enumerate(self.alphabet)}
        numbers = torch.tensor([number[character] for character in text], device=device)
        border = len(numbers) * 9 // 10
        self.training, self.validation = numbers[:border], numbers[border:]

    def batch(self, numbers: Tensor, generator: torch.Generator, size: int = BATCH) -> tuple[Tensor, Tensor]:
        """Random windows, and the characters that follow each of their positions."""
        starts = torch.randint(len(numbers) - CONTEXT, (size,), generator=generator).to(numbers.device)
        windows = numbers[starts[:, None] + torch.arange(CONTEXT + 1, device=numbers.device)]
        return windows[:, :-1], windows[:, 1:]


class MaskedDense(nn.Module):
    """What BlockMaskedLinear computes, as a dense product with a weight that is masked element by element."""

    mask: Tensor

    def __init__(self, layer: BlockMaskedLinear) -> None:
        super().__init__()
        self.weight, self.bias = (
            nn.Parameter(layer.weight.detach().clone()),
            nn.Parameter(layer.bias.detach().clone()),
        )
        self.register_buffer("mask", layer.element_mask())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, torch.where(self.mask, self.weight, 0), self.bias)


def linear(inputs: int, outputs: int, density: float) -> nn.Module:
    if density == 1:
        return nn.Linear(inputs, outputs)
    return BlockMaskedLinear(inputs, outputs, density=density, block_size=BLOCK)


class Layer(nn.Module):
    def __init__(self, density: float) -> None:
        super().__init__()
        self.attention_norm, self.inner_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.attended = linear(WIDTH, 3 * WIDTH, density), linear(WIDTH, WIDTH, density)
        self.inner, self.outer = linear(WIDTH, INNER, density), linear(INNER, WIDTH, density)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv(self.attention_norm(x)).unflatten(-1, (3, HEADS, WIDTH // HEADS))
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.attended(context.transpose(1, 2).flatten(-2))
        update: Tensor = self.outer(F.gelu(self.inner(self.inner_norm(x))))
        return x + update


class Model(nn.Module):
    """Predicts the next character at each position."""

    def __init__(self, n_characters: int, density: float) -> None:
        super().__init__()
        self.characters, self.positions = nn.Embedding(n_characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.Sequential(*(Layer(density) for _ in range(LAYERS)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, n_characters)

    def loss(self, characters: Tensor, following: Tensor) -> Tensor:
        positions = torch.arange(characters.shape[1], device=characters.device)
        x = self.layers(self.characters(characters) + self.positions(positions))
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), following.flatten())

    def touched(self) -> tuple[int, int]:
        """Parameters that a step reads and writes, and all."""
        dropped = sum(
            int((~module.element_mask()).sum())
            for module in self.modules()
            if isinstance(module, BlockMaskedLinear)
        )
        total = sum(parameter.numel() for parameter in self.parameters())
        return total - dropped, total


def as_dense(model: nn.Module) -> None:
    """Replaces the block-sparse layers by dense ones with masked weights."""
    for name, module in model.named_children():
        if isinstance(module, BlockMaskedLinear):
            setattr(model, name, MaskedDense(module))
        else:
            as_dense(module)


def check_gradients(text: Text, device: str, steps: int = CHECKED_STEPS) -> float:
    """The largest difference of a gradient of the block-sparse model from that of the dense masked one, as a share of
    the gradient's largest element, over some steps that each of them takes on its own.

    Raises ArithmeticError where it is more than rounding in float64.
    """
    torch.manual_seed(1)
    sparse = Model(len(text.alphabet), 0.5).to(device, torch.float64)
    dense = Model(len(text.alphabet), 0.5).to(device, torch.float64)
    dense.load_state_dict(sparse.state_dict())
    as_dense(dense)
    optimizers = [torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0) for model in (sparse, dense)]
    generator = torch.Generator().manual_seed(2)
    worst = 0.0
    for step in range(steps):
        batch = text.batch(text.training, generator, size=2)
        for model, optimizer in zip((sparse, dense), optimizers, strict=True):
            optimizer.zero_grad()
            torch.autograd.backward(model.loss(*batch))
        others = dict(dense.named_parameters())
        for name, parameter in sparse.named_parameters():
            found, expected = parameter.grad, others[name].grad
            assert found is not None
            assert expected is not None
            worst = max(worst, float((found - expected).abs().max() / expected.abs().max()))
            if not worst < 1e-8:
                raise ArithmeticError(f"step {step}, {name}: gradients differ by {worst:.1e}")
        for optimizer in optimizers:
            optimizer.step()
    return worst


@dataclass
class Run:
    """What training one model gave."""

    density: float
    touched: int
    total: int
    losses: list[float] = field(default_factory=list)
    validation: float = math.nan
    seconds: float = 0.0
    tokens: int = 0

    @property
    def name(self) -> str:
        return "dense" if self.density == 1 else f"{self.density:.0%} of the blocks"


def rate(step: int, steps: int) -> float:
    """The learning rate: up in a line, then down along a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 + 0.5 * math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP))


def train(text: Text, steps: int, device: str, batch: int, console: Console) -> list[Run]:
    """All models on the same batches. They take turns step by step, so that all meet the same noise."""
    is_gpu = device == "cuda"

    def now() -> float:
        if is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter()

    def precision() -> contextlib.AbstractContextManager[Any]:
        return torch.autocast("cuda", torch.bfloat16) if is_gpu else contextlib.nullcontext()

    runs, models, optimizers = [], [], []
    for density in DENSITIES:
        torch.manual_seed(0)
        model = Model(len(text.alphabet), density).to(device)
        models.append(model)
        runs.append(Run(density, *model.touched()))
        optimizers.append(torch.optim.AdamW(model.parameters(), PEAK, weight_decay=0.01))
    for step in track(range(steps), "training", console=console, transient=True):
        for run, model, optimizer in zip(runs, models, optimizers, strict=True):
            characters, following = text.batch(text.training, torch.Generator().manual_seed(step), batch)
            begin = now()
            for group in optimizer.param_groups:
                group["lr"] = PEAK * rate(step, steps)
            optimizer.zero_grad()
            with precision():
                loss = model.loss(characters, following)
            torch.autograd.backward(loss)
            optimizer.step()
            run.losses.append(loss.item())
            if step >= min(5, steps - 1):  # the first ones also allocate
                run.seconds += now() - begin
                run.tokens += characters.numel()
    for run, model in zip(runs, models, strict=True):
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad(), precision():
            losses = [model.loss(*text.batch(text.validation, generator, batch)).item() for _ in range(8)]
        run.validation = sum(losses) / len(losses)
    return runs


def table(runs: list[Run]) -> Table:
    result = Table(
        "linear layers", "parameters touched", "loss, last steps", "validation", "tokens/s", "against dense"
    )
    for run in runs:
        last = run.losses[-20:]
        result.add_row(
            run.name,
            f"{run.touched:,} of {run.total:,}",
            f"{sum(last) / len(last):.3f}",
            f"{run.validation:.3f}",
            f"{run.tokens / run.seconds:,.0f}",
            f"{runs[0].seconds / run.seconds:.2f}",
        )
    return result


def smooth(losses: list[float]) -> Iterator[float]:
    mean = losses[0]
    for loss in losses:
        mean += 0.1 * (loss - mean)
        yield mean


def draw(runs: list[Run], picture: Path) -> None:
    import matplotlib.figure

    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    for run in runs:
        losses = list(smooth(run.losses))
        seconds = run.seconds / (run.tokens or 1) * (run.tokens / max(1, len(losses) - 5))
        by_step.plot(losses, label=f"{run.name}, validation {run.validation:.2f}")
        by_time.plot([i * seconds for i in range(len(losses))], losses)
    by_step.set(xlabel="step", ylabel="loss (nats a character)")
    by_time.set(xlabel="seconds")
    by_step.legend()
    for axes in (by_step, by_time):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


def main(
    steps: int = STEPS,
    picture: Path | None = Path("train_block_sparse.png"),
    device: str | None = None,
    batch: int | None = None,
    checked_steps: int = CHECKED_STEPS,
) -> list[Run]:
    """Checks gradients, trains, prints a table and draws the losses.

    Raises ValueError for numbers below 1, ArithmeticError where gradients differ from those of the dense masked model.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    batch = batch or (64 if device == "cuda" else BATCH)
    if min(steps, checked_steps, batch) < 1:
        raise ValueError(f"steps and batch: expected at least 1, got {steps}, {checked_steps} and {batch}")
    console = Console()
    text = Text(device)
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{maskmm.num_threads()} threads, {maskmm.cpu_isa()}"
    )
    console.print(
        f"text: {len(text.training):,} characters of pydoc_data.topics, an alphabet of {len(text.alphabet)}"
    )
    console.print(
        f"torch {torch.__version__}, maskmm {maskmm.__version__}, {device}: {name}", highlight=False
    )
    worst = check_gradients(text, device, checked_steps)
    console.print(
        f"gradients against the dense masked model, {checked_steps} steps in float64: within {worst:.1e}"
    )
    runs = train(text, steps, device, batch, console)
    console.print(table(runs))
    if picture is not None:
        try:
            draw(runs, picture)
            console.print(f"losses: {picture}")
        except ImportError:
            console.print("no picture of the losses: matplotlib is not installed")
    return runs


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch", type=int, help=f"windows a step (default {BATCH}, on a GPU 64)")
    parser.add_argument("--device", choices=["cpu", "cuda"], help="default: a GPU where there is one")
    parser.add_argument("--picture", type=Path, default=Path("train_block_sparse.png"))
    options = parser.parse_args()
    main(options.steps, options.picture, options.device, options.batch)
