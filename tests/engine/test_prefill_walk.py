"""What settings do to prefill: turns of whole prompts, and what may be said of them."""

import json

import pytest

from engine.commands import main
from engine.prefill_walk import FAMILIES, KEYS, row_of_turns
from engine.walk import Row
from tests.engine.runtime.live_models import family_checkpoint


def test_turns_go_a_b_b_a_and_drift_falls_out() -> None:
    turns = [100.0, 210.0, 220.0, 120.0, 130.0, 280.0, 290.0, 150.0, 160.0, 340.0, 350.0, 180.0]
    row = row_of_turns(Row("x = 1", switch_ns=7), turns)
    assert row.ratio == pytest.approx(2.0, abs=0.15)
    assert (row.verdict, row.switch_ns) == ("slower", 7)


def test_too_few_turns_say_nothing() -> None:
    row = row_of_turns(Row("x = 1"), [1.0, 2.0, 2.0, 1.0])
    assert (row.ratio, row.verdict) == (None, "unclear")


def test_every_value_that_prefill_runs_under_takes_its_turns(
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llama = str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))
    monkeypatch.setattr("engine.walk.stations", lambda *_: [])  # what decoding does is another table
    assert main(["walk", "--model", llama, "--tokens", "32", "--prefill", "120", "--json"]) == 0
    printed = capsys.readouterr()
    rows = {row["station"]: row for row in map(json.loads, printed.out.splitlines())}
    assert {row["event"] for row in rows.values()} == {"prefill station"}
    assert rows["nothing (control)"]["ratio"] == pytest.approx(1.0, abs=0.5)
    for name in ("precision = bfloat16", "quantization = int8", "attention = eager"):
        assert 0 < rows[name]["low"] <= rows[name]["ratio"] <= rows[name]["high"]
        assert rows[name]["switch_ns"] > 0
    assert "attention = sdpa:cudnn" not in rows
    assert "prefill: precision = bfloat16 …" in printed.err
    assert "decoding" not in FAMILIES + KEYS


def test_for_people_it_is_a_table_behind_the_other(
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llama = str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))
    monkeypatch.setattr("engine.walk.stations", lambda *_: [])
    monkeypatch.setattr("engine.prefill_walk.FAMILIES", ())
    monkeypatch.setattr("engine.prefill_walk.KEYS", ("prefill_chunk",))
    assert main(["walk", "--model", llama, "--tokens", "32", "--prefill", "60"]) == 0
    lines = capsys.readouterr().out.splitlines()
    begin = next(at for at, line in enumerate(lines) if "time of prefill" in line)
    assert lines[begin + 1].startswith("nothing (control)")
    assert lines[-1].endswith("below 1 is faster.")
