"""python/maskmm/_maskmm.pyi says what the extension module holds.

After a change of the bindings: python -m nanobind.stubgen -m maskmm._maskmm -o python/maskmm/_maskmm.pyi
"""

import ast
import inspect
from importlib.resources import files

from nanobind import stubgen

import maskmm._maskmm


def outline(source: str) -> str:
    """The source without layout: order of imports, line breaks, indentation of docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = inspect.cleandoc(node.value)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    others = [node for node in tree.body if node not in imports]
    tree.body = sorted(imports, key=ast.unparse) + others
    return ast.unparse(tree)


def test_stub_is_what_nanobind_generates() -> None:
    generator = stubgen.StubGen(maskmm._maskmm)
    generator.put(maskmm._maskmm)
    stub = files("maskmm").joinpath("_maskmm.pyi").read_text()
    assert outline(stub) == outline(generator.get())
