"""oneDNN's dense products, through the C interface of the library that the PyPI package onednn brings.

float32 matrices go to dnnl_sgemm; bfloat16, float16 and batches to the matmul primitive. The package is built for
SYCL: its CPU engine is the OpenCL CPU device of intel-opencl-rt, which takes plain pointers.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Any

from peers.base import Array, Missing, Peer, Problem, Run, blas_layout, find_library, load_library, pointer

# libdnnl.so names these without a path; loaded before it, by full path, they are found
NEEDED = (
    ("tbb", "libtbb.so.12"),
    ("intel-cmplr-lib-rt", "libintlc.so.5"),
    ("intel-cmplr-lib-rt", "libirng.so"),
    ("intel-cmplr-lib-rt", "libimf.so"),
    ("intel-cmplr-lib-rt", "libsvml.so"),
    ("tcmlib", "libhwloc.so.15"),
    ("umf", "libumf.so.1"),
    ("intel-cmplr-lib-ur", "libur_loader.so.0"),
    ("intel-sycl-rt", "libsycl.so.9"),
)
DATA_TYPES = {"float16": 1, "bfloat16": 2, "float32": 3, "float64": 7}
CPU_ENGINE, IN_ORDER, ARG_SOURCE, ARG_WEIGHTS, ARG_DESTINATION = 1, 1, 1, 33, 17
ISA_NAMES = {
    0x1: "sse4.1", 0x3: "avx", 0x7: "avx2", 0xF: "avx2_vnni", 0x1F: "avx2_vnni_2", 0x27: "avx512_core",
    0x67: "avx512_core_vnni", 0xE7: "avx512_core_bf16", 0x1EF: "avx512_core_fp16", 0xFEF: "avx512_core_amx",
    0x1FEF: "avx512_core_amx_fp16",
}  # fmt: skip


class Argument(ctypes.Structure):
    _fields_ = [("index", ctypes.c_int), ("memory", ctypes.c_void_p)]


class Version(ctypes.Structure):
    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


class OneDnn(Peer):
    name = "onednn"
    title = "oneDNN"
    kind = "dense"

    def __init__(self) -> None:
        path = find_library("onednn", "libdnnl.so.3")
        for distribution, name in NEEDED:
            try:
                ctypes.CDLL(str(find_library(distribution, name)))
            except (Missing, OSError):
                continue  # libdnnl says below what it misses
        self.library = load_library(path)
        with contextlib.suppress(Missing):
            os.environ["OCL_ICD_FILENAMES"] = str(find_library("intel-opencl-rt", "libintelocl.so"))
        self.engine, self.stream = ctypes.c_void_p(), ctypes.c_void_p()
        self.has_engine = (
            self.library.dnnl_engine_get_count(CPU_ENGINE) > 0
            and self.library.dnnl_engine_create(ctypes.byref(self.engine), CPU_ENGINE, ctypes.c_size_t(0))
            == 0
            and self.library.dnnl_stream_create(ctypes.byref(self.stream), self.engine, IN_ORDER) == 0
        )

    def describe(self) -> dict[str, str]:
        self.library.dnnl_version.restype = ctypes.POINTER(Version)
        version = self.library.dnnl_version().contents
        isa = self.library.dnnl_get_effective_cpu_isa()
        found = {
            "version": f"{version.major}.{version.minor}.{version.patch}",
            "isa": ISA_NAMES.get(isa, hex(isa)),
        }
        if not self.has_engine:
            found["limits"] = "no CPU engine (intel-opencl-rt): float32 matrices only"
        return found

    def prepare(self, problem: Problem) -> Run | None:
        if problem.dtype == "float32" and problem.out.ndim == 2:
            return self._sgemm(problem)
        return self._matmul(problem) if self.has_engine else None

    def _sgemm(self, problem: Problem) -> Run | None:
        a, b, out = problem.a, problem.b, problem.out
        layout_a, layout_b = blas_layout(a), blas_layout(b)
        if layout_a is None or layout_b is None:
            return None
        size, sgemm = ctypes.c_int64, self.library.dnnl_sgemm
        arguments = (
            *(ctypes.c_char(b"T" if layout[0] else b"N") for layout in (layout_a, layout_b)),
            *(size(extent) for extent in (a.shape[0], b.shape[1], a.shape[1])),
            ctypes.c_float(1), pointer(a), size(layout_a[1]), pointer(b), size(layout_b[1]),
            ctypes.c_float(0), pointer(out), size(out.shape[1]),
        )  # fmt: skip

        def call() -> None:
            _check(sgemm(*arguments))

        return Run(call, lambda: out)

    def _matmul(self, problem: Problem) -> Run | None:
        dnn, arrays = self.library, (problem.a, problem.b, problem.out)
        descriptors = [self._descriptor(array) for array in arrays]
        description, primitive = ctypes.c_void_p(), ctypes.c_void_p()
        if dnn.dnnl_matmul_primitive_desc_create(
            ctypes.byref(description), self.engine, descriptors[0], descriptors[1], None, descriptors[2], None
        ):
            return None  # this processor, or oneDNN, has no product of that type
        _check(dnn.dnnl_primitive_create(ctypes.byref(primitive), description))
        roles = (ARG_SOURCE, ARG_WEIGHTS, ARG_DESTINATION)
        memories = [self._memory(*pair) for pair in zip(descriptors, arrays, strict=True)]
        arguments = (Argument * 3)(*(Argument(*pair) for pair in zip(roles, memories, strict=True)))

        def call() -> None:
            _check(dnn.dnnl_primitive_execute(primitive, self.stream, 3, arguments))
            _check(dnn.dnnl_stream_wait(self.stream))

        return Run(call, lambda: problem.out)

    def _descriptor(self, array: Array) -> ctypes.c_void_p:
        extents: Any = ctypes.c_int64 * array.ndim
        descriptor = ctypes.c_void_p()
        strides = extents(*(stride // array.itemsize for stride in array.strides))
        create = self.library.dnnl_memory_desc_create_with_strides
        data_type = DATA_TYPES[str(array.dtype)]
        _check(create(ctypes.byref(descriptor), array.ndim, extents(*array.shape), data_type, strides))
        return descriptor

    def _memory(self, descriptor: ctypes.c_void_p, array: Array) -> ctypes.c_void_p:
        memory = ctypes.c_void_p()
        _check(self.library.dnnl_memory_create(ctypes.byref(memory), descriptor, self.engine, pointer(array)))
        return memory


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"oneDNN returned status {status}")


def create(threads: int) -> Peer:
    return OneDnn()
