"""Which front takes a call: the types of its arrays decide. No framework is imported that the caller has not."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from maskmm import _device
from maskmm._maskmm import Device, DeviceType, Stream


class Front(Protocol):
    """What the arrays of a framework need: the public functions, for arrays of that framework only."""

    def takes(self, x: Any, /) -> bool:
        """Whether x, an array of this framework, is for this front; else it is for NumPy's."""

    def block_masked_mm(
        self,
        a: Any,
        b: Any,
        /,
        block_size: Any,
        mask_out: Any,
        mask_lhs: Any,
        mask_rhs: Any,
        *,
        stream: Any,
        out: Any,
        precision: Any,
    ) -> Any: ...

    def block_masked_dot(
        self,
        x: Any,
        a: Any,
        b: Any,
        /,
        block_size: Any,
        mask_out: Any,
        mask_lhs: Any,
        mask_rhs: Any,
        *,
        stream: Any,
        out: Any,
        precision: Any,
    ) -> Any: ...

    def explain(self, *arguments: Any) -> Any:
        """What maskmm.explain needs, from the arguments of block_masked_mm in order."""


class Framework(NamedTuple):
    module: str  # its key in sys.modules
    array: str  # its array type there
    load: Callable[[], Front]
    takes_all: bool = False  # of its front: no need to look at an array to know that it is for it


# Import statements, since torch.compile sees through those and not through importlib.
def _torch() -> Front:
    from maskmm.torch import _front

    return _front


def _cupy() -> Front:
    from maskmm._fronts import cupy

    return _device.OnDevice(cupy)


def _jax() -> Front:
    from maskmm._fronts import jax

    return jax


def _mlx() -> Front:
    from maskmm._fronts import mlx

    return mlx


def _dlpack() -> Front:
    from maskmm._fronts import dlpack

    return _device.OnDevice(dlpack)


FRAMEWORKS = (
    Framework("torch", "Tensor", _torch, True),
    Framework("cupy", "ndarray", _cupy),
    Framework("jax", "Array", _jax),
    Framework("mlx.core", "array", _mlx),
)
_NAMES = ("x", "a", "b", "mask_out", "mask_lhs", "mask_rhs", "out")
_fronts: dict[str, Front] = {}  # loaded so far
_fronts_of_types: dict[type, Front] = {}  # for the array types of frameworks whose fronts take all


def choose(
    a: Any, b: Any, mask_out: Any, mask_lhs: Any, mask_rhs: Any, out: Any, x: Any = None
) -> Front | None:
    """The front of the arguments; None where NumPy's is the one. x is block_masked_dot's.

    Raises:
        TypeError: x, a, b and out are not all of one framework, or a mask is of another. NumPy arrays and numbers are
            welcome as masks anywhere.
    """
    front = kind = None
    kinds = 0
    arrays = (x, a, b, mask_out, mask_lhs, mask_rhs, out)
    for array in arrays:
        if array is None or type(array) is kind:
            continue
        kinds += 1
        if type(array) is np.ndarray:
            continue
        own = _front_of(array)
        if own is None or own is front:
            continue
        if front is not None:
            raise _mixed(arrays)
        front, kind = own, type(array)
    if front is None or kinds == 1:
        return front
    for array in (a, b, x, out):
        if array is not None and type(array) is not kind and _front_of(array) is not front:
            raise _mixed(arrays)
    return front


def as_stream(stream: Any) -> Any:
    """A stream of torch's or CuPy's as one of ours. Whatever else comes is left for the extension to judge."""
    if stream is None or isinstance(stream, Stream | Device | DeviceType):
        return stream
    if hasattr(stream, "cuda_stream"):  # torch's
        return Stream.from_handle(Device(DeviceType.gpu, stream.device_index), stream.cuda_stream)
    if hasattr(stream, "ptr") and hasattr(stream, "device_id"):  # CuPy's; its null stream is of any device
        index = stream.device_id if stream.device_id >= 0 else sys.modules["cupy"].cuda.Device().id
        return Stream.from_handle(Device(DeviceType.gpu, index), stream.ptr)
    return stream


def _framework_of(x: Any) -> Framework | None:
    for framework in FRAMEWORKS:
        module = sys.modules.get(framework.module)
        if module is None:
            continue
        kind = getattr(module, framework.array, None)  # not there yet while another thread imports it
        if kind is not None and isinstance(x, kind):
            return framework
    return None


def _front_of(x: Any) -> Front | None:
    front = _fronts_of_types.get(type(x))
    if front is not None:  # isinstance(x, torch.Tensor) takes half a microsecond
        return front
    if isinstance(
        x, int | float
    ):  # which may be a symbol of torch.compile's, that can be asked for nothing else
        return None
    framework = _framework_of(x)
    if framework is not None:
        front = _fronts.get(framework.module) or _keep(framework.module, framework.load)
        if framework.takes_all and type(x) is getattr(sys.modules[framework.module], framework.array):
            _fronts_of_types[type(x)] = front
    elif hasattr(x, "__dlpack_device__"):
        front = _fronts.get("") or _keep("", _dlpack)
    else:
        return None
    return front if front.takes(x) else None


def _keep(name: str, load: Callable[[], Front]) -> Front:
    front = _fronts[name] = load()
    return front


def _mixed(arrays: tuple[Any, ...]) -> TypeError:
    concerned = [
        (name, x)
        for name, x in zip(_NAMES, arrays, strict=True)
        if x is not None and (not name.startswith("mask") or _front_of(x) is not None)
    ]
    names = ", ".join(name for name, _ in concerned)
    kinds = ", ".join(_kind(x) for _, x in concerned)
    return TypeError(f"{names}: expected arrays of one framework, got {kinds}")


def _kind(x: Any) -> str:
    """What a message calls x."""
    framework = _framework_of(x)
    if framework is not None:
        return f"{framework.module}.{framework.array}"
    if isinstance(x, np.ndarray):
        return "numpy.ndarray"
    return f"{type(x).__name__} on a GPU" if _front_of(x) is not None else type(x).__name__
