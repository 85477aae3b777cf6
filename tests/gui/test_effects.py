"""The measured effect of a switch, found from a trace."""

import numpy as np
import pytest

from engine.trace.statistics import Verdict
from gui import effects as effects_module
from gui.effects import Effects
from tests.gui import synthetic

SHAPE = synthetic.Shape(layers=8, mark_every=400, spike_every=0)


def test_a_switch_that_helps_is_called_faster() -> None:
    found = Effects(synthetic.trace(800, SHAPE)).of("attention")
    assert found is not None
    assert found.change.effective == "sdpa"
    assert found.before == "eager"
    assert found.effect.verdict is Verdict.FASTER
    assert found.effect.ratio is not None
    assert 0.5 < found.effect.ratio < 0.95


def test_the_last_change_counts() -> None:
    found = Effects(synthetic.trace(1200, SHAPE)).of("attention")
    assert found is not None
    assert found.change.effective == "eager"
    assert found.effect.verdict is Verdict.SLOWER


def test_too_few_steps_have_no_number() -> None:
    found = Effects(synthetic.trace(410, SHAPE)).of("attention")
    assert found is not None
    assert found.effect.ratio is None
    assert found.effect.verdict is Verdict.UNCLEAR


def test_a_setting_that_never_changed_has_no_effect() -> None:
    assert Effects(synthetic.trace(800, SHAPE)).of("precision") is None


def test_a_verdict_is_computed_once_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = effects_module.effect

    def counted(before: np.ndarray, after: np.ndarray, *contexts: np.ndarray) -> object:
        calls.append(len(after))
        return real(before, after, *contexts)

    monkeypatch.setattr(effects_module, "effect", counted)
    trace = synthetic.trace(400, SHAPE)
    found = Effects(trace)
    events = list(synthetic.events(700, SHAPE))[-301:]
    trace.extend(events[:200])
    assert found.of("attention") is not None
    for event in events[200:208]:
        trace.append(event)
        found.of("attention")
    assert len(calls) == 1
