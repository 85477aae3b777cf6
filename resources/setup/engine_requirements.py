"""Prints what the engine needs without the window (and pytest to test it): pyproject's dependencies less Qt's."""

import tomllib
from pathlib import Path

WINDOW = ("PySide6", "pyqtgraph")
TEST = ("pytest>=", "pytest-timeout", "hypothesis")


def main() -> None:
    """One requirement a line."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    needed = [line for line in project["dependencies"] if not line.startswith(WINDOW)]
    needed += [line for line in project["optional-dependencies"]["test"] if line.startswith(TEST)]
    print("\n".join(needed))


if __name__ == "__main__":
    main()
