"""Wrong calls, each with its exact message. It names the argument, says what was expected and what came."""

from __future__ import annotations

import array
import re
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import maskmm
from adapters import X86, isas
from oracle import Array
from processes import run_python


def f32(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def of(dtype: Any, *shape: int) -> Array:
    return np.ones(shape, dtype)


def on(*shape: int) -> Array:
    return np.ones(shape, bool)


def spread(*shape: int) -> Array:
    """One float32, seen as an array of any size."""
    return as_strided(f32(1), shape, (0,) * len(shape))


class Exporter:
    """An object that offers DLPack and does not keep its word."""

    def __init__(self, device: int, capsule: Any = None) -> None:
        self.device, self.capsule = device, capsule

    def __dlpack__(self, **_: Any) -> Any:
        if self.capsule is None:
            raise BufferError("this memory is not lent")
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device, 0


A, B = f32(256, 512), f32(512, 128)  # with blocks of 64: 4 x 8 and 8 x 2 blocks, and 4 x 2 in the result
SQUARE, HALF = f32(64, 64), of(np.float16, 64, 64)
BACKWARDS = f32(96 * 64)
READ_ONLY = f32(256, 128)
READ_ONLY.flags.writeable = False

OPERAND = "expected float16, bfloat16, float32 or float64, got"
NEITHER = "a, b: expected float16, bfloat16, float32 or float64 for at least one of them, got"
MASK = "expected bool, an integer or a float type, got"
ARRAY = "expected an array (NumPy, buffer protocol or DLPack), got"
SIZE = "block_size: expected 16, 32, 64, 128 or 256, or three of them (m, n, k), got"
SIZE_TYPE = "block_size: expected an int or a tuple of three ints (m, n, k), got"

# (arguments, keywords, error, message)
TABLE: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    # block_size, with and without masks
    ((A, B, 17), {}, ValueError, f"{SIZE} 17"),
    ((A, B, 0), {}, ValueError, f"{SIZE} 0"),
    ((A, B, -64), {}, ValueError, f"{SIZE} -64"),
    ((A, B, 512), {}, ValueError, f"{SIZE} 512"),
    ((A, B, 48), {"mask_lhs": on(6, 11)}, ValueError, f"{SIZE} 48"),
    ((A, B, (64, 64, 8)), {}, ValueError, f"{SIZE} (64, 64, 8)"),
    ((A, B, (64, 64)), {}, TypeError, f"{SIZE_TYPE} (64, 64)"),
    ((A, B, (64, 64.0, 64)), {}, TypeError, f"{SIZE_TYPE} (64, 64.0, 64)"),
    ((A, B, [64, 64, 64]), {}, TypeError, f"{SIZE_TYPE} list"),
    ((A, B, 64.0), {}, TypeError, f"{SIZE_TYPE} float"),
    ((A, B, True), {}, TypeError, f"{SIZE_TYPE} bool"),
    ((A, B, "64"), {}, TypeError, f"{SIZE_TYPE} str"),
    ((A, B, None), {}, TypeError, f"{SIZE_TYPE} NoneType"),
    ((A, B, 2**70), {}, ValueError, "block_size: the integer does not fit into 64 bits: 1180591620717411303424"),
    # a and b: kinds and types
    ((None, B), {}, TypeError, f"a: {ARRAY} NoneType"),
    (([[1.0]], B), {}, TypeError, f"a: {ARRAY} list"),
    ((A, "text"), {}, TypeError, f"b: {ARRAY} str"),
    ((A, 1.0), {}, TypeError, f"b: {ARRAY} float"),
    ((of(np.complex64, 256, 512), B), {}, TypeError, f"a: {OPERAND} complex64"),
    ((A, of(np.complex128, 512, 128)), {}, TypeError, f"b: {OPERAND} complex128"),
    ((of(object, 256, 512), B), {}, TypeError, f"a: {OPERAND} object"),
    ((A, of(np.longdouble, 512, 128)), {}, TypeError, f"b: {OPERAND} {np.dtype(np.longdouble)}"),
    ((of(">f4", 256, 512), B), {}, TypeError, f"a: {OPERAND} >f4"),
    ((np.zeros((256, 512), "M8[s]"), B), {}, TypeError, f"a: {OPERAND} datetime64[s]"),
    ((np.zeros((256, 512), "U3"), B), {}, TypeError, f"a: {OPERAND} <U3"),
    ((A, np.zeros((512, 128), [("x", "f4")])), {}, TypeError, f"b: {OPERAND} [('x', '<f4')]"),
    ((of(ml_dtypes.float8_e4m3fn, 256, 512), B), {}, TypeError, f"a: {OPERAND} float8_e4m3fn"),
    ((of(ml_dtypes.int4, 256, 512), B), {}, TypeError, f"a: {OPERAND} int4"),
    ((of(np.int32, 256, 512), of(np.int64, 512, 128)), {}, TypeError, f"{NEITHER} int32 and int64"),
    ((on(256, 512), of(np.uint8, 512, 128)), {}, TypeError, f"{NEITHER} bool and uint8"),
    ((array.array("i", [1]), array.array("b", [1])), {}, TypeError, f"{NEITHER} int32 and int8"),
    ((np.ma.masked_array(A), B), {}, TypeError,
     "a: the mask of a NumPy masked array would be ignored; pass a.data or a.filled(0)"),
    ((Exporter(1), B), {}, TypeError, "a: no access through DLPack: this memory is not lent"),
    ((A, Exporter(1, "no capsule")), {}, TypeError,
     "b: no access through DLPack: expected a capsule of version 1 or before"),
    ((Exporter(10), B), {}, ValueError, "a: expected an array in CPU memory, got one on DLPack device type 10"),
    ((Exporter(2), B), {}, TypeError, "a, b: expected arrays of one framework, got Exporter on a GPU, numpy.ndarray"),
    # a and b: shapes
    ((np.float32(1), B), {}, ValueError, "a: expected at least 1 axis, got a 0-D array"),
    ((A, f32()), {}, ValueError, "b: expected at least 1 axis, got a 0-D array"),
    ((A, f32(500, 128)), {}, ValueError, "b: expected (..., 512, N) to match a of shape (256, 512), got (500, 128)"),
    ((B, A), {}, ValueError, "b: expected (..., 128, N) to match a of shape (512, 128), got (256, 512)"),
    ((f32(3), B), {}, ValueError, "b: expected (..., 3, N) to match a of shape (3,), got (512, 128)"),
    ((A, f32(3)), {}, ValueError, "b: expected (512,) to match a of shape (256, 512), got (3,)"),
    ((f32(3), f32(4)), {}, ValueError, "b: expected (3,) to match a of shape (3,), got (4,)"),
    ((f32(5, 0), f32(1, 5)), {}, ValueError, "b: expected (..., 0, N) to match a of shape (5, 0), got (1, 5)"),
    ((f32(2, 256, 512), f32(3, 512, 128)), {}, ValueError,
     "b: batch axes (3,) do not broadcast with (2,) of the arguments before it"),
    ((f32(2, 3, 4, 5), f32(4, 1, 5, 6)), {}, ValueError,
     "b: batch axes (4, 1) do not broadcast with (2, 3) of the arguments before it"),
    ((f32(0, 4, 5), f32(3, 5, 6)), {}, ValueError,
     "b: batch axes (3,) do not broadcast with (0,) of the arguments before it"),
    # masks
    ((A, B, 64, on(4, 3)), {}, ValueError, "mask_out: expected (..., 4, 2) for block_size 64, got (4, 3)"),
    ((A, B, 64, on(2, 4)), {}, ValueError, "mask_out: expected (..., 4, 2) for block_size 64, got (2, 4)"),
    ((A, B, 64, on(256, 128)), {}, ValueError, "mask_out: expected (..., 4, 2) for block_size 64, got (256, 128)"),
    ((A, B, 64, None, on(4, 7)), {}, ValueError, "mask_lhs: expected (..., 4, 8) for block_size 64, got (4, 7)"),
    ((A, B, 64, None, on(4)), {}, ValueError, "mask_lhs: expected (..., 4, 8) for block_size 64, got (4,)"),
    ((A, B, 128, None, on(4, 8)), {}, ValueError, "mask_lhs: expected (..., 2, 4) for block_size 128, got (4, 8)"),
    ((A, B, (32, 64, 128)), {"mask_rhs": on(8, 2)}, ValueError,
     "mask_rhs: expected (..., 4, 2) for block_size (32, 64, 128), got (8, 2)"),
    ((f32(65, 512), B), {"mask_out": on(1, 4)}, ValueError,
     "mask_out: expected (..., 2, 2) for block_size 64, got (1, 4)"),
    ((f32(512), B), {"mask_out": on(4, 3)}, ValueError, "mask_out: expected (..., 2) for block_size 64, got (4, 3)"),
    ((f32(512), B), {"mask_lhs": on(1, 7)}, ValueError, "mask_lhs: expected (..., 8) for block_size 64, got (1, 7)"),
    ((A, f32(512)), {"mask_rhs": on(8, 2)}, ValueError, "mask_rhs: expected (..., 8) for block_size 64, got (8, 2)"),
    ((f32(4, 0), f32(0, 4)), {"mask_lhs": on(1, 3)}, ValueError,
     "mask_lhs: expected (..., 1, 0) for block_size 64, got (1, 3)"),
    ((f32(2, 256, 512), B), {"mask_lhs": on(3, 4, 8)}, ValueError,
     "mask_lhs: batch axes (3,) do not broadcast with (2,) of the arguments before it"),
    ((A, B, 64, on(2, 4, 2)), {"mask_rhs": on(3, 8, 2)}, ValueError,
     "mask_rhs: batch axes (3,) do not broadcast with (2,) of the arguments before it"),
    ((A, B, 64, [[True]]), {}, TypeError, f"mask_out: {ARRAY} list"),
    ((A, B, 64, None, "all"), {}, TypeError, f"mask_lhs: {ARRAY} str"),
    ((A, B, 64, of(np.complex64, 4, 2)), {}, TypeError, f"mask_out: {MASK} complex64"),
    ((A, B, 64, of(object, 4, 2)), {}, TypeError, f"mask_out: {MASK} object"),
    ((A, B, 64, None, of(np.longdouble, 4, 8)), {}, TypeError, f"mask_lhs: {MASK} {np.dtype(np.longdouble)}"),
    ((A, B, 64, None, 2**70), {}, ValueError,
     "mask_lhs: the integer does not fit into 64 bits: 1180591620717411303424"),
    ((A, B), {"mask_rhs": np.ma.masked_array(on(8, 2))}, TypeError,
     "mask_rhs: the mask of a NumPy masked array would be ignored; pass mask_rhs.data or mask_rhs.filled(0)"),
    # out
    ((A, B), {"out": f32(128, 256)}, ValueError, "out: expected shape (256, 128), got (128, 256)"),
    ((A, B), {"out": f32(1, 256, 128)}, ValueError, "out: expected shape (256, 128), got (1, 256, 128)"),
    ((A, B, 64, on(3, 1, 1)), {"out": f32(256, 128)}, ValueError,
     "out: expected shape (3, 256, 128), got (256, 128)"),
    ((A, B), {"out": of(np.float64, 256, 128)}, TypeError, "out: expected float32, got float64"),
    ((HALF, SQUARE), {"out": of(np.float16, 64, 64)}, TypeError, "out: expected float32, got float16"),
    ((HALF, of(ml_dtypes.bfloat16, 64, 64)), {"out": of(np.float16, 64, 64)}, TypeError,
     "out: expected float32, got float16"),
    ((A, B), {"out": [0]}, TypeError, "out: expected a NumPy array or another writable buffer, got list"),
    ((A, B), {"out": READ_ONLY}, ValueError, "out: expected a writable array, got a read-only one"),
    ((A, B), {"out": b"1234"}, ValueError, "out: expected a writable array, got a read-only one"),
    ((A, B), {"out": as_strided(f32(256, 128), (256, 128), (0, 4))}, ValueError,
     "out: its elements overlap each other"),
    ((A, B), {"out": as_strided(f32(256, 128), (256, 128), (4, 4))}, ValueError,
     "out: its elements overlap each other"),
    ((SQUARE, f32(64, 64)), {"out": SQUARE}, ValueError, "out: overlaps a in memory"),
    ((f32(64, 64), SQUARE), {"out": SQUARE.T}, ValueError, "out: overlaps b in memory"),
    ((BACKWARDS[:4096].reshape(64, 64), HALF), {"out": BACKWARDS[:2047:-1].reshape(64, 64)}, ValueError,
     "out: overlaps a in memory"),
    ((f32(64, 64), HALF, 64, SQUARE[:1, :1]), {"out": SQUARE}, ValueError, "out: overlaps mask_out in memory"),
    ((f32(64, 64), HALF), {"mask_lhs": SQUARE[63:, 63:], "out": SQUARE}, ValueError,
     "out: overlaps mask_lhs in memory"),
    ((f32(64, 64), HALF), {"mask_rhs": SQUARE.view(bool)[5:6, 7:8], "out": SQUARE}, ValueError,
     "out: overlaps mask_rhs in memory"),
    ((spread(2**31, 1), spread(1, 2**31)), {}, MemoryError,
     "no memory for a result of shape (2147483648, 2147483648)"),
    # stream and precision
    ((A, B), {"stream": "cpu"}, TypeError, "stream: expected a Stream, a Device, a DeviceType or None, got str"),
    ((A, B), {"stream": 0}, TypeError, "stream: expected a Stream, a Device, a DeviceType or None, got int"),
    ((A, B), {"stream": maskmm.Device(maskmm.cpu, 1)}, ValueError, "stream: expected one on cpu:0 as a is, got cpu:1"),
    ((A, B), {"precision": "fp32"}, ValueError, "precision: expected 'ieee' or 'tf32', got 'fp32'"),
    ((A, B), {"precision": None}, TypeError, "precision: expected 'ieee' or 'tf32', got NoneType"),
    # how it is called
    ((A,), {}, TypeError, "FUNCTION() missing 1 required positional argument: 'b'"),
    ((), {"a": A, "b": B}, TypeError,
     "FUNCTION() got some positional-only arguments passed as keyword arguments: 'a, b'"),
    ((A, B), {"mask": on(4, 8)}, TypeError, "FUNCTION() got an unexpected keyword argument 'mask'"),
    ((A, B, 64, None, None, None, maskmm.cpu), {}, TypeError,
     "FUNCTION() takes from 2 to 6 positional arguments but 7 were given"),
]  # fmt: skip


@pytest.mark.parametrize("function", [maskmm.block_masked_mm, maskmm.explain])
@pytest.mark.parametrize("row", range(len(TABLE)), ids=lambda row: TABLE[row][3])
def test_message(function: Callable[..., Any], row: int) -> None:
    arguments, keywords, error, message = TABLE[row]
    if error is MemoryError and function is maskmm.explain:
        return  # it needs no memory for the result
    out = keywords.get("out")
    before = out.tobytes() if isinstance(out, np.ndarray) else None
    with pytest.raises(error) as raised:
        function(*arguments, **keywords)
    assert str(raised.value) == message.replace("FUNCTION", function.__name__)
    assert type(raised.value) is error
    if isinstance(out, np.ndarray):
        assert out.tobytes() == before, "out was written although the call is wrong"
    assert maskmm.block_masked_mm(A, B)[0, 0] == 512, "the next call must work"


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (maskmm.set_num_threads, (0,), ValueError, "num_threads: expected at least 1, got 0"),
        (maskmm.set_num_threads, (-(2**80),), ValueError, None),
        (maskmm.set_num_threads, ("2",), TypeError, "num_threads: expected an int, got str"),
        (maskmm.set_num_threads, (2.0,), TypeError, "num_threads: expected an int, got float"),
        (maskmm.set_default_device, ("cpu",), TypeError, "device: expected a Device or a DeviceType, got str"),
        (maskmm.set_default_device, (maskmm.Device(maskmm.cpu, 1),), ValueError,
         "device: no cpu:1 here, there is 1 CPU device"),
        (maskmm.new_stream, (maskmm.Device(maskmm.cpu, -1),), ValueError,
         "device: no cpu:-1 here, there is 1 CPU device"),
        (maskmm.default_stream, (None,), TypeError, "device: expected a Device or a DeviceType, got NoneType"),
        (maskmm.synchronize, ("cpu",), TypeError, "stream: expected a Stream or None, got str"),
    ],
)  # fmt: skip
def test_message_of_other_functions(
    function: Callable[..., Any], arguments: tuple[Any, ...], error: type[Exception], message: str | None
) -> None:
    threads = maskmm.num_threads()
    with pytest.raises(error, match=f"^{re.escape(message)}$" if message else None):
        function(*arguments)
    assert maskmm.num_threads() == threads


@pytest.mark.skipif(len(maskmm.devices()) > 1, reason="there is a GPU")
def test_message_where_there_is_no_gpu() -> None:
    for function in (maskmm.set_default_device, maskmm.new_stream, maskmm.default_stream):
        with pytest.raises(ValueError, match=r"^device: no gpu:0 here, there are 0 GPU devices$"):
            function(maskmm.gpu)
    with pytest.raises(ValueError, match=r"^stream: no gpu:0 here, there are 0 GPU devices$"):
        maskmm.block_masked_mm(A, B, stream=maskmm.gpu)
    assert maskmm.default_device() == maskmm.Device(maskmm.cpu)


ISA_PROGRAM = """
    import numpy as np
    import maskmm
    a = np.ones((40, 40), np.float32)
    for function in (maskmm.cpu_isa, lambda: maskmm.block_masked_mm(a, a), lambda: maskmm.explain(a, a)):
        try:
            function()
        except NotImplementedError as error:
            print(error)
"""


@pytest.mark.parametrize("wanted", ["avx99", "AVX2", "none"])
def test_unknown_isa(wanted: str) -> None:
    known = ", ".join(X86) if isas()[0] != "neon" else "neon, portable"
    message = f"MASKMM_ISA: expected one of {known}, got {wanted}"
    assert run_python(ISA_PROGRAM, MASKMM_ISA=wanted).splitlines() == [message] * 3


@pytest.mark.parametrize("isa", [*isas(), ""])
def test_a_forced_isa_takes(isa: str) -> None:
    program = """
        import numpy as np
        import maskmm
        a = np.ones((40, 40), np.float32)
        explanation = maskmm.explain(a, a)
        result = maskmm.block_masked_mm(a, a).max()
        print(maskmm.cpu_isa(), explanation.isa, explanation.isa in str(explanation), result)
    """
    name = isa or isas()[0]
    assert run_python(program, MASKMM_ISA=isa) == f"{name} {name} True 40.0"


@pytest.mark.parametrize("count", ["0", "-1", "three", "3x", "1.5"])
def test_wrong_num_threads_in_the_environment(count: str) -> None:
    program = """
        import numpy as np
        import maskmm
        a = np.ones((400, 400), np.float32)
        for function in (maskmm.num_threads, lambda: maskmm.block_masked_mm(a, a)):
            try:
                print(function())
            except Exception as error:
                print(type(error).__name__, error)
    """
    message = f"ValueError MASKMM_NUM_THREADS: expected a number of at least 1, got {count}"
    assert run_python(program, MASKMM_NUM_THREADS=count).splitlines() == [message] * 2


def test_memory_ends_and_the_next_call_works() -> None:
    # A long K gives many blocks: their bit rows take memory although the operands do not.
    program = """
        import resource
        import numpy as np
        from numpy.lib.stride_tricks import as_strided
        import maskmm

        maskmm.set_num_threads(1)
        a = as_strided(np.ones(1, np.float32), (64, 2**29), (0, 0))
        mask = np.zeros((4, 2**25), bool)
        mask[:, [0, 5, -1]] = True
        out = np.zeros((64, 64), np.float32)
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**20, unlimited[1]))
        try:
            maskmm.block_masked_mm(a, a.T, 16, mask_lhs=mask, out=out)
        except MemoryError as error:
            print(error, out.any())
        print(maskmm.block_masked_mm(a[:, :16], a.T[:16], 16, out=out).max())
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        print(maskmm.block_masked_mm(a, a.T, 16, mask_lhs=mask, out=out).max())
    """
    assert run_python(program).splitlines() == [
        "not enough memory for the workspace of this call False",
        "16.0",
        "48.0",
    ]
