"""The import contracts hold, and each would notice a violation."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("importlinter")

ROOT = Path(__file__).parents[2]
VIOLATIONS = {
    "engine/trace/phases.py": "import torch",
    "engine/protocol.py": "import transformers",
    "engine/hosts.py": "import engine.runtime.session",
    "engine/telemetry/host.py": "import torch",
    "engine/runtime/clocks.py": "import PySide6.QtCore",
    "engine/report.py": "import gui.units",
    "engine/trace/export/report.py": "import torch",
    "engine/command_line.py": "import engine.commands",
    "gui/units.py": "import engine.runtime.session",
    "gui/theme.py": "import torch",
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("tree")
    for package in ("engine", "gui"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", code, "--no-logo", "--no-cache"]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def test_the_contracts_hold(tree: Path) -> None:
    done = lint(tree)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("file", "line"), VIOLATIONS.items())
def test_a_violation_is_noticed(tree: Path, file: str, line: str) -> None:
    path = tree / file
    before = path.read_text()
    path.write_text(before + f"\n{line}\n")
    done = lint(tree)
    path.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "BROKEN" in done.stdout
