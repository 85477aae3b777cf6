"""Steps that are told together are told as they would have been one by one, and before all that comes behind them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.protocol import Event, GenerationEnded, SettingsChanged, StepEnded
from engine.runtime.handing import MOST
from tests.engine.runtime.live_models import Bench, family_checkpoint, torch_kept

LONG_NS = 1_000_000_000_000


@pytest.fixture(autouse=True)
def _torch() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def gathering(checkpoint: Path) -> Iterator[Bench]:
    bench = Bench(checkpoint, gather_ns=LONG_NS)
    yield bench
    bench.close()


def steps_of(events: list[Event]) -> list[StepEnded]:
    return [event for event in events if isinstance(event, StepEnded)]


def timeless(event: StepEnded) -> StepEnded:
    tokens = tuple(replace(token, arrival_ns=0) for token in event.tokens)
    return replace(event, stamps=b"", held_ns=0, floor_ns=0, calibration=-1, tokens=tokens)


def generate(bench: Bench) -> list[StepEnded]:
    changes = {3: (("kv_cache", "static"),), 6: (("precision", "bfloat16"),), 9: (("kv_cache", "none"),)}
    run = bench.start(tokens=12)
    for step in range(12):
        if step in changes:
            bench.workbench.change(changes[step])
        run.step(held=step in changes)
    run.end("length")
    return steps_of(bench.events)


def test_they_are_told_as_if_one_by_one(checkpoint: Path, gathering: Bench) -> None:
    bench = Bench(checkpoint)
    try:
        expected = generate(bench)
    finally:
        bench.close()
    told = generate(gathering)
    assert [timeless(event) for event in told] == [timeless(event) for event in expected]
    assert len({event.configuration for event in told}) == 4
    assert all(event.moved_bytes for event in told)


def test_nothing_is_told_before_it_is_time(gathering: Bench) -> None:
    run = gathering.start(tokens=MOST + 10)
    for _ in range(MOST - 1):
        run.step(held=False)
    assert not steps_of(gathering.events)
    run.step(held=False)
    assert len(steps_of(gathering.events)) == MOST
    run.end("stopped")


def test_a_change_comes_behind_the_steps_before_it(gathering: Bench) -> None:
    run = gathering.start(tokens=8)
    for _ in range(3):
        run.step(held=False)
    gathering.workbench.change((("kv_cache", "static"),))
    run.step(held=True)
    run.end("stopped")
    kinds = [type(event) for event in gathering.events]
    changed = kinds.index(SettingsChanged)
    assert kinds[:changed].count(StepEnded) == 3
    assert kinds[changed:].count(StepEnded) == 1
    assert kinds[-1] is GenerationEnded
    before, after = (
        {event.configuration for event in steps_of(gathering.events[:changed])},
        gathering.workbench,
    )
    assert before == {0}
    assert steps_of(gathering.events)[-1].configuration == after.configuration == 1


def test_a_step_that_waits_can_be_captured_again(gathering: Bench) -> None:
    run = gathering.start(tokens=8)
    for _ in range(4):
        run.step(held=False)
    gathering.workbench.capture_again(3)
    assert [event.index for event in steps_of(gathering.events)] == [0, 1, 2, 3]
    run.end("stopped")


def test_who_waits_is_told_at_once(checkpoint: Path) -> None:
    bench = Bench(checkpoint, gather_ns=LONG_NS)
    try:
        run = bench.start(tokens=8)
        run.step(held=False)
        assert not steps_of(bench.events)
        bench.workbench.is_awaited = lambda: True
        run.step(held=False)
        assert len(steps_of(bench.events)) == 2
        run.end("stopped")
    finally:
        bench.close()
