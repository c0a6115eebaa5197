"""Sentence embeddings of texts of very different lengths, with masks that leave out what is padding.

The texts are paragraphs of Python's own documentation, the model is all-MiniLM-L6-v2 (a BERT of 6 layers),
and the encoder below is plain NumPy. Its matrix products are done in two ways: by np.matmul, and by
maskmm.block_masked_mm with masks that skip padded rows and dead blocks of the attention. All else is the same
code. There are two layouts: texts padded to 256 tokens, and texts packed one after the other into rows of
4096 tokens, where each text attends to itself only.

    python examples/ragged_batch.py [--texts N] [--repeats N] [--quick] [--picture FILE]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import track

import maskmm

try:
    from . import minilm, ragged_report  # as maskmm._examples.ragged_batch
except ImportError:
    import minilm  # type: ignore[no-redef, import-not-found]  # as a script
    import ragged_report  # type: ignore[no-redef, import-not-found]

Array = minilm.Array
Model = minilm.Model
HIDDEN, HEADS, INNER, MAX_TOKENS = minilm.HIDDEN, minilm.HEADS, minilm.INNER, minilm.MAX_TOKENS
HEAD = HIDDEN // HEADS
PACKED_TOKENS = 4096
BATCH = 32  # texts of a padded batch
TEXTS, QUICK_TEXTS = 128, 32
QUERY = "What happens when an exception is not caught?"

# A layer is about ten steps (six products, softmax, gelu, two normalisations), each of them right to about an
# epsilon of its vectors' length. Over six layers this adds up to 60 epsilon, for embeddings of length 1.
TOLERANCE = 64 * float(np.finfo(np.float32).eps)


class Span(NamedTuple):
    """A text of a batch, and where it lies: in row `row`, from token `start` to `stop`."""

    text: list[int]
    row: int
    start: int
    stop: int


class Batch:
    """Texts (lists of tokens) in rows of `length` tokens: in each row one after the other, then padding."""

    def __init__(self, rows: list[list[list[int]]], length: int) -> None:
        self.rows, self.length = rows, length
        self.spans: list[Span] = []
        for row, texts in enumerate(rows):
            stops = np.cumsum([len(text) for text in texts]).tolist()
            self.spans += [
                Span(text, row, stop - len(text), stop) for text, stop in zip(texts, stops, strict=True)
            ]
        # The place of each text in an array of shape (rows * length, channels).
        self.places = [slice(row * length + start, row * length + stop) for _, row, start, stop in self.spans]

    def attention_mask(self, block: int) -> Array:
        """(rows, length / block, length / block): where some query and some key are of the same text."""
        lengths = [[len(text) for text in texts] for texts in self.rows]
        return np.stack([maskmm.patterns.packed_sequences(row, self.length, block) for row in lengths])

    def token_mask(self, block: int) -> Array:
        """(rows, length / block): where some token is."""
        return self.attention_mask(block).diagonal(axis1=1, axis2=2).copy()


def pad(texts: list[list[int]], length: int = MAX_TOKENS) -> Batch:
    """A row for each text."""
    return Batch([[text] for text in texts], length)


def pack(texts: list[list[int]], length: int = PACKED_TOKENS) -> list[Batch]:
    """Batches of a single row of up to `length` tokens, rounded up to 64; the next text does not fit."""
    rows: list[list[list[int]]] = [[]]
    for text in texts:
        if sum(map(len, rows[-1])) + len(text) > length:
            rows.append([])
        rows[-1].append(text)
    return [Batch([row], -(-sum(map(len, row)) // 64) * 64) for row in rows]


class Dense:
    """The products of the encoder, all of them whole."""

    def __init__(self, batch: Batch | None = None, tallies: ragged_report.Tallies | None = None) -> None:
        self.tallies = defaultdict(ragged_report.Tally) if tallies is None else tallies

    def linear(self, x: Array, weight: Array, out: Array) -> None:
        with self.timed(ragged_report.LINEAR, x, weight):
            np.matmul(x, weight, out=out)

    def scores(self, queries: Array, keys: Array, out: Array) -> None:
        with self.timed(ragged_report.SCORES, queries, keys):
            np.matmul(queries, keys, out=out)

    def attend(self, attention: Array, values: Array, out: Array) -> None:
        with self.timed(ragged_report.ATTEND, attention, values):
            np.matmul(attention, values, out=out)

    @contextmanager
    def timed(self, kind: str, a: Array, b: Array, live: float = 1.0) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        tally = self.tallies[kind]
        tally.seconds += time.perf_counter() - begin
        tally.total += a.size * b.shape[-1]
        tally.live += live * a.size * b.shape[-1]


class Masked(Dense):
    """The same products where the masks say that there is something to multiply."""

    BLOCK = 32  # tokens
    LINEAR = (BLOCK, 128, 128)  # x W: tokens, outputs, inputs; only tokens are ever left out
    SCORES = (BLOCK, BLOCK, HEAD)  # Q K^T: queries, keys, the whole head
    ATTEND = (BLOCK, HEAD, BLOCK)  # P V: queries, the whole head, keys

    def __init__(self, batch: Batch, tallies: ragged_report.Tallies | None = None) -> None:
        super().__init__(batch, tallies)
        self.pairs = batch.attention_mask(self.BLOCK)
        self.rows = batch.token_mask(self.BLOCK).reshape(-1, 1)  # the second axis stands for all columns

    def linear(self, x: Array, weight: Array, out: Array) -> None:
        with self.timed(ragged_report.LINEAR, x, weight, self.rows.mean()):
            maskmm.block_masked_mm(x, weight, self.LINEAR, mask_lhs=self.rows, out=out)

    def scores(self, queries: Array, keys: Array, out: Array) -> None:
        with self.timed(ragged_report.SCORES, queries, keys, self.pairs.mean()):
            maskmm.block_masked_mm(queries, keys, self.SCORES, mask_out=self.pairs, out=out)

    def attend(self, attention: Array, values: Array, out: Array) -> None:
        with self.timed(ragged_report.ATTEND, attention, values, self.pairs.mean()):
            maskmm.block_masked_mm(attention, values, self.ATTEND, mask_lhs=self.pairs, out=out)


def encode(model: Model, batch: Batch, products: Dense) -> Array:
    """One embedding of length 1 for each text of the batch.

    Only `products` sees whole arrays. All else runs text by text, on the texts' own tokens: so it costs the
    same whatever the products are, and what belongs to no text stays zero.
    """
    dtype, tokens, places = model.words.dtype, len(batch.rows) * batch.length, batch.places
    x = np.zeros((tokens, HIDDEN), dtype)
    qkv, context = np.empty((tokens, 3 * HIDDEN), dtype), np.empty((tokens, HIDDEN), dtype)
    inner, update = np.empty((tokens, INNER), dtype), np.empty((tokens, HIDDEN), dtype)

    for place, span in zip(places, batch.spans, strict=True):
        x[place] = normalise(model.words[span.text] + model.positions[: len(span.text)], model.norm)
    for layer in model.layers:
        products.linear(x, layer.qkv.weight, out=qkv)
        for place in places:
            qkv[place] += layer.qkv.bias
        attention(batch, products, qkv, out=context)
        products.linear(context, layer.attended.weight, out=update)
        for place in places:
            x[place] = normalise(x[place] + (update[place] + layer.attended.bias), layer.attended_norm)
        products.linear(x, layer.inner.weight, out=inner)
        for place in places:
            inner[place] = gelu(inner[place] + layer.inner.bias)
        products.linear(inner, layer.outer.weight, out=update)
        for place in places:
            x[place] = normalise(x[place] + (update[place] + layer.outer.bias), layer.outer_norm)
    means = np.stack([x[place].mean(axis=0) for place in places])
    embeddings: Array = means / np.linalg.norm(means, axis=1, keepdims=True)
    return embeddings


def attention(batch: Batch, products: Dense, qkv: Array, out: Array) -> None:
    """out = softmax(Q K^T / sqrt(HEAD)) V for each head; a token attends to its own text only."""
    shape = (len(batch.rows), batch.length)
    heads, contexts = qkv.reshape(*shape, 3, HEADS, HEAD), out.reshape(*shape, HEADS, HEAD)
    scores = np.empty((*shape, batch.length), qkv.dtype)
    weights = np.zeros_like(scores)
    for head in range(HEADS):
        queries, keys, values = (heads[:, :, i, head] for i in range(3))
        products.scores(queries, keys.transpose(0, 2, 1), out=scores)
        for _, row, start, stop in batch.spans:
            own = scores[row, start:stop, start:stop]
            own = np.exp((own - own.max(axis=-1, keepdims=True)) * HEAD**-0.5)
            weights[row, start:stop, start:stop] = own / own.sum(axis=-1, keepdims=True)
        products.attend(weights, values, out=contexts[:, :, head])


def normalise(x: Array, norm: minilm.Affine) -> Array:
    """Each row with mean 0 and variance 1, then scaled and shifted."""
    x = x - x.mean(axis=-1, keepdims=True)
    variance = np.einsum("ij,ij->i", x, x)[:, None] / HIDDEN
    normal: Array = x / np.sqrt(variance + 1e-12)
    return normal * norm.weight + norm.bias


def gelu(x: Array) -> Array:
    """x times the normal distribution function of x; erf as in Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    size = np.abs(x)
    t = 1 / (1 + 0.3275911 * 0.5**0.5 * size)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    result: Array = np.maximum(x, 0) - 0.5 * size * tail * np.exp(-0.5 * x * x)
    return result


PRODUCTS: dict[str, type[Dense]] = {"dense": Dense, "masked": Masked}


def measure(
    model: Model, layouts: dict[str, list[Batch]], repeats: int, console: Console
) -> tuple[ragged_report.Runs, dict[tuple[str, str], Array]]:
    """Times and embeddings. Dense and masked take turns, so that both meet the same noise."""
    runs: ragged_report.Runs = {layout: {kind: [] for kind in PRODUCTS} for layout in layouts}
    embeddings: dict[tuple[str, str], list[Array]] = {}
    for layout in track(list(layouts) * repeats, "encoding", console=console, transient=True):
        for kind in PRODUCTS:
            runs[layout][kind].append(defaultdict(ragged_report.Tally))
            embeddings[layout, kind] = []
        for batch in layouts[layout]:
            for kind, products in PRODUCTS.items():
                tallies = runs[layout][kind][-1]
                begin = time.perf_counter()
                embeddings[layout, kind].append(encode(model, batch, products(batch, tallies)))
                tallies[ragged_report.WHOLE].seconds += time.perf_counter() - begin
    return runs, {key: np.concatenate(parts) for key, parts in embeddings.items()}


def float64(model: Model) -> Model:
    """The same weights, in float64."""

    def convert(part: minilm.Affine) -> minilm.Affine:
        return minilm.Affine(part.weight.astype(np.float64), part.bias.astype(np.float64))

    layers = [minilm.Layer(*(convert(part) for part in layer)) for layer in model.layers]
    words, positions = model.words.astype(np.float64), model.positions.astype(np.float64)
    return Model(words, positions, convert(model.norm), layers)


def distance(a: Array, b: Array) -> float:
    """The largest Euclidean distance between embeddings of the same text."""
    return float(np.linalg.norm(a - b, axis=1).max())


def check(
    model: Model, tokens: list[list[int]], embeddings: dict[tuple[str, str], Array], console: Console
) -> None:
    """Compares the embeddings with each other, and some of them with what float64 gives without any padding.

    Raises ArithmeticError where they differ by more than rounding.
    """
    exact_model, sample = float64(model), tokens[:4]
    exact = np.concatenate([encode(exact_model, pad([text], len(text)), Dense()) for text in sample])
    first = next(iter(embeddings.values()))
    for (layout, kind), found in embeddings.items():
        others, rounding = distance(found, first), distance(found[: len(sample)], exact)
        console.print(f"  {layout}, {kind}: {others:.1e} from the first, {rounding:.1e} from float64")
        if max(others, rounding) > TOLERANCE:
            raise ArithmeticError(f"{layout}, {kind}: embeddings are off by more than {TOLERANCE:.1e}")


def main(
    texts: int | None = None,
    picture: Path | None = Path("ragged_batch.png"),
    repeats: int = 3,
    real: bool = True,
) -> None:
    """Encodes `texts` paragraphs (128 by default), prints what that took, and draws the masks of one batch.

    Without real, and where the model's package is missing, with random weights.

    Raises ValueError for numbers below 1 and for files of the model that are not the expected ones,
    ArithmeticError where dense and masked embeddings differ by more than rounding.
    """
    texts = TEXTS if texts is None else texts
    if min(texts, repeats) < 1:
        raise ValueError(f"texts and repeats: expected at least 1, got {texts} and {repeats}")
    console = Console()
    source = minilm.load(real)
    chosen = minilm.paragraphs(texts)
    tokens = [source.tokenize(text) for _, text in chosen]
    padded, packed = [pad(tokens[i : i + BATCH]) for i in range(0, len(tokens), BATCH)], pack(tokens)
    layouts = {f"padded {MAX_TOKENS}": padded, f"packed {PACKED_TOKENS}": packed}

    console.print(f"model: {source.description}", soft_wrap=True)
    console.print(f"texts: {len(chosen)} paragraphs of pydoc_data.topics, {sum(map(len, tokens))} tokens")
    console.print(ragged_report.libraries(), highlight=False)
    for caveat in ragged_report.caveats():
        console.print(f"[yellow]{caveat}[/]")
    runs, embeddings = measure(source.model, layouts, repeats, console)
    console.print(ragged_report.times_table(runs))
    console.print("largest distances of the embeddings, whose length is 1:")
    check(source.model, tokens, embeddings, console)
    if source.real:
        query = pad([source.tokenize(QUERY)])
        similarity = (
            embeddings[next(reversed(layouts)), "masked"] @ encode(source.model, query, Masked(query))[0]
        )
        console.print(f'nearest to "{QUERY}":')
        for i in np.argsort(-similarity)[:3]:
            topic, text = chosen[i]
            line = f"  {similarity[i]:.2f} [bold]{topic}[/]: {escape(text[:100])}"
            console.print(line, highlight=False, no_wrap=True, overflow="ellipsis")
    if picture is not None:
        try:
            ragged_report.draw(padded[0], packed[0], Masked.BLOCK, picture)
            console.print(f"picture of the masks: {picture}")
        except ImportError:
            console.print("no picture of the masks: matplotlib is not installed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--texts", type=int, help=f"number of paragraphs (default {TEXTS})")
    parser.add_argument("--repeats", type=int, help="of every measurement (default 3)")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_TEXTS} paragraphs, once")
    parser.add_argument(
        "--picture", type=Path, default=Path("ragged_batch.png"), help="where to draw the masks"
    )
    options = parser.parse_args()
    texts, repeats = (QUICK_TEXTS, 1) if options.quick else (TEXTS, 3)
    main(
        texts if options.texts is None else options.texts,
        options.picture,
        repeats if options.repeats is None else options.repeats,
    )
