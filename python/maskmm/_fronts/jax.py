"""The front for JAX arrays on a GPU, outside of jit, grad and vmap.

JAX has no current stream. It makes the elements ready on the stream of the call, by default the device's default
stream; the call is finished when it returns, and the result is copied into memory of JAX's.
"""

from __future__ import annotations

import importlib
from typing import Any

from maskmm._fronts import dlpack
from maskmm._fronts.dlpack import allocating_on, current_stream, empty

__all__ = [
    "allocating_on", "borrow", "borrow_out", "current_stream", "empty", "finished", "is_on_gpu"
]  # fmt: skip

jax: Any = importlib.import_module("jax")


def is_on_gpu(x: Any) -> bool:
    # What is traced lies nowhere; it is refused here, by name.
    return isinstance(x, jax.core.Tracer) or any(device.platform != "cpu" for device in x.devices())


def borrow(name: str, x: Any, stream: int) -> Any:
    if not isinstance(x, jax.Array) or not is_on_gpu(x):
        return x
    if isinstance(x, jax.core.Tracer):
        raise TypeError(
            f"{name}: expected a JAX array with values, got one that is traced; call block_masked_mm outside "
            "of jit, grad and vmap"
        )
    if len(x.devices()) > 1:
        raise ValueError(f"{name}: expected an array on one device, got one on {len(x.devices())} devices")
    return dlpack.borrow(name, x, stream)


def borrow_out(out: Any) -> Any:
    raise TypeError("out: expected an array that can be written, got a jax.Array")


def finished(result: Any) -> Any:
    try:
        return jax.numpy.copy(jax.dlpack.from_dlpack(result)).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise MemoryError("no memory for the result") from error
        raise
