"""Prints requirements that pyproject.toml pins, so that they are written once.

requirements.py build        what the build back end needs
requirements.py runtime      what the installed package needs
requirements.py test lint    any extra or dependency group by its name
"""

import sys
import tomllib
from pathlib import Path

table = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
sections: dict[str, list[str]] = {
    "build": table["build-system"]["requires"],
    "runtime": table["project"]["dependencies"],
    **table["project"]["optional-dependencies"],
    **table["dependency-groups"],
}
for name in sys.argv[1:]:
    for requirement in sections[name]:
        print(f'"{requirement}"')
