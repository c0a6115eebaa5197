"""README.md: the Python example prints what is shown (ctest runs the C++ one); no page has a dead link."""

import contextlib
import io
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_python_example_prints_what_it_shows() -> None:
    match = re.search(r"```python\n(.*?)```\s+```text\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None
    program, expected = match.groups()
    assert len(program.splitlines()) <= 11
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, str(README), "exec"), {})
    assert printed.getvalue() == expected


def test_links_lead_somewhere() -> None:
    root = README.parent
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())]
    broken = [(str(p), link) for p, link in links if "://" not in link and not (p.parent / link).exists()]
    assert broken == []
