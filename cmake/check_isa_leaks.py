"""Proves that code compiled for one instruction set cannot end up serving another.

    check_isa_leaks.py NM OBJECT...

An inline function or template that several objects hold is one function after linking, and the linker may
keep the copy that was compiled with -mavx512f. So a weak symbol in an object from a kernels/ folder must
belong to that object alone, and nothing of the standard library may be among them.
"""

import re
import subprocess
import sys
from collections import defaultdict
from pathlib import PurePath

WEAK = set("WVuwv")
STANDARD_LIBRARY = re.compile(r"_Z(TI|TS|TV|TT)?(N[VKRO]*)?(St|Sa|Ss|Sb|Si|So|Sd|N?9__gnu_cxx)")


def defined_symbols(nm: str, path: str) -> list[tuple[str, str]]:
    command = [nm, "--defined-only", "-P", path]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [(fields[0], fields[1]) for line in output.splitlines() if len(fields := line.split()) >= 2]


def main(nm: str, objects: list[str]) -> int:
    holders: dict[str, set[str]] = defaultdict(set)
    weak: list[tuple[str, str]] = []
    kernels = 0
    for path in objects:
        is_kernel = PurePath(path).parent.name == "kernels"
        kernels += is_kernel
        for symbol, kind in defined_symbols(nm, path):
            if kind.isupper() or kind in WEAK:
                holders[symbol].add(path)
            if is_kernel and kind in WEAK:
                weak.append((symbol, path))
    leaks = [
        f"{PurePath(path).name}: {symbol}"
        for symbol, path in weak
        if STANDARD_LIBRARY.match(symbol) or len(holders[symbol]) > 1
    ]
    print(f"{kernels} kernel objects of {len(objects)}, {len(weak)} weak symbols, {len(leaks)} leaks:")
    print("\n".join(leaks))
    return 1 if leaks or not kernels else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
