"""The compiled part of maskmm."""

import enum
from typing import Any

class DeviceType(enum.Enum):
    """Kinds of devices."""

    cpu = 0
    """The processor."""

    gpu = 1
    """A CUDA GPU."""

class Device:
    """A place where arrays live and work runs."""

    def __init__(self, type: DeviceType, index: int = 0) -> None: ...
    @property
    def type(self) -> DeviceType:
        """Its kind."""

    @property
    def index(self) -> int:
        """Its number: 0 for the CPU; GPUs are numbered as CUDA numbers them."""

    def __eq__(self, other: object, /) -> bool: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __hash__(self) -> int: ...
    def __repr__(self) -> str: ...

class Stream:
    """
    An order of work on one device, from new_stream, default_stream or Stream.from_handle.
    """

    @staticmethod
    def from_handle(device: Device | DeviceType, handle: int) -> Stream:
        """
        A stream that somebody else made: handle is its cudaStream_t as a number, 0 the legacy default stream. It
        must live as long as it is used.

        Raises:
            ValueError: the device is not there.
        """

    @property
    def device(self) -> Device:
        """Where the work runs."""

    @property
    def index(self) -> int:
        """0 is the default stream of its device; -1 came from from_handle."""

    @property
    def handle(self) -> int:
        """The cudaStream_t as a number, 0 for the default stream and on the CPU."""

    def __cuda_stream__(self) -> tuple[int, int]:
        """For frameworks that take CUDA streams of others."""

    def __eq__(self, other: object, /) -> bool: ...
    def __hash__(self) -> int: ...
    def __repr__(self) -> str: ...

def devices() -> list[Device]:
    """The devices that are there, the CPU first."""

def default_device() -> Device:
    """
    Where results go that no input places: the CPU, unless set_default_device said otherwise.
    """

def set_default_device(device: Device | DeviceType) -> None:
    """
    Sets the default device of the process.

    Raises:
        ValueError: the device is not there.
    """

def default_stream(device: Device | DeviceType) -> Stream:
    """
    The default stream of a device.

    Raises:
        ValueError: the device is not there.
    """

def new_stream(device: Device | DeviceType) -> Stream:
    """
    A stream of its own on a device. It lives until the process ends.

    Raises:
        ValueError: the device is not there.
    """

def synchronize(stream: Stream | None = None) -> None:
    """
    Returns when all work on the stream is finished; by default, on the default stream of the default device.
    """

def num_threads() -> int:
    """
    Threads that one call on the CPU may use: at first the variable MASKMM_NUM_THREADS, or else the
    processors that the process may run on. Results do not depend on it.
    """

def set_num_threads(count: int) -> None:
    """
    Sets the threads that one call on the CPU may use, for the whole process.

    Raises:
        ValueError: a count below 1.
    """

def cpu_isa() -> str:
    """
    The instruction set of the CPU kernels: 'amx_bf16' or 'avx512_bf16' (AVX-512, and tiles or dot products for
    bfloat16, which take numbers below 2^-126 for zeros), 'avx512', 'avx2', 'neon' or 'portable'. The variable
    MASKMM_ISA forces one.
    """

def version() -> str:
    """The version of the library, 'major.minor.patch'."""

class DeviceView:
    """An array on a GPU, described by a front; see python/device_view.hpp."""

    def __init__(
        self,
        name: str,
        address: int,
        dtype: str,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        stride_bytes: int,
        device_index: int,
    ) -> None:
        """
        name: the argument, for messages. Strides count in units of stride_bytes; 0: in elements.
        """

    @staticmethod
    def from_dlpack(name: str, capsule: object, dtype: str) -> DeviceView:
        """dtype: what messages call a type that is refused."""

def xla_ffi_handlers() -> dict[str, object]:
    """
    For each platform of JAX a capsule with the handler of its typed foreign function interface.
    """

def register_table(type: type, table: object) -> None:
    """
    Arrays of this type are read through DLPack's C table from now on; see python/tensor_table.hpp.

    Raises:
        TypeError, ValueError: the table is of no use.
    """

def expect_dtype(argument: str, dtype: str) -> None:
    """
    Refuses an element type that maskmm has no name for.

    Raises:
        TypeError: it names argument and type.
    """

def expect_mask(argument: str, mask: object) -> None:
    """
    Refuses what no front takes for a mask: all but arrays of known types in host memory and numbers.

    Raises:
        TypeError, ValueError: it names the argument.
    """

def block_masked_mm(
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    /,
) -> Any: ...
def explain(
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    /,
) -> tuple[Device, str, str, str, int, float, int]: ...
def block_masked_dot(
    x: object,
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    /,
) -> Any: ...
def block_masked_dot_on_device(
    x: object,
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    current_stream: int,
    empty: object,
    /,
) -> Any: ...
def derivative_table() -> list[tuple[str, str, str, dict[str, str], tuple[int, int, int]]]:
    """src/core/derivative_table.hpp, for maskmm._derivatives."""

def result_type(
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    /,
) -> tuple[tuple[int, ...], str]: ...
def dot_result_type(
    x: object,
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    /,
) -> tuple[tuple[int, ...], str]: ...
def block_masked_mm_on_device(
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    current_stream: int,
    empty: object,
    /,
) -> Any: ...
def explain_on_device(
    a: object,
    b: object,
    block_size: object,
    mask_out: object,
    mask_lhs: object,
    mask_rhs: object,
    stream: object,
    out: object,
    precision: object,
    current_stream: int,
    /,
) -> tuple[Device, str, str, str, int, float, int]: ...
