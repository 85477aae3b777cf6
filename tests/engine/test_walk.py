"""A walk through the settings: which stations there are, and what the table says of each."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from engine.commands import main
from engine.protocol import Choice, SettingFacts
from engine.trace.alternation import is_second
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from engine.walk import PAIRS, Station, Visit, row_of, stations
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace import building

FACTS = (
    SettingFacts(
        "attention", "attention", "", "choice", "sdpa",
        (Choice("sdpa", ""), Choice("eager", ""), Choice("flash", "", "Needs a GPU.")),
    ),
    SettingFacts("threads", "execution", "", "integer", 2, minimum=1, maximum=2),
    SettingFacts("top_k", "decoding", "", "integer", 0, minimum=0, maximum=500),
    SettingFacts("window", "execution", "", "integer", 1, minimum=1, maximum=1),
    SettingFacts("engine_place", "execution", "", "choice", "process", (Choice("process", ""), Choice("thread", ""))),
)  # fmt: skip
IN_FORCE = (("attention", "sdpa"), ("engine_place", "process"), ("threads", 2), ("top_k", 0), ("window", 1))


def test_every_value_but_the_one_in_force_is_visited_and_the_impossible_named() -> None:
    assert stations(FACTS, IN_FORCE) == [
        Station("nothing (control)", compares=True),
        Station("attention = eager", (("attention", "eager"),), True),
        Station("attention = flash", (("attention", "flash"),), True, "Needs a GPU."),
        Station("threads = 1", (("threads", 1),), True),
        Station("top_k = 40", (("top_k", 40), ("decoding", "sample")), False),
    ]


def test_a_static_cache_and_compiled_code_are_visited_together_where_both_are_possible() -> None:
    facts = (
        SettingFacts("kv_cache", "cache", "", "choice", "dynamic", (Choice("dynamic", ""), Choice("static", ""))),
        SettingFacts("compile", "execution", "", "choice", "off", (Choice("off", ""), Choice("default", ""))),
    )  # fmt: skip
    in_force = (("compile", "off"), ("kv_cache", "dynamic"))
    both = Station(
        "kv_cache = static, compile = default", (("kv_cache", "static"), ("compile", "default")), True
    )
    assert stations(facts, in_force)[-1] == both
    assert both not in stations((facts[0], replace(facts[1], reason="No compiler.")), in_force)


def trace_of_turns(under: float, tokens: int = 8, **others: Any) -> tuple[Trace, Visit]:
    """Turns A B B A; B's steps take `under` times as long; all get slower, and the first of each turn are slow."""
    trace = building.trace_of(building.started())
    generator = np.random.default_rng(0)
    visit = Visit(Station("x = 1", (("x", 1),)), switch_ns=5)
    for turn in range(2 * PAIRS):
        begin = len(trace.steps)
        for index in range(tokens):
            wall = 1e6 * (1 + len(trace.steps) / 300) * generator.normal(1, 0.002) * (3 if index < 2 else 1)
            wall = int(wall * under if is_second(turn) else wall)
            what = {"arrivals_ns": [wall]} | (others if is_second(turn) else {})
            trace.append(building.step(stamps=(0,) * 7 + (wall,), context_length=len(trace.steps), **what))
        visit.turns.append((begin, len(trace.steps)))
    return trace, visit


@pytest.mark.parametrize(("under", "verdict"), [(0.7, "faster"), (1.0, "unclear"), (1.4, "slower")])
def test_the_effect_is_against_the_neighbouring_turns(under: float, verdict: str) -> None:
    row = row_of(*trace_of_turns(under))
    assert row.ratio == pytest.approx(under, rel=0.02)
    assert row.verdict == verdict
    assert (row.switch_ns, row.tokens_per_step) == (5, 1.0)


def test_several_tokens_a_step_count_each() -> None:
    row = row_of(*trace_of_turns(1.5, arrivals_ns=[1, 1, 1], kind=StepKind.VERIFY))
    assert row.ratio == pytest.approx(0.5, rel=0.02)
    assert row.tokens_per_step == 3.0


def test_the_time_of_a_token_is_that_of_one_sequence_of_a_batch() -> None:
    row = row_of(*trace_of_turns(1.5, batch=4, sequences=range(4)))
    assert row.ratio == pytest.approx(1.5, rel=0.02)
    assert row.tokens_per_step == 4.0


def test_steps_on_which_beams_do_not_agree_count_too() -> None:
    row = row_of(*trace_of_turns(1.5, arrivals_ns=[], batch=2))
    assert row.ratio == pytest.approx(1.5, rel=0.02)
    assert row.tokens_per_step == 0.0


def test_what_was_refused_or_had_too_few_turns_has_no_figure() -> None:
    trace, visit = trace_of_turns(1.0)
    short = Visit(visit.station, visit.turns[:8])
    assert (row_of(trace, short).ratio, row_of(trace, short).verdict) == (None, "unclear")
    visit.refused = "No."
    assert (row_of(trace, visit).ratio, row_of(trace, visit).reason) == (None, "No.")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))


def test_a_walk_visits_everything_in_one_session_and_ends_where_it_began(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.walk.TOGETHER", ())  # each is compiled for, which takes long
    arguments = ["--tokens", "32", "--prefill", "0", "--json", "--set", "prefill_chunk=0"]
    assert main(["walk", "--model", llama, *arguments]) == 0
    rows = {row["station"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["nothing (control)"]["sameness"]["kl_mean"] == 0.0
    for name in ("attention = eager", "kv_cache = static", "kv_cache = none"):
        assert rows[name]["ratio"] > 0
        assert rows[name]["switch_ns"] > 0
        assert rows[name]["sameness"]["first_difference"] == -1
    assert rows["precision = bfloat16"]["sameness"]["kl_mean"] > 0
    assert rows["decoding = sample"]["sameness"] is None
    assert "No viable backend" in rows["attention = sdpa:cudnn"]["reason"]


def test_a_walk_for_people_is_a_table(llama: str, capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("engine.walk.stations", lambda *_: stations(FACTS[:1], IN_FORCE))
    assert main(["walk", "--model", llama, "--tokens", "32", "--prefill", "0"]) == 0
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines[0].split()[:2] == ["setting", "switch"]
    assert [line.split("  ")[0] for line in lines[1:3]] == ["nothing (control)", "attention = eager"]
    assert lines[-1] == "attention = flash: not possible here. Needs a GPU."
    assert "attention = eager …" in printed.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tokens", "4"], "too short"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--prompt", ""], "empty"),
    ],
)
def test_bad_input_is_one_sentence(llama: str, arguments: list[str], words: str, capsys) -> None:
    assert main(["walk", "--model", llama, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert words in error
