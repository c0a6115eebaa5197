"""The machine, the environment of the timed process, and what is written about both."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# whatever starts so would change what a library does; OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE slow a current OpenBLAS
CLEANED = (
    "OPENBLAS_",
    "GOTO_",
    "MKL_",
    "ONEDNN_",
    "DNNL_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "BLIS_",
    "ATEN_",
    "MASKMM_",
)
# what limits every library to the same instructions
ISA_SETTINGS = {
    "native": {},
    "avx512": {"MASKMM_ISA": "avx512"},
    "avx2": {
        "MASKMM_ISA": "avx2",
        "OPENBLAS_CORETYPE": "Haswell",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
    },
}
THREAD_SETTINGS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "MASKMM_NUM_THREADS")


def cores() -> list[int]:
    """One logical processor of each core that the process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return _one_of_each_core(os.sched_getaffinity(0))


def _one_of_each_core(processors: Iterable[int]) -> list[int]:
    found: dict[tuple[str, str], int] = {}
    for cpu in sorted(processors):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            key = (topology / "physical_package_id").read_text(), (topology / "core_id").read_text()
        except OSError:
            key = "", str(cpu)
        found.setdefault(key, cpu)
    return list(found.values())


def environment(threads: int, isa: str) -> dict[str, str]:
    """The environment of a timed process: this one's, cleaned, with the settings for the threads and instructions."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(CLEANED)}
    return kept | ISA_SETTINGS[isa] | dict.fromkeys(THREAD_SETTINGS, str(threads))


def enter_clean_process(arguments: list[str], threads: int, isa: str) -> None:
    """Replaces this process by one that has a clean environment and may run on ``threads`` cores only.

    Libraries read their variables and count the processors when they are loaded, so this comes before their import.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[:threads])
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, *arguments], environment(threads, isa))


def settings() -> dict[str, str]:
    """The variables of this process that the libraries read."""
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith(CLEANED)}


def describe(threads: int) -> dict[str, Any]:
    fields = _cpu_fields()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    notable = (
        "avx2",
        "fma",
        "avx512f",
        "avx512_bf16",
        "avx512_fp16",
        "amx_bf16",
        "amx_fp16",
        "asimd",
        "bf16",
        "sve",
    )
    family = ", ".join(f"{key} {fields[key]}" for key in ("cpu family", "model", "stepping") if key in fields)
    return {
        "cpu": fields.get("model name") or platform.processor() or platform.machine(),
        "cpu_family": family,
        "instructions": [flag for flag in notable if flag in flags],
        "cores_of_machine": len(_one_of_each_core(range(os.cpu_count() or 1))),
        "threads": threads,
        "l2_bytes": _cache_bytes(2),
        "l3_bytes": _cache_bytes(3),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def commit() -> dict[str, Any]:
    """The commit of the work tree that this file is in, and whether the tree differs from it."""
    folder = Path(__file__).parent
    run = ["git", "-C", str(folder)]
    try:
        head = subprocess.run(
            [*run, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            [*run, "status", "--porcelain"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    sources = [line for line in changed.splitlines() if "bench/results" not in line]
    return {"commit": head, "changed": bool(sources)}


def _cpu_fields() -> dict[str, str]:
    """The fields of the first processor in /proc/cpuinfo."""
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cache_bytes(level: int) -> int | None:
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if int((index / "level").read_text()) == level:
                return int((index / "size").read_text().strip().rstrip("K")) * 1024
        except (OSError, ValueError):
            continue
    return None
