"""On a machine with a GPU the scenarios run and find what is expected; elsewhere they are rehearsed on the CPU."""

import json
import re
from pathlib import Path

import pytest
import torch

from tests.gpu import __main__ as command
from tests.gpu import report
from tests.gpu.rig import Outcome, Setup
from tests.gpu.scenarios import SCENARIOS

needs_gpu = pytest.mark.skipif(
    not torch.accelerator.is_available(), reason="torch finds no accelerator on this machine"
)
#: Ratios of times are for a quiet machine: `python -m tests.gpu` judges them.
EXACT = ("synchronizations", "ledger", "lanes", "graphs", "split", "lost-device")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("name", EXACT)
def test_a_scenario_finds_what_is_expected(name: str, tmp_path: Path) -> None:
    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    outcome = command.run(Setup(f"{kind.type}:0", "llama-30m", "gpt2-124m", 64, 2, tmp_path), name)
    assert outcome.is_good, report.printed(outcome)


@pytest.mark.parametrize("name", ["ledger", "mark-cost", "split", "lost-device"])
def test_a_rehearsal_runs_and_leaves_traces(name: str, tmp_path: Path) -> None:
    outcome = command.run(Setup("cpu", "tiny", "tiny", 12, 1, tmp_path), name)
    assert outcome.problem == ""
    assert outcome.findings
    for trace in outcome.traces:
        lines = [json.loads(line) for line in (tmp_path / trace).read_text().splitlines()]
        assert lines[0]["event"] == "model"
        assert lines[-1]["event"] == "summary" or name == "mark-cost"


def test_without_a_gpu_nothing_is_measured_and_the_report_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    before = report.PATH.read_text(encoding="utf-8")
    assert command.main(["--out", str(tmp_path)]) == 2
    assert "no GPU" in capsys.readouterr().err
    assert report.PATH.read_text(encoding="utf-8") == before
    if "Not measured" in before:
        assert before == report.nothing_measured()


def test_a_rehearsal_is_never_written_as_a_report_of_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "run_apart", lambda name, _: Outcome(name))
    before = report.PATH.read_text(encoding="utf-8")
    assert command.main(["--rehearse", "--out", str(tmp_path)]) == 0
    assert report.PATH.read_text(encoding="utf-8") == before
    written = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "nothing here is of a GPU" in written
    assert all(f"## {name}" in written for name in SCENARIOS)
    assert "--- ledger" in capsys.readouterr().out


def test_a_scenario_that_fails_is_a_problem_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(setup: Setup, outcome: Outcome) -> None:
        outcome.found("before it", "1")
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")

    monkeypatch.setitem(SCENARIOS, "ledger", fails)
    outcome = command.run(Setup("cpu", out=tmp_path), "ledger")
    assert outcome.problem == "RuntimeError: CUDA error: device-side assert triggered"
    assert not outcome.is_good
    assert "look here" in report.printed(outcome)


def test_no_qt_is_needed() -> None:
    imported = re.compile(r"^(?:from|import) ([A-Za-z0-9_]+)", re.MULTILINE)
    for file in Path(command.__file__).parent.glob("*.py"):
        assert not {"gui", "PySide6", "pyqtgraph"} & set(imported.findall(file.read_text())), file.name
