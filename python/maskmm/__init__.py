"""Matrix products that leave whole blocks out, at the speed of a dense library per block that is kept."""

from maskmm import patterns
from maskmm._front import Explanation, block_masked_dot, block_masked_mm, explain
from maskmm._maskmm import (
    Device,
    DeviceType,
    Stream,
    cpu_isa,
    default_device,
    default_stream,
    devices,
    new_stream,
    num_threads,
    set_default_device,
    set_num_threads,
    synchronize,
    version,
)

__version__ = version()
cpu = DeviceType.cpu
gpu = DeviceType.gpu

__all__ = [
    "Device",
    "DeviceType",
    "Explanation",
    "Stream",
    "__version__",
    "block_masked_dot",
    "block_masked_mm",
    "cpu",
    "cpu_isa",
    "default_device",
    "default_stream",
    "devices",
    "explain",
    "gpu",
    "new_stream",
    "num_threads",
    "patterns",
    "set_default_device",
    "set_num_threads",
    "synchronize",
]
