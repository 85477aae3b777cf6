"""Prints what the engine needs without the window, with `--tests` its tests too: pyproject's dependencies less Qt's."""

import sys
import tomllib
from pathlib import Path

WINDOW = ("PySide6", "pyqtgraph", "pytest-qt")
CHECKERS = ("ruff", "mypy", "import-linter")


def main() -> None:
    """One requirement a line."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"]
    if "--tests" in sys.argv[1:]:
        declared = declared + project["optional-dependencies"]["test"]
    print("\n".join(line for line in declared if not line.startswith(WINDOW + CHECKERS)))


if __name__ == "__main__":
    main()
