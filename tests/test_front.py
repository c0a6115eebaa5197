"""The NumPy front: what it takes as arrays, masks, block sizes, streams and out, and what it refuses."""

from __future__ import annotations

import array
import ctypes
import dataclasses
import gc
import inspect
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import maskmm
from processes import run_python

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.ones((4, 2), np.float32)
BF16 = np.dtype(ml_dtypes.bfloat16)
PAIRS = np.zeros((3, 4), dtype=[("tag", "u1"), ("value", "f4")])
PAIRS["value"] = A


class OnlyDLPack:
    """An array that has DLPack and nothing else. ``versioned=False``: as before version 1.0."""

    def __init__(self, elements: np.ndarray[Any, Any], versioned: bool = True) -> None:
        self.elements = elements
        self.versioned = versioned

    def __dlpack__(self, **arguments: Any) -> Any:
        if arguments and not self.versioned:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        return self.elements.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.elements.__dlpack_device__()


class Tensor(OnlyDLPack):
    """What torch adds to DLPack."""

    requires_grad = False
    negated = False
    device = (1, 0)

    def is_neg(self) -> bool:
        return self.negated

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


def tensor(**properties: Any) -> Tensor:
    result = Tensor(A)
    vars(result).update(properties)
    return result


def misaligned(elements: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    raw = np.zeros(elements.nbytes + 1, np.uint8)
    result: np.ndarray[Any, Any] = raw[1:].view(elements.dtype).reshape(elements.shape)
    result[...] = elements
    return result


def read_only(elements: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    result = elements.copy()
    result.flags.writeable = False
    return result


def memory_map(elements: np.ndarray[Any, Any], folder: Path) -> np.ndarray[Any, Any]:
    np.save(folder / "a.npy", elements)
    result: np.ndarray[Any, Any] = np.load(folder / "a.npy", mmap_mode="r")
    return result


ARRAYS: dict[str, Callable[[Path], Any]] = {
    "ndarray": lambda _: A,
    "Fortran order": lambda _: np.asfortranarray(A),
    "negative strides": lambda _: A[::-1, ::-1].copy()[::-1, ::-1],
    "every second": lambda _: A.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "misaligned": lambda _: misaligned(A),
    "field of a record": lambda _: PAIRS["value"],
    "read-only": lambda _: read_only(A),
    "memory map": lambda folder: memory_map(A, folder),
    "matrix": lambda _: A.view(np.matrix),
    "float16": lambda _: A.astype(np.float16),
    "float64": lambda _: A.astype(np.float64),
    "int8": lambda _: A.astype(np.int8),
    "uint64": lambda _: A.astype(np.uint64),
    "long": lambda _: A.astype(np.longlong),
    "native order spelt out": lambda _: A.astype("<f4" if sys.byteorder == "little" else ">f4"),
    "bytes in foreign order": lambda _: A.astype(np.dtype(np.int8).newbyteorder()),
    "bfloat16": lambda _: A.astype(BF16),
    "bfloat16, strided": lambda _: A.repeat(2, 0).repeat(3, 1).astype(BF16)[::2, ::3],
    "bfloat16, misaligned": lambda _: misaligned(A.astype(BF16)),
    "bfloat16, read-only": lambda _: read_only(A.astype(BF16)),
    "memoryview": lambda _: memoryview(A),  # type: ignore[arg-type]  # a buffer to the type checker from Python 3.12 on
    "memoryview of bytes": lambda _: memoryview(A.astype(np.uint8).tobytes()).cast("B", (3, 4)),
    "ctypes": lambda _: ((ctypes.c_double * 4) * 3).from_buffer_copy(A.astype(np.float64).tobytes()),
    "DLPack": lambda _: OnlyDLPack(A),
    "DLPack, transposed": lambda _: OnlyDLPack(np.asfortranarray(A)),
    "DLPack, read-only": lambda _: OnlyDLPack(read_only(A)),
    "DLPack before 1.0": lambda _: OnlyDLPack(A, versioned=False),
    "DLPack, int16": lambda _: OnlyDLPack(A.astype(np.int16)),
    "DLPack, pinned memory": lambda _: tensor(device=(3, 0)),
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays_of_every_kind(kind: str, tmp_path: Path) -> None:
    result = maskmm.block_masked_mm(ARRAYS[kind](tmp_path), B)
    assert type(result) is np.ndarray
    assert result.flags.c_contiguous
    assert result.flags.owndata
    assert result.dtype == (np.float64 if kind in ("float64", "ctypes") else np.float32)
    np.testing.assert_array_equal(result, A @ B)


def test_one_dimensional_buffers() -> None:
    vector = array.array("f", [1, 2, 3, 4])
    np.testing.assert_array_equal(maskmm.block_masked_mm(vector, B), [10, 10])
    result = maskmm.block_masked_mm(vector, vector)
    assert result.shape == ()
    assert result == 30


def test_nothing_is_copied() -> None:
    K = 2**34  # 64 GiB a row, all of them the same element
    a = np.broadcast_to(np.float32(3), (1, K))
    b = np.broadcast_to(np.array(2, BF16), (K, 1))
    mask = np.zeros(K // 256, np.bool_)
    mask[12345] = True
    assert maskmm.block_masked_mm(a, b, 256, mask_lhs=mask) == 6 * 256


def test_bfloat16_results() -> None:
    a, b = A.astype(BF16), B.astype(BF16)
    result = maskmm.block_masked_mm(a, b)
    assert result.dtype == BF16
    np.testing.assert_array_equal(result.astype(np.float32), A @ B)
    out = np.full((2, 3), np.nan, BF16).T
    assert maskmm.block_masked_mm(a, b, out=out) is out
    np.testing.assert_array_equal(out.astype(np.float32), A @ B)


def test_bfloat16_results_need_ml_dtypes() -> None:
    printed = run_python("""
        import sys
        import ml_dtypes, numpy as np, maskmm
        x = np.ones((2, 2), ml_dtypes.bfloat16)
        sys.modules["ml_dtypes"] = None
        out = np.zeros((2, 2), x.dtype)
        maskmm.block_masked_mm(x, x, out=out)
        print(float(out[0, 0]), maskmm.block_masked_mm(x, np.ones((2, 2), np.float32)).dtype)
        try:
            maskmm.block_masked_mm(x, x)
        except ImportError as error:
            print(error)
        """)
    assert printed.splitlines() == [
        "2.0 float32",
        "a bfloat16 result needs the package ml_dtypes, which does not load: pip install ml_dtypes",
    ]


MASKS = [True, False, 1, 0, -3, 0.5, float("inf"), np.True_, np.int16(2), np.float16(0.5), BF16.type(2)]


@pytest.mark.parametrize(
    "mask", [*MASKS, *map(np.asarray, MASKS), np.array([[2]], np.uint8), b"\x02"], ids=repr
)
def test_masks_without_axes(mask: Any) -> None:
    scale = np.float32(np.frombuffer(mask, np.uint8) if isinstance(mask, bytes) else np.asarray(mask))
    expected = A @ B * scale if scale != 0 else np.zeros((3, 2), np.float32)
    for name in ("mask_out", "mask_lhs", "mask_rhs"):
        np.testing.assert_array_equal(maskmm.block_masked_mm(A[1:], B, **{name: mask}), expected[1:])


@pytest.mark.parametrize(
    "size", [16, np.int64(16), np.uint8(16), np.array(16), (16, 16, 16), (16, 32, np.int8(16))]
)
def test_block_sizes(size: Any) -> None:
    x = np.ones((32, 32), np.float32)
    mask = np.eye(2, dtype=np.bool_)
    np.testing.assert_array_equal(maskmm.block_masked_mm(x, x, size, mask_lhs=mask), 16 * x)


def test_streams() -> None:
    device = maskmm.Device(maskmm.cpu)
    for stream in (None, maskmm.cpu, device, maskmm.default_stream(device), maskmm.new_stream(maskmm.cpu)):
        np.testing.assert_array_equal(maskmm.block_masked_mm(A, B, stream=stream), A @ B)
        assert maskmm.explain(A, B, stream=stream).device == device


@pytest.mark.parametrize(
    "out",
    [
        np.empty((3, 2), np.float32),
        np.empty((2, 3), np.float32).T,
        np.empty((9, 4), np.float32)[::-3, ::2],
        misaligned(np.zeros((3, 2), np.float32)),
        np.zeros((3, 2), PAIRS.dtype)["value"],
        memoryview(bytearray(24)).cast("f", (3, 2)),
        ((ctypes.c_float * 2) * 3)(),
    ],
    ids=["C", "F", "strided", "misaligned", "field of a record", "memoryview", "ctypes"],
)
def test_out_is_written_and_returned(out: Any) -> None:
    assert maskmm.block_masked_mm(A, B, out=out) is out
    np.testing.assert_array_equal(np.asarray(out), A @ B)


def test_out_of_zero_axes() -> None:
    out = np.full((), np.nan, np.float32)
    assert maskmm.block_masked_mm(A[0], B[:, 0], out=out) is out
    assert out == 6


def call(*arguments: Any, **named: Any) -> Callable[[], Any]:
    return lambda: maskmm.block_masked_mm(*arguments, **named)


TYPES = "expected float16, bfloat16, float32 or float64, got"
READ_ONLY = "out: expected a writable array, got a read-only one"
MASK_TYPES = "expected bool, an integer or a float type, got"
NO_ARRAY = "expected an array (NumPy, buffer protocol or DLPack)"
NO_SIZE = "block_size: expected an int or a tuple of three ints (m, n, k)"
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (call(A.tolist(), B), TypeError, f"a: {NO_ARRAY}, got list"),
    (call(A, None), TypeError, f"b: {NO_ARRAY}, got NoneType"),
    (call(1.5, B), TypeError, f"a: {NO_ARRAY}, got float"),
    (call(A, "text"), TypeError, f"b: {NO_ARRAY}, got str"),
    (call(A, B, mask_out=[True]), TypeError, f"mask_out: {NO_ARRAY}, got list"),
    (call(A, B, mask_lhs="causal"), TypeError, f"mask_lhs: {NO_ARRAY}, got str"),
    (call(A, B, mask_rhs={}), TypeError, f"mask_rhs: {NO_ARRAY}, got dict"),
    (call(A, B, mask_rhs=1j), TypeError, f"mask_rhs: {NO_ARRAY}, got complex"),
    (call(A, B, mask_out=2**64), ValueError,
     "mask_out: the integer does not fit into 64 bits: 18446744073709551616"),
    (call(A.astype(">f4"), B), TypeError, f"a: {TYPES} >f4"),
    (call(A, B.astype(object)), TypeError, f"b: {TYPES} object"),
    (call(A, B.astype(str)), TypeError, f"b: {TYPES} <U32"),
    (call(A, B.astype(np.longdouble)), TypeError, f"b: {TYPES} {np.dtype(np.longdouble)}"),
    (call(PAIRS, B), TypeError, f"a: {TYPES} [('tag', 'u1'), ('value', '<f4')]"),
    (call(A.astype(ml_dtypes.float8_e4m3fn), B), TypeError, f"a: {TYPES} float8_e4m3fn"),
    (call(A, B, mask_out=np.array(["2020-01-01"], "M8[s]")), TypeError, f"mask_out: {MASK_TYPES} datetime64[s]"),
    (call(A, B, mask_lhs=array.array("w" if sys.version_info >= (3, 13) else "u", "x")), TypeError,
     f"mask_lhs: {MASK_TYPES} w"),
    (call(A.astype(complex), B), TypeError,
     "a: expected float16, bfloat16, float32 or float64, got complex128"),
    (call(OnlyDLPack(A.astype("c8")), B), TypeError,
     "a: expected float16, bfloat16, float32 or float64, got complex64"),
    (call(A, B, mask_out=1j * A), TypeError,
     "mask_out: expected bool, an integer or a float type, got complex64"),
    (call(np.ma.array(A, mask=A > 3), B), TypeError,
     "a: the mask of a NumPy masked array would be ignored; pass a.data or a.filled(0)"),
    (call(tensor(requires_grad=True), B), TypeError,
     "a: requires grad, and gradients do not pass through NumPy arrays; pass a.detach()"),
    (call(A, B, mask_out=tensor(negated=True)), TypeError,
     "mask_out: a view with a negation still to be done; pass mask_out.resolve_neg()"),
    (call(tensor(device=(10, 0)), B), ValueError,
     "a: expected an array in CPU memory, got one on DLPack device type 10"),
    (call(tensor(device=(2, 0)), B), TypeError,
     "a, b: expected arrays of one framework, got Tensor on a GPU, numpy.ndarray"),
    (call(OnlyDLPack(A.astype(">f4")), B), TypeError,
     "a: no access through DLPack: DLPack only supports native byte order."),
    (call(A, B, 64.0), TypeError, f"{NO_SIZE}, got float"),
    (call(A, B, True), TypeError, f"{NO_SIZE}, got bool"),
    (call(A, B, np.float32(64)), TypeError, f"{NO_SIZE}, got float32"),
    (call(A, B, None), TypeError, f"{NO_SIZE}, got NoneType"),
    (call(A, B, A), TypeError, f"{NO_SIZE}, got ndarray"),
    (call(A, B, [64, 64, 64]), TypeError, f"{NO_SIZE}, got list"),
    (call(A, B, (64, 64)), TypeError, f"{NO_SIZE}, got (64, 64)"),
    (call(A, B, (64, 64.0, 64)), TypeError, f"{NO_SIZE}, got (64, 64.0, 64)"),
    (call(A, B, (64, True, 64)), TypeError, f"{NO_SIZE}, got (64, True, 64)"),
    (call(A, B, 2**63), ValueError, "block_size: the integer does not fit into 64 bits: 9223372036854775808"),
    (call(A, B, precision="fast"), ValueError, "precision: expected 'ieee' or 'tf32', got 'fast'"),
    (call(A, B, precision=32), TypeError, "precision: expected 'ieee' or 'tf32', got int"),
    (call(A, B, stream="cpu"), TypeError,
     "stream: expected a Stream, a Device, a DeviceType or None, got str"),
    (call(A, B, stream=0), TypeError, "stream: expected a Stream, a Device, a DeviceType or None, got int"),
    (call(A, B, out=[0]), TypeError, "out: expected a NumPy array or another writable buffer, got list"),
    (call(A, B, out=OnlyDLPack(A)), TypeError,
     "out: expected a NumPy array or another writable buffer, got OnlyDLPack"),
    (call(A, B, out=read_only(A)), ValueError, READ_ONLY),
    (call(A, B, out=read_only(A.astype(BF16))), ValueError, READ_ONLY),
    (call(A, B, out=bytes(24)), ValueError, READ_ONLY),
    (call(A, B, out=np.empty((3, 2), ">f4")), TypeError, f"out: {TYPES} >f4"),
    (lambda: maskmm.explain(A, "text"), TypeError, f"b: {NO_ARRAY}, got str"),  # type: ignore[arg-type]
    (lambda: maskmm.set_num_threads(2.5), TypeError, "num_threads: expected an int, got float"),  # type: ignore[arg-type]
    (lambda: maskmm.set_num_threads(-(2**70)), ValueError,
     "num_threads: the integer does not fit into 64 bits: -1180591620717411303424"),
    (lambda: maskmm.new_stream("cpu"), TypeError, "device: expected a Device or a DeviceType, got str"),  # type: ignore[arg-type]
    (lambda: maskmm.synchronize(maskmm.cpu), TypeError, "stream: expected a Stream or None, got DeviceType"),  # type: ignore[arg-type]
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "error", "message"), ERRORS, ids=[message for *_, message in ERRORS])
def test_errors(wrong: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        wrong()
    assert type(raised.value) is error
    assert str(raised.value) == message


def test_memory_ends_and_the_next_call_works() -> None:
    big = np.broadcast_to(np.float32(1), (2**24, 2**24))
    with pytest.raises(MemoryError, match=r"^no memory for a result of shape \(16777216, 16777216\)$"):
        maskmm.block_masked_mm(big, big, mask_out=False)
    np.testing.assert_array_equal(maskmm.block_masked_mm(A, B), A @ B)


def test_no_memory_for_the_workspace() -> None:
    """The bit rows of a mask are 32 GiB here, where 4 GiB may be used."""
    printed = run_python("""
        import resource
        import numpy as np, maskmm
        resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
        K = 2**42
        a, b = (np.broadcast_to(np.float32(1), shape) for shape in ((1, K), (K, 1)))
        mask = np.broadcast_to(False, (1, K // 16))
        out = np.full((1, 1), 7, np.float32)
        for function in (maskmm.block_masked_mm, maskmm.explain):
            try:
                function(a, b, 16, mask_lhs=mask, out=out)
            except MemoryError as error:
                print(error)
        print(out[0, 0], maskmm.block_masked_mm(a[:, :9], b[:9], out=out)[0, 0])
        """)
    assert printed.splitlines() == ["not enough memory for the workspace of this call"] * 2 + ["7.0 9.0"]


@pytest.mark.parametrize("kind", ["ndarray", "bfloat16", "memoryview", "DLPack"])
def test_no_reference_stays(kind: str, tmp_path: Path) -> None:
    x = ARRAYS[kind](tmp_path)
    gc.collect()
    before = sys.getrefcount(x), sys.getrefcount(A), sys.getrefcount(B)
    for _ in range(100):
        maskmm.block_masked_mm(x, B)
        with pytest.raises(TypeError, match="mask_rhs"):
            maskmm.block_masked_mm(x, B, mask_lhs=x, mask_rhs="x")  # type: ignore[call-overload]
        with pytest.raises(ValueError, match="b: expected"):
            maskmm.block_masked_mm(x, x)
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(A), sys.getrefcount(B)) == before


def test_explanation() -> None:
    explanation = maskmm.explain(np.ones((128, 128), np.float32), np.ones((128, 64)), mask_lhs=np.eye(2))
    assert explanation.live_fraction == 0.5
    assert explanation.isa == maskmm.cpu_isa()
    assert 1 <= explanation.threads <= maskmm.num_threads()
    assert explanation.workspace_bytes > 0
    lines = str(explanation).splitlines()
    assert lines[0] == f"kernel     {explanation.kernel} on cpu:0 ({maskmm.cpu_isa()})"
    assert lines[3] == "live       50.00 % of the block triples"
    with pytest.raises(AttributeError):
        explanation.threads = 7  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(explanation)) == explanation
    assert dataclasses.asdict(explanation)["device"] == maskmm.Device(maskmm.cpu)
    assert str(maskmm.explain(A[:0], B)).startswith("kernel     none on cpu:0\n")


def test_devices() -> None:
    device = maskmm.Device(maskmm.cpu)
    assert maskmm.devices()[0] == device == maskmm.default_device() == maskmm.Device(maskmm.cpu, 0)
    assert device != maskmm.Device(maskmm.gpu)
    assert {device: 1}[maskmm.Device(maskmm.cpu)] == 1
    assert (device.type, device.index, repr(device)) == (maskmm.DeviceType.cpu, 0, "Device(cpu, 0)")
    assert maskmm.default_stream(maskmm.cpu) == maskmm.default_stream(device)
    first, second = maskmm.new_stream(device), maskmm.new_stream(maskmm.cpu)
    assert first != second
    assert repr(second) == f"Stream(Device(cpu, 0), {second.index})"
    assert second.device == device
    maskmm.set_default_device(maskmm.cpu)
    maskmm.synchronize()
    maskmm.synchronize(second)


def test_signature_is_that_of_the_specification() -> None:
    for function in (maskmm.block_masked_mm, maskmm.explain):
        parameters = inspect.signature(function).parameters.values()
        plain = inspect.Signature(
            [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        )
        assert str(plain) == (
            "(a, b, /, block_size=64, mask_out=None, mask_lhs=None, mask_rhs=None, *, "
            "stream=None, out=None, precision='ieee')"
        )


def test_types_are_published() -> None:
    assert Path(maskmm.__file__).with_name("py.typed").exists()
