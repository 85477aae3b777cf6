"""What is said of two values that took turns, and of their outputs."""

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from engine.protocol import SamenessMeasured
from engine.trace.alternation import SelfTest
from engine.trace.effects import AlternationEffect
from engine.trace.sameness import Sameness
from engine.trace.statistics import Effect, Verdict
from gui.panels.experiment import (
    Experiment,
    Findings,
    alternation_text,
    sameness_text,
    sameness_tip,
    trust_text,
)
from tests.gui.conftest import settle


def alternation(ratio: float | None, pairs: int, goes_on: bool = False) -> AlternationEffect:
    low, high = (None, None) if ratio is None else (ratio - 0.01, ratio + 0.01)
    verdict = Verdict.UNCLEAR if ratio is None else Verdict.FASTER
    return AlternationEffect(
        "attention", "sdpa", "eager", 1, pairs, goes_on, Effect(ratio, low, high, verdict, pairs)
    )


def measured(first_difference: int, top1: float, kl: float) -> SamenessMeasured:
    sameness = Sameness(64, 32, first_difference, top1, kl, 3 * kl, -0.004)
    return SamenessMeasured(0, 7, 1, (("precision", "float32"),), sameness, 40_000_000)


@pytest.mark.parametrize(
    ("found", "text", "role"),
    [
        (None, "", "muted"),
        (alternation(None, 12, True), "A/B: 12 of 64 pairs", "muted"),
        (alternation(None, 12), "A/B: 12 of 64 pairs, too few for a verdict", "muted"),
        (alternation(0.8, 64), "A/B: 0.80× of eager, faster", "good"),
    ],
)
def test_what_is_said_of_turns(found: AlternationEffect | None, text: str, role: str) -> None:
    assert alternation_text(found) == (text, role)


def test_how_far_to_trust_it() -> None:
    assert "256 steps" in trust_text(None)
    assert trust_text(SelfTest(20, 20, 0.012)).endswith("differences below 1.2% cannot be told here now.")
    assert "too restless" in trust_text(SelfTest(80, 50, 0.012))


@pytest.mark.parametrize(
    ("event", "text", "role"),
    [
        (None, "", "muted"),
        (measured(-1, 1.0, 2e-9), "output: same greedy tokens, KL 2e-09 nats", "good"),
        (measured(-1, 0.97, 0.012), "output: same greedy tokens, top-1 97%, KL 0.012 nats", "warning"),
        (measured(4, 0.9, 0.25), "output: greedy differs at token 5, top-1 90%, KL 0.25 nats", "warning"),
    ],
)
def test_what_is_said_of_outputs(event: SamenessMeasured | None, text: str, role: str) -> None:
    assert sameness_text(event) == (text, role)


def test_how_outputs_were_compared() -> None:
    tip = sameness_tip(measured(4, 0.9, 0.25))
    assert "precision = float32" in tip
    assert "-0.004 nats a token" in tip
    assert "40.0 ms" in tip


@pytest.fixture
def experiment(qapp: QApplication) -> Iterator[Experiment]:
    holder = QWidget()  # never shown
    made = Experiment()
    QVBoxLayout(holder).addWidget(made)
    yield made
    holder.deleteLater()
    settle(qapp)


def test_nothing_is_offered_before_a_change(experiment: Experiment) -> None:
    experiment.show_findings(Findings())
    assert experiment.isHidden()


def test_what_costs_too_much_to_switch_is_not_offered_to_take_turns(experiment: Experiment) -> None:
    experiment.show_findings(Findings(other="eager", alternates=False))
    assert not experiment.isHidden()
    assert experiment.alternate.isHidden()
    assert not experiment.compare.isHidden()


def test_the_button_is_down_while_values_take_turns(experiment: Experiment) -> None:
    experiment.show_findings(Findings("eager", True, alternation(None, 3, goes_on=True)))
    assert experiment.alternate.isChecked()
    experiment.show_findings(Findings("eager", True, alternation(0.8, 64)))
    assert not experiment.alternate.isChecked()
