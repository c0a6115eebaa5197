"""CuPy, JAX and DLPack on a GPU; collected where all are there (conftest.py). test_cases.py has all shapes."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskmm
from case_builders import Call, product
from gpu_arrays import OnlyDLPack, load, to_cupy, to_jax, to_numpy
from oracle import check_result, evaluate

cupy, jax, torch = (load(name) for name in ("cupy", "jax", "torch"))
RNG = np.random.default_rng(8)
CALL = product(RNG, 200, 150, 130, 32)


def on_gpu(call: Call, to_gpu: Any) -> tuple[Any, ...]:
    masks = (None if mask is None else to_gpu(mask) for mask in call.masks())
    return to_gpu(call.a), to_gpu(call.b), call.block_size, *masks


def check(result: Any) -> None:
    check_result(to_numpy(result), evaluate(CALL.a, CALL.b, CALL.block_size, *CALL.masks()))


def test_cupy() -> None:
    a, b, *rest = on_gpu(CALL, to_cupy)
    result = maskmm.block_masked_mm(a, b, *rest)
    assert type(result) is cupy.ndarray
    assert result.flags.c_contiguous
    check(result)
    out = cupy.full((150, 200), cupy.nan, cupy.float32).T
    assert maskmm.block_masked_mm(a, b, *rest, out=out) is out
    check(out)
    check(maskmm.block_masked_mm(a, b, 32, *CALL.masks()))
    assert maskmm.explain(a, b, *rest).device == maskmm.Device(maskmm.gpu)


def test_cupy_dot() -> None:
    a, b, *rest = on_gpu(CALL, to_cupy)
    x = to_cupy(RNG.standard_normal((200, 150)).astype(np.float32)[::-1])
    result = maskmm.block_masked_dot(x, a, b, *rest)
    assert type(result) is cupy.ndarray
    exact = maskmm.block_masked_dot(cupy.asnumpy(x), CALL.a, CALL.b, CALL.block_size, *CALL.masks())
    assert np.allclose(cupy.asnumpy(result), exact, rtol=1e-4, atol=1e-2)
    out = cupy.zeros_like(result)
    assert maskmm.block_masked_dot(x, a, b, *rest, out=out) is out
    assert cupy.array_equal(out, result)


def test_the_page_on_cupy() -> None:
    page = Path(__file__).parents[1] / "docs" / "cupy.md"
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    test = doctest.DocTestParser().get_doctest(blocks, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test).failed == 0


@pytest.mark.parametrize("given", [False, True])
def test_cupy_streams(given: bool) -> None:
    a, b, *rest = on_gpu(CALL, to_cupy)
    late = cupy.zeros_like(a)
    stream = cupy.cuda.Stream(non_blocking=True)
    cupy.cuda.Device().synchronize()
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.ptr)):
        torch.cuda._sleep(1_000_000_000)
    with stream:
        late[...] = a
        if not given:
            result = maskmm.block_masked_mm(late, b, *rest)
    if given:
        result = maskmm.block_masked_mm(late, b, *rest, stream=stream)
    stream.synchronize()
    check(result)
    check(maskmm.block_masked_mm(a, b, *rest, stream=cupy.cuda.Stream.null))


def test_jax() -> None:
    a, b, *rest = on_gpu(CALL, to_jax)
    result = maskmm.block_masked_mm(a, b, *rest)
    assert isinstance(result, jax.Array)
    assert result.devices() == a.devices()
    check(result)
    check(maskmm.block_masked_mm(a + 0, b + 0, *rest))
    check(maskmm.block_masked_mm(a, b, 32, *CALL.masks(), stream=maskmm.gpu))
    assert maskmm.explain(a, b, *rest).device == maskmm.Device(maskmm.gpu)
    bfloat16 = maskmm.block_masked_mm(a.astype("bfloat16"), b.astype("bfloat16"), *rest)
    assert bfloat16.dtype == jax.numpy.bfloat16


def test_jax_errors() -> None:
    a, b, *rest = on_gpu(CALL, to_jax)
    check(jax.jit(lambda x: maskmm.block_masked_mm(x, b, *rest))(a))
    with pytest.raises(TypeError, match=r"^a: expected a JAX array with values, got one that is traced"):
        jax.jit(lambda x: maskmm.explain(x, b))(a)
    with pytest.raises(
        TypeError, match=r"^out: expected None, as JAX arrays cannot be written to, got ArrayImpl$"
    ):
        maskmm.block_masked_mm(a, b, *rest, out=b)
    with pytest.raises(TypeError, match=r"^a: expected float16, .* got float8_e4m3fn"):
        maskmm.block_masked_mm(a.astype("float8_e4m3fn"), b)
    with pytest.raises(TypeError, match=r"^a, b: .* got jax\.Array, cupy\.ndarray$"):
        maskmm.block_masked_mm(a, to_cupy(CALL.b))
    with pytest.raises(ValueError, match="incompatible devices"):
        maskmm.block_masked_mm(a, jax.device_put(CALL.b, jax.devices("cpu")[0]))


def test_dlpack() -> None:
    a, b, *rest = on_gpu(CALL, lambda x: OnlyDLPack(to_cupy(x)))
    result = maskmm.block_masked_mm(a, b, *rest)
    assert result.__dlpack_device__() == (2, 0)
    check(torch.from_dlpack(result))
    check(cupy.from_dlpack(maskmm.block_masked_mm(a, b, *rest, stream=maskmm.new_stream(maskmm.gpu))))
    assert maskmm.explain(a, b, *rest).device == maskmm.Device(maskmm.gpu)
    with pytest.raises(
        TypeError, match=r"^out: expected a torch\.Tensor or a cupy\.ndarray, got OnlyDLPack$"
    ):
        maskmm.block_masked_mm(a, b, *rest, out=b)


@pytest.mark.parametrize(
    "to_gpu", [to_cupy, to_jax, lambda x: OnlyDLPack(to_cupy(x))], ids=["cupy", "jax", "dlpack"]
)
def test_no_memory_and_the_next_call_works(to_gpu: Any) -> None:
    thin = to_gpu(np.ones((2**21, 1), np.float32)), to_gpu(np.ones((1, 2**21), np.float32))
    late = (
        jax.errors.JaxRuntimeError if to_gpu is to_jax else MemoryError
    )  # XLA allocates when the call is over
    with pytest.raises(late, match=r"(?i)memory"):
        jax.block_until_ready(maskmm.block_masked_mm(*thin, mask_out=False))
    result = maskmm.block_masked_mm(*on_gpu(CALL, to_gpu))
    check(
        cupy.from_dlpack(result)
        if hasattr(result, "__dlpack__") and not isinstance(result, jax.Array)
        else result
    )
