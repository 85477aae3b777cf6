"""The level of detail follows what it costs, between two steps, and says so; a level that was chosen stays."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.protocol import Alternate, SettingsChanged
from engine.runtime import detail_choice
from engine.runtime.alternating import Alternation
from tests.engine.runtime.live_models import Bench, torch_kept

DEAR_NS = 1e6  # of a mark, as if it had been tried out


@pytest.fixture(autouse=True)
def torch_stays_as_it_was() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture
def bench(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(detail_choice, "FEWEST_STEPS", 4)
    monkeypatch.setattr(detail_choice, "SHORTEST_NS", 0)
    monkeypatch.setattr("engine.runtime.telemetry.REPORT_EVERY_NS", 0)
    monkeypatch.setattr("engine.trace.observer.BUDGET", 0.1)  # a tiny model has short steps
    made = Bench(checkpoint)
    yield made
    made.close()


def changes(bench: Bench) -> list[SettingsChanged]:
    return [event for event in bench.events if isinstance(event, SettingsChanged)]


def test_marks_that_cost_too_much_become_fewer_and_the_trace_says_why(bench: Bench) -> None:
    expected = bench.generate(tokens=24)
    assert not changes(bench)
    bench.workbench.observer.mark_cost_ns = DEAR_NS
    begin = len(changes(bench))
    assert bench.generate(tokens=24) == expected
    told = changes(bench)[begin:]
    assert [event.changes[0].effective for event in told] == ["phase", "step"]
    assert all(event.cause.startswith("marks took") for event in told)
    marks = bench.trace.marks[-2:]
    assert marks[0].text.startswith("detail → phase, since marks took ")
    assert dict(bench.trace.configuration)["detail"] == "step"
    assert bench.trace.steps.configuration[-1] == told[-1].configuration
    assert bench.trace.steps.held_ns[marks[1].step] > 0  # what the switch took is in no latency


@pytest.mark.parametrize("chosen", ["layer", "core"])
def test_a_level_that_was_chosen_is_not_overridden(bench: Bench, chosen: str) -> None:
    bench.workbench.observer.mark_cost_ns = DEAR_NS
    bench.workbench.change((("detail", chosen),))
    assert [(c.key, c.effective) for c in changes(bench)[-1].changes] == [
        ("detail", chosen),
        ("auto_detail", "off"),
    ]
    before = len(changes(bench))
    bench.generate(tokens=20)
    assert len(changes(bench)) == before
    assert dict(bench.trace.configuration)["detail"] == chosen


def test_a_level_chosen_at_load_is_kept_too(checkpoint: Path) -> None:
    made = Bench(checkpoint, (("detail", "phase"),))
    assert dict(made.trace.configuration)["auto_detail"] == "off"
    made.close()


def test_nothing_is_chosen_while_values_take_turns(bench: Bench) -> None:
    bench.workbench.observer.mark_cost_ns = DEAR_NS
    run = bench.start(tokens=40)
    run.alternation = Alternation(bench.workbench, Alternate("detail", "step"))
    before = len(changes(bench))
    for _ in range(20):
        run.step(False)
    assert len(changes(bench)) == before
    assert run.alternation is not None
    run.end("stopped")


def test_a_pipelined_token_is_on_the_host_before_the_level_changes(bench: Bench) -> None:
    expected = bench.generate(tokens=24)
    bench.workbench.change((("read_back", "pipelined"),))
    bench.workbench.is_awaited = lambda: False
    bench.workbench.observer.mark_cost_ns = DEAR_NS
    begin = len(changes(bench))
    assert bench.generate(tokens=24) == expected
    assert [event.changes[0].effective for event in changes(bench)[begin:]] == ["phase", "step"]
