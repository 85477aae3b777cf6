"""`engine compare`: two recorded sessions, by the command as people use it."""

import json
from pathlib import Path

import pytest

from engine.commands import main
from engine.protocol import Event, ModelLoaded
from engine.trace.metrics import METRICS
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace.building import APART, WHOLE, ended, loaded
from tests.engine.trace.recording.sessions import STARTED, written
from tests.engine.trace.runs import generation
from tests.engine.trace.test_against import EAGER, walls

Capture = pytest.CaptureFixture[str]


def session(path: Path, *events: Event, model: ModelLoaded | None = None) -> Path:
    return written(path, [STARTED, model or loaded(), APART, WHOLE, *events])


@pytest.fixture
def then(tmp_path: Path) -> Path:
    return session(tmp_path / "then.cyclograph", *generation(walls(200)), ended())


@pytest.fixture
def now(tmp_path: Path) -> Path:
    slow = generation(walls(200, 2_000, seed=2))
    return session(tmp_path / "now.cyclograph", *slow, ended(), model=loaded(effective=EAGER))


def test_a_table_for_people(then: Path, now: Path, capsys: Capture) -> None:
    assert main(["compare", str(then), str(now)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "reference: then"
    assert lines[1].strip() == "toy · 10 parameters, float32, random weights · on cpu, a CPU"
    assert lines[2].strip() == "all 201 steps"
    assert lines[3].strip() == "other settings: attention not known (here eager)"
    assert lines[4] == "this: now"
    (steps,) = [line.split() for line in lines if line.startswith("steps ")]
    assert steps == ["steps", "201", "201", "1.000×", "201", "201"]
    (median,) = [line for line in lines if line.startswith("inter-token latency, median")]
    assert 1.9 < float(median.split()[-3].rstrip("×")) < 2.1
    assert ", SLOWER in these two runs; 128 steps, 128 of the reference" in lines[-2]
    assert "in no interval" in lines[-1]


def test_the_same_for_programs(then: Path, now: Path, capsys: Capture) -> None:
    assert main(["compare", str(then), str(now), "--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["event"] == "comparison"
    assert told["differences"] == {"attention": {"reference": None, "this": "eager"}}
    assert told["step_time"]["verdict"] == "slower"
    assert told["step_time"]["low"] < told["step_time"]["ratio"] < told["step_time"]["high"]
    median = told["metrics"]["itl_p50"]
    assert median["ratio"] == median["this"]["value"] / median["reference"]["value"]
    assert median["reference"]["count"] == 200
    for key, each in told["metrics"].items():
        assert key in METRICS
        assert each["this"]["value"] is not None or each["reference"]["value"] is not None
    assert told["metrics"]["stalls"]["ratio"] is None, "0 of 0"


def test_too_few_steps_have_ratios_and_no_verdict(then: Path, tmp_path: Path, capsys: Capture) -> None:
    few = session(tmp_path / "few.cyclograph", *generation([1_000, 1_000]))
    assert main(["compare", str(then), str(few)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(
        "No verdict on the time of a step: it needs 64 steady ones on each side. There are 2 steps"
    )


def test_what_is_no_session_is_refused_with_a_sentence(then: Path, tmp_path: Path, capsys: Capture) -> None:
    other = tmp_path / "other.cyclograph"
    other.write_text("<b>no session</b>")
    empty = session(tmp_path / "empty.cyclograph")
    for pair, sentence in (
        ((then, other), "no session of Cyclograph"),
        ((other, then), "no session of Cyclograph"),
        ((then, tmp_path / "absent.cyclograph"), "absent.cyclograph"),
        ((empty, then), "'empty.cyclograph' has no steps to compare: choose another session."),
    ):
        assert main(["compare", *map(str, pair)]) == 2
        said = capsys.readouterr()
        assert sentence in said.err
        assert len(said.err.splitlines()) == 1
        assert not said.out


def test_a_real_run_against_itself(tmp_path: Path, capsys: Capture) -> None:
    llama, path = str(family_checkpoint("llama", tmp_path / "llama")), tmp_path / "run.cyclograph"
    run = ["run", "--model", llama, "--prompt", "你好", "--max-new-tokens", "100", "--ignore-end-token"]
    assert main([*run, "--record", str(path)]) == 0
    capsys.readouterr()
    assert main(["compare", str(path), str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differences"] == {}
    values = {key: each["this"]["value"] for key, each in told["metrics"].items()}
    ratios = {key: each["ratio"] for key, each in told["metrics"].items()}
    assert all(ratios[key] == (1 if value else None) for key, value in values.items())
    assert len(ratios) > 15
    assert told["step_time"]["reference_steps"] >= told["step_time"]["steps"] >= 64
