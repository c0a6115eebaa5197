"""python/xla_ffi_abi.hpp declares what XLA's own headers do, of the jaxlib that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from jax_setup import jax

OURS = Path(__file__).parents[1] / "python" / "xla_ffi_abi.hpp"
# Our struct, XLA's, and the fields of both. Fields of one line have the same offset and size.
STRUCTS: dict[tuple[str, str], str] = {
    ("ApiVersion", "XLA_FFI_Api_Version"): "struct_size extension_start major_version minor_version",
    ("Metadata", "XLA_FFI_Metadata"): "struct_size api_version traits state_type_id",
    ("MetadataExtension", "XLA_FFI_Metadata_Extension"): "extension_base metadata",
    (
        "ErrorCreateArgs",
        "XLA_FFI_Error_Create_Args",
    ): "struct_size extension_start message code=errc",
    ("ErrorDestroyArgs", "XLA_FFI_Error_Destroy_Args"): "struct_size extension_start error",
    (
        "MemoryAllocateArgs",
        "XLA_FFI_DeviceMemory_Allocate_Args",
    ): "struct_size extension_start context=ctx size alignment data",
    (
        "MemoryFreeArgs",
        "XLA_FFI_DeviceMemory_Free_Args",
    ): "struct_size extension_start context=ctx size data",
    ("StreamGetArgs", "XLA_FFI_Stream_Get_Args"): "struct_size extension_start context=ctx stream",
    (
        "DeviceOrdinalGetArgs",
        "XLA_FFI_DeviceOrdinal_Get_Args",
    ): "struct_size extension_start context=ctx device_ordinal",
    ("Api", "XLA_FFI_Api"): "struct_size extension_start api_version internal_api "
    "error_create=XLA_FFI_Error_Create error_destroy=XLA_FFI_Error_Destroy stream_get=XLA_FFI_Stream_Get "
    "memory_allocate=XLA_FFI_DeviceMemory_Allocate memory_free=XLA_FFI_DeviceMemory_Free "
    "device_ordinal_get=XLA_FFI_DeviceOrdinal_Get",
    ("Buffer", "XLA_FFI_Buffer"): "struct_size extension_start dtype data rank dims",
    ("Buffers", "XLA_FFI_Args"): "struct_size extension_start size types values=args",
    ("Buffers", "XLA_FFI_Rets"): "struct_size extension_start size types values=rets",
    ("ByteSpan", "XLA_FFI_ByteSpan"): "data=ptr size=len",
    ("Array", "XLA_FFI_Array"): "dtype size data",
    ("Attributes", "XLA_FFI_Attrs"): "struct_size extension_start size types names values=attrs",
    ("CallFrame", "XLA_FFI_CallFrame"): "struct_size extension_start api context=ctx stage arguments=args "
    "results=rets attributes=attrs",
}
CONSTANTS = {
    "kApiMajor": "XLA_FFI_API_MAJOR",
    "kMetadataExtension": "XLA_FFI_Extension_Metadata",
    "kArrayAttribute": "XLA_FFI_AttrType_ARRAY",
    "ErrorCode::invalid_argument": "XLA_FFI_Error_Code_INVALID_ARGUMENT",
    "ErrorCode::resource_exhausted": "XLA_FFI_Error_Code_RESOURCE_EXHAUSTED",
    "ErrorCode::unimplemented": "XLA_FFI_Error_Code_UNIMPLEMENTED",
    "ErrorCode::internal": "XLA_FFI_Error_Code_INTERNAL",
}
DTYPES = "PRED S8 S16 S32 S64 U8 U16 U32 U64 F16 F32 F64"  # 1 to 12, as xla_ffi.cpp numbers them


def checks() -> list[str]:
    lines = []
    for (ours, theirs), fields in STRUCTS.items():
        for field in fields.split():
            mine, _, other = field.partition("=")
            other = other or mine
            lines.append(f"static_assert(offsetof({ours}, {mine}) == offsetof(::{theirs}, {other}));")
            lines.append(f"static_assert(sizeof({ours}::{mine}) == sizeof(::{theirs}::{other}));")
    lines += [
        f"static_assert(static_cast<int>({ours}) == static_cast<int>({theirs}));"
        for ours, theirs in CONSTANTS.items()
    ]
    lines += [f"static_assert(XLA_FFI_DataType_{name} == {i});" for i, name in enumerate(DTYPES.split(), 1)]
    lines += ["static_assert(XLA_FFI_DataType_BF16 == 16);", "static_assert(kApiMinor <= XLA_FFI_API_MINOR);"]
    return lines


def test_declarations_are_those_of_jaxlib(tmp_path: Path) -> None:
    program = [
        "#include <cstddef>",
        '#include "xla/ffi/api/c_api.h"',
        f'#include "{OURS}"',
        "using namespace maskmm::python::xla;",
        *checks(),
    ]
    source = tmp_path / "abi.cpp"
    source.write_text("\n".join(program))
    compiler = shutil.which("c++") or shutil.which("g++")
    assert compiler is not None, "the package itself was built with a compiler"
    command = [compiler, "-std=c++20", "-fsyntax-only", "-I", jax.ffi.include_dir(), str(source)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_every_field_is_compared() -> None:
    """A field that is added to the header is added here too; Api's others are only counted."""
    text = OURS.read_text()
    for ours, fields in {ours: fields for (ours, _), fields in STRUCTS.items()}.items():
        body = text.partition(f"struct {ours} {{")[2].partition("};")[0]
        declared = [line for line in body.splitlines() if ";" in line or "," in line]
        assert declared, ours
        if ours != "Api":
            assert len(declared) == len(fields.split()), ours
