"""`python -m engine sessions`: what was recorded, for people and for programs, without Qt and without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.commands import main
from engine.protocol import NoteTaken
from engine.trace.recording.recorder import metadata
from engine.trace.recording.session_file import SessionFile
from tests.engine.trace.recording.sessions import LOADED, rich

EARLY, LATE = "2026-01-02T03:04:05+00:00", "2026-02-02T03:04:05+00:00"


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this user's sessions are: two whole ones, and what is none."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    directory = (
        tmp_path / ("Library/Application Support" if sys.platform == "darwin" else "") / "cyclograph/sessions"
    )
    directory.mkdir(parents=True)
    for name, at, title in (("late", LATE, "\x1b[31mred\x1b[0m"), ("early", EARLY, "")):
        file = SessionFile(
            directory / f"{name}.cyclograph", metadata(LOADED, "test") | {"started_at": at, "title": title}
        )
        file.write([*rich(), NoteTaken(1, 2, "a note")])
        file.note({"ended_at": at, "pinned": "yes" if title else ""})
        file.close()
    (directory / "broken.cyclograph").write_text("no session")
    return directory


def test_for_people_there_is_a_line_a_session_the_latest_first(
    sessions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions"]) == 0
    broken, late, early = capsys.readouterr().out.splitlines()
    assert "is no session of Cyclograph" in broken
    assert str(sessions / "late.cyclograph") in late
    assert "35 steps" in late
    assert late.endswith("pinned")
    assert "\x1b" not in late
    assert "toy" in early


def test_for_programs_there_is_an_object_a_session(
    sessions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions", "--in", str(sessions), "--json"]) == 0
    broken, late, early = map(json.loads, capsys.readouterr().out.splitlines())
    assert broken["problem"]
    assert early["path"] == str(sessions / "early.cyclograph")
    assert (early["model"], early["title"], early["steps"], early["tokens"]) == ("toy", "", 35, 34)
    assert "a note" in early["notes"]
    assert early["size_bytes"] == (sessions / "early.cyclograph").stat().st_size
    assert (late["is_pinned"], late["is_interrupted"], late["is_live"]) == (True, False, False)
    assert late["started_at"].startswith("2026-02-0")


def test_where_there_is_nothing_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sessions", "--in", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"No session has been recorded in {tmp_path}.\n"
    assert main(["sessions", "--in", str(tmp_path / "nowhere")]) == 2
    assert "There is no directory" in capsys.readouterr().err


def test_it_needs_neither_torch_nor_qt(tmp_path: Path) -> None:
    code = (
        "import sys; from engine.commands import main; main(sys.argv[1:]);"
        "bad = {'torch', 'transformers', 'PySide6'} & set(sys.modules); sys.exit(f'imported {bad}' if bad else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "sessions", "--in", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
