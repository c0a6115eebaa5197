"""MLX arrays: they go to maskmm.mlx."""

from __future__ import annotations

from typing import Any

import maskmm.mlx
from maskmm import _maskmm
from maskmm._maskmm import Device, DeviceType


def takes(x: Any) -> bool:
    return True


def block_masked_mm(*arrays: Any, stream: Any, out: Any, precision: Any) -> Any:
    _check_out(out)
    return maskmm.mlx.block_masked_mm(*arrays, stream=_without_ours(stream), precision=precision)


def block_masked_dot(*arrays: Any, stream: Any, out: Any, precision: Any) -> Any:
    _check_out(out)
    return maskmm.mlx.block_masked_dot(*arrays, stream=_without_ours(stream), precision=precision)


def explain(*arguments: Any) -> tuple[Device, str, str, str, int, float, int]:
    given = list(arguments)
    given[6] = _without_ours(given[6])
    return _maskmm.explain(*given)


def _without_ours(stream: Any) -> Any:
    """maskmm.cpu is where it runs in any case."""
    return None if stream is DeviceType.cpu or stream == Device(DeviceType.cpu) else stream


def _check_out(out: Any) -> None:
    if out is not None:
        raise TypeError(f"out: expected None, as MLX's arrays do not change, got {type(out).__name__}")
