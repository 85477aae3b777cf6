"""All outcomes of a sweep in words: totals of each family, then what does not work, by stage and reason."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import transformers

from engine.protocol import Family
from tests.sweep.examination import STAGES, Outcome, model_types
from tests.sweep.known_exceptions import KNOWN, PACKAGES

_COLUMNS = {"build": "built", "run": "run", "phases": "phases complete", "tokens": "= generate()"}
_FAILED = {
    "build": "not built",
    "run": "not run",
    "phases": "phases not complete",
    "tokens": "other answers than transformers' own",
}


def chosen(only: Sequence[str]) -> list[tuple[Family, str]]:
    """Every model type of every family, or those named. ValueError for a name that transformers does not know."""
    every = [(family, model_type) for family in Family for model_type in model_types(family)]
    if unknown := set(only) - {model_type for _, model_type in every}:
        raise ValueError(f"transformers has no language model of type {', '.join(sorted(unknown))}")
    return [each for each in every if not only or each[1] in only]


def report(outcomes: Sequence[Outcome]) -> str:
    """The table of totals and the list of exceptions."""
    return "\n".join(
        [f"transformers {transformers.__version__}", "", *_totals(outcomes), *_exceptions(outcomes)]
    )


def _totals(outcomes: Sequence[Outcome]) -> Iterable[str]:
    yield _row("family", "types", *_COLUMNS.values(), "unattributed")
    for family in Family:
        mine = [outcome for outcome in outcomes if outcome.family is family]
        if mine:
            yield _total(family.value, mine)
    yield _total("all", outcomes)
    yield "(unattributed: median share of wall time. An encoder does not generate: its words are compared instead.)"


def _total(name: str, outcomes: Sequence[Outcome]) -> str:
    counts = [sum(outcome.passed(stage) for outcome in outcomes) for stage in STAGES]
    shares = [
        outcome.unattributed for outcome in outcomes if outcome.passed("tokens") and outcome.passed("phases")
    ]
    share = f"{median(shares):.1%}" if shares else "–"
    return _row(name, len(outcomes), *counts, share)


def _row(name: str, *cells: Any) -> str:
    return f"{name:<18}" + "".join(f"{cell!s:>17}" for cell in cells)


def _exceptions(outcomes: Sequence[Outcome]) -> Iterable[str]:
    for stage in STAGES:
        failed = [outcome for outcome in outcomes if stage in outcome.failures]
        if failed:
            yield f"\n{_FAILED[stage]}: {len(failed)}"
        for outcome in failed:
            known = KNOWN.get((outcome.family, outcome.model_type), {}).get(stage)
            said = known or f"NOT KNOWN BEFORE: {outcome.failures[stage]}"
            yield f"  {outcome.model_type} ({outcome.family.value}): {said}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    """An outcome as JSON has it."""
    return {**asdict(outcome), "family": outcome.family.value}


def surprise(outcome: Outcome) -> str:
    """In what an outcome differs from what is known; "" when in nothing."""
    place = (outcome.family, outcome.model_type)
    known = {} if place in PACKAGES and not outcome.failures else KNOWN.get(place, {})
    news = [f"{stage}: {reason}" for stage, reason in outcome.failures.items() if stage not in known]
    works = [f"{stage}: works by now" for stage in known if stage not in outcome.failures]
    return "; ".join(news + works)
