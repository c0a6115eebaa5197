"""Which front a call goes to: torch tensors on the CPU, and stand-ins for arrays on a GPU. No GPU is needed.

A stand-in describes arrays "on a GPU" at addresses that nobody reads: every call here ends in an error.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import maskmm
import maskmm._choice
import maskmm._fronts
from processes import run_python

HOST = np.ones((64, 64), np.float32)
ONE = "expected arrays of one framework, got"


class NDArray:
    """A CuPy array of (64, 64) ones, as far as the front looks."""

    shape = (64, 64)
    strides = (256, 4)

    def __init__(self, dtype: str = "float32", index: int = 0) -> None:
        self.dtype, self.data = dtype, SimpleNamespace(ptr=8192, device_id=index)


class Elsewhere:
    """An array of a third framework, which is never asked for more than its type."""


class Exporter:
    """An array on a GPU that offers DLPack and does not hand anything out."""

    dtype = "float32"

    def __dlpack__(self, **_: Any) -> Any:
        raise BufferError("this memory is not lent")

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


class ExporterOfFloat8(Exporter):
    dtype = "float8_e5m2"


@pytest.fixture(autouse=True)
def frameworks(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy: Any = ModuleType("cupy")
    cupy.ndarray = NDArray
    cupy.cuda = SimpleNamespace(get_current_stream=lambda index: SimpleNamespace(ptr=0))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.delitem(sys.modules, "maskmm._fronts.cupy", raising=False)
    monkeypatch.delattr(maskmm._fronts, "cupy", raising=False)
    monkeypatch.setattr(maskmm._choice, "_fronts", {})


T = torch.ones(64, 64)
WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((T, HOST), {}, TypeError, f"a, b: {ONE} torch.Tensor, numpy.ndarray"),
    ((HOST, T), {}, TypeError, f"a, b: {ONE} numpy.ndarray, torch.Tensor"),
    ((T, NDArray()), {}, TypeError, f"a, b: {ONE} torch.Tensor, cupy.ndarray"),
    ((NDArray(), T), {}, TypeError, f"a, b: {ONE} cupy.ndarray, torch.Tensor"),
    ((T, Exporter()), {}, TypeError, f"a, b: {ONE} torch.Tensor, Exporter on a GPU"),
    ((Exporter(), HOST), {}, TypeError, f"a, b: {ONE} Exporter on a GPU, numpy.ndarray"),
    ((T, [1.0]), {}, TypeError, f"a, b: {ONE} torch.Tensor, list"),
    ((NDArray(), Elsewhere()), {}, TypeError, f"a, b: {ONE} cupy.ndarray, Elsewhere"),
    ((HOST, HOST), {"mask_lhs": NDArray()}, TypeError,
     f"a, b, mask_lhs: {ONE} numpy.ndarray, numpy.ndarray, cupy.ndarray"),
    ((T, T), {"mask_out": NDArray(), "mask_lhs": HOST}, TypeError,
     f"a, b, mask_out: {ONE} torch.Tensor, torch.Tensor, cupy.ndarray"),
    ((NDArray(), NDArray()), {"out": HOST}, TypeError,
     f"a, b, out: {ONE} cupy.ndarray, cupy.ndarray, numpy.ndarray"),
    ((NDArray(), NDArray(index=1)), {}, ValueError, "b: expected an array on gpu:0 as a is, got one on gpu:1"),
    ((NDArray(), NDArray()), {"mask_out": NDArray(index=1)}, ValueError,
     "mask_out: expected an array on gpu:0 as a is, got one on gpu:1"),
    ((NDArray(), NDArray()), {"stream": maskmm.Device(maskmm.gpu, 1)}, ValueError,
     "stream: expected one on gpu:0 as a is, got gpu:1"),
    ((NDArray(), NDArray()), {"stream": "fast"}, TypeError,
     "stream: expected a Stream, a Device, a DeviceType or None, got str"),
    ((NDArray(), NDArray(), 65), {}, ValueError,
     "block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got 65"),
    ((NDArray(), NDArray()), {"mask_out": np.ones((2, 3))}, ValueError,
     "mask_out: expected (..., 1, 1) for block_size 64, got (2, 3)"),
    ((NDArray(), NDArray()), {"mask_rhs": "x"}, TypeError,
     "mask_rhs: expected an array (NumPy, buffer protocol or DLPack), got str"),
    ((NDArray(), NDArray("float8_e4m3fn")), {}, TypeError,
     "b: expected float16, bfloat16, float32 or float64, got float8_e4m3fn"),
    ((NDArray(), NDArray()), {"mask_lhs": NDArray("quint8")}, TypeError,
     "mask_lhs: expected bool, an integer or a float type, got quint8"),
    ((NDArray(), NDArray()), {"out": NDArray()}, ValueError, "out: overlaps a in memory"),
    ((Exporter(), Exporter()), {}, TypeError, "a: no access through DLPack: this memory is not lent"),
    ((ExporterOfFloat8(), Exporter()), {}, TypeError,
     "a: expected float16, bfloat16, float32 or float64, got float8_e5m2"),
]  # fmt: skip


@pytest.mark.parametrize("function", [maskmm.block_masked_mm, maskmm.explain])
@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), WRONG, ids=[row[3] for row in WRONG])
def test_wrong_calls(
    function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as raised:
        function(*arguments, **keywords)
    assert type(raised.value) is error
    assert str(raised.value) == message


def test_what_a_foreign_stream_becomes() -> None:
    if len(maskmm.devices()) == 1:
        with pytest.raises(ValueError, match=r"^device: no gpu:3 here, there are 0 GPU devices$"):
            maskmm.block_masked_mm(HOST, HOST, stream=SimpleNamespace(cuda_stream=7, device_index=3))
        return
    for foreign in (
        SimpleNamespace(cuda_stream=7, device_index=0),
        SimpleNamespace(ptr=7, device_id=0),
    ):
        stream = maskmm._choice.as_stream(foreign)
        assert stream == maskmm.Stream.from_handle(maskmm.gpu, 7)
        assert (stream.handle, stream.index, repr(stream)) == (7, -1, "Stream.from_handle(Device(gpu, 0), 7)")


def test_the_handle_of_a_stream_is_an_int() -> None:
    message = "handle: expected a cudaStream_t as an int, got str"
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        maskmm.Stream.from_handle(maskmm.cpu, "7")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^handle: expected a cudaStream_t as an int, got "):
        maskmm.Stream.from_handle(maskmm.cpu, 2**70)


def test_no_framework_is_imported() -> None:
    program = """
        import sys
        import numpy as np, maskmm
        x = np.ones((32, 32), np.float32)
        maskmm.block_masked_mm(x, memoryview(x), mask_out=True, out=x.copy())
        maskmm.explain(x, x)
        print([name for name in sys.modules if name.partition(".")[0] in ("torch", "cupy", "jax", "mlx")])
        print([name for name in sys.modules if name.startswith(("maskmm._fronts", "maskmm.torch"))])
    """
    assert run_python(program).splitlines() == ["[]", "[]"]
