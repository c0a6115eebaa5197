"""What README.md, the tutorial and the docstrings show is what happens. No page has a dead link."""

import contextlib
import doctest
import importlib
import io
import pkgutil
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

import maskmm
import maskmm.torch

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
FRAMEWORKS = [name for name in ("jax", "mlx") if find_spec(name) is not None]  # wheels are not everywhere
NEEDED = {
    "maskmm.jax": "jax",
    "maskmm._jax_primitive": "jax",
    "maskmm.mlx": "mlx",
    "maskmm._mlx_graph": "mlx",
}
MODULES = [f"maskmm.{m.name}" for m in pkgutil.iter_modules(maskmm.__path__) if m.name != "__main__"]
MODULES += [f"maskmm.torch.{m.name}" for m in pkgutil.iter_modules(maskmm.torch.__path__)]
MODULES = [name for name in MODULES if NEEDED.get(name, "") in ("", *FRAMEWORKS)]


def test_readme_prints_what_it_shows() -> None:
    """The C++ example of the README is run by ctest."""
    match = re.search(r"```python\n(.*?)```\s+```text\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None
    program, expected = match.groups()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(README), "exec"), {})
    assert printed.getvalue() == expected


@pytest.mark.parametrize(
    "name", ["tutorial.md", "derivatives.md", "torch.md", *(f"{name}.md" for name in FRAMEWORKS)]
)
def test_pages(name: str) -> None:
    threads = maskmm.num_threads()
    page = ROOT / "docs" / name
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    assert run(test) == doctest.TestResults(0, len(test.examples))
    maskmm.set_num_threads(threads)


@pytest.mark.parametrize("name", ["maskmm", *MODULES])
def test_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module):
        assert run(test).failed == 0


def run(test: doctest.DocTest) -> doctest.TestResults:
    output = io.StringIO()
    results = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=output.write)
    assert results.failed == 0, output.getvalue()
    return results


def test_links_lead_somewhere() -> None:
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())]
    broken = [(str(p), link) for p, link in links if "://" not in link and not (p.parent / link).exists()]
    assert broken == []
