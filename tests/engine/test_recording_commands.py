"""Recording a real run, and saying again what it said: by the commands that people use."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from engine.commands import main
from engine.sample_session import SAMPLE_FILE
from engine.trace.recording import read_session
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace.recording.sessions import rich, written

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))


def run(llama: str, *more: str) -> int:
    return main(["run", "--model", llama, "--prompt", "你好", "--max-new-tokens", "12", *more])


def test_a_replay_prints_what_the_run_printed(llama: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run.cyclograph"
    settings = [
        "--at",
        "4:attention=eager",
        "--join",
        "5:abc",
        "--training-step",
        "7",
        "--set",
        "prefill_chunk=4",
    ]
    assert run(llama, "--json", "--record", str(path), *settings) == 0
    live = capsys.readouterr()
    assert f"steps in {path}, at " in live.err
    assert main(["replay", str(path), "--json"]) == 0
    again = capsys.readouterr()
    said = live.out.splitlines()
    begin = next(place for place, line in enumerate(said) if line.startswith('{"event": "model"'))
    assert again.out.splitlines() == said[begin:]  # with its model a session begins
    assert len(said) > 20
    assert [each.name for each in tmp_path.iterdir()] == ["run.cyclograph"]
    metadata = read_session(path).metadata
    assert metadata["front"] == "engine run"
    assert metadata["ended_at"]


def test_for_people_too_and_it_can_be_exported(llama: str, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "run.cyclograph"
    assert run(llama, "--record", str(path)) == 0
    live = capsys.readouterr()
    assert main(["replay", str(path)]) == 0
    again = capsys.readouterr()
    assert again.out == live.out
    assert "first token" in again.err
    assert main(["export", str(path), "--to", str(tmp_path / "run.jsonl")]) == 0
    records = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert sum(record["event"] == "step" for record in records) == len(read_session(path).steps)


def test_at_the_speed_of_then(tmp_path: Path, capsys: Capture) -> None:
    path = written(tmp_path / "a.cyclograph", rich())
    assert main(["replay", str(path), "--speed", "1000"]) == 0
    assert "[ended: length]" in capsys.readouterr().err


def test_a_file_that_is_there_is_replaced_only_on_request(
    llama: str, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "run.cyclograph"
    path.write_text("mine")
    assert run(llama, "--record", str(path)) == 2
    assert "already: choose another name, or replace it with --force." in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert run(llama, "--record", str(path), "--force") == 0
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM tokens").fetchone() == (12,)


def test_a_place_where_no_file_can_be_is_said_before_anything_is_loaded(
    tmp_path: Path, capsys: Capture
) -> None:
    assert run("no such model", "--record", str(tmp_path / "nowhere" / "a.cyclograph")) == 2
    assert "choose a name in a directory that exists" in capsys.readouterr().err


def test_a_file_that_is_no_session_is_refused(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.txt").write_text("no session")
    assert main(["replay", str(tmp_path / "a.txt")]) == 2
    assert capsys.readouterr().err == "'a.txt' is no session of Cyclograph: choose another file.\n"
    assert main(["export", str(tmp_path / "a.txt"), "--to", str(tmp_path / "b.jsonl")]) == 2
    assert "is no session" in capsys.readouterr().err


def test_the_sample_is_at_hand_by_its_name(tmp_path: Path, capsys: Capture) -> None:
    assert main(["replay", "sample", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = len(read_session(SAMPLE_FILE).steps)
    assert sum(record["event"] == "step" for record in records) == steps
    assert records[-1]["event"] == "summary"
    assert main(["export", "sample", "--to", str(tmp_path / "sample.csv")]) == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "fast"])
def test_a_speed_is_above_nothing(tmp_path: Path, capsys: Capture, speed: str) -> None:
    with pytest.raises(SystemExit):
        main(["replay", str(tmp_path / "a"), "--speed", speed])
    assert "--speed" in capsys.readouterr().err
