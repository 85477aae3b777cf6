"""`python -m engine compare`: one recorded session against another, as the window sets a run against its reference."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from engine.bad_input import BadInput
from engine.exporting import load_trace
from engine.protocol import Configuration
from engine.sample_session import session_path
from engine.trace import units
from engine.trace.against import (
    CAUSE,
    RUNS,
    Against,
    Ratio,
    StepTimes,
    differences,
    ratio_to,
    reference_lines,
)
from engine.trace.export import excerpt_of
from engine.trace.metrics import METRICS, as_json, summary
from engine.trace.reference import Reference, reference_of
from engine.trace.store import Trace
from engine.trace.wording import formatted


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument(
        "reference", metavar="REFERENCE", type=session_path, help="the recorded session to compare with"
    )
    parser.add_argument(
        "file", metavar="FILE", type=session_path, help="the recorded session that is compared"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run_compare)


def run_compare(options: argparse.Namespace) -> int:
    """Print every metric of both with its ratio, and the verdict on step times. Raises ExportRefused, BadInput."""
    reference = reference_of(excerpt_of(_trace(options.reference)), options.reference.stem)
    trace = _trace(options.file)
    measured = summary(trace)
    ratios = [ratio_to(reference.measured, measured[key]) for key in METRICS]
    known = [each for each in ratios if each.measured.value is not None or each.reference.value is not None]
    times = Against(reference, trace).step_times(range(len(trace.steps)))
    if options.json:
        print_json(reference, trace, known, times, sys.stdout)
    else:
        print_text(reference, trace, options.file.stem, known, times, sys.stdout)
    return 0


def _trace(path: Path) -> Trace:
    trace = load_trace(path)
    if not len(trace.steps):
        raise BadInput(f"'{path.name}' has no steps to compare: choose another session.")
    return trace


def print_text(
    reference: Reference, trace: Trace, name: str, ratios: Iterable[Ratio], times: StepTimes, out: TextIO
) -> None:
    """A table for people: what both are, the metrics, and what may be believed of the time of a step."""
    now = times.configuration or trace.configuration
    model = f"{trace.model.name}, {trace.model.dtype}, on {trace.model.device}" if trace.model else "no model"
    print(f"reference: {reference.name}", file=out)
    for line in reference_lines(reference, now):
        print(f"    {line}", file=out)
    print(f"this: {name}\n    {model}; {len(trace.steps):,} steps\n", file=out)
    print(_line(("metric", "this", "reference", "ratio", "n", "n of reference")), file=out)
    for each in ratios:
        cells = formatted(each.measured), formatted(each.reference), units.fine_ratio(each.ratio)
        counts = f"{each.measured.count:,}", f"{each.reference.count:,}"
        print(_line((each.measured.metric.name, *cells, *counts)), file=out)
    print(f"\n{times_sentence(times)}", file=out)


def _line(cells: Sequence[str]) -> str:
    name, *others = cells
    return f"{name:<40}" + "".join(f"{cell:>16}" for cell in others)


def times_sentence(times: StepTimes) -> str:
    """The verdict on the time of a step, with what it stands on."""
    effect = times.effect
    stands = (
        f"{times.steps:,} steps, {times.reference_steps:,} of the reference, at the same lengths of context"
    )
    if effect.ratio is None or effect.low is None or effect.high is None:
        return f"No verdict on the time of a step: it needs 64 steady ones on each side. There are {stands}."
    return (
        f"Time of a step, this / reference: {effect.ratio:.3f}× (95 % interval {effect.low:.3f} to {effect.high:.3f}),"
        f" {effect.verdict.value.upper()} {RUNS}; {stands}.\n"
        f"{CAUSE}: what the machine did in between is in the ratio, and in no interval."
    )


def print_json(
    reference: Reference, trace: Trace, ratios: Iterable[Ratio], times: StepTimes, out: TextIO
) -> None:
    """The same as one JSON object, times in ns."""
    now = times.configuration or trace.configuration
    metrics = {
        each.measured.metric.key: {
            "this": as_json(each.measured),
            "reference": as_json(each.reference),
            "ratio": each.ratio,
        }
        for each in ratios
    }
    told = {
        "event": "comparison",
        "reference": _facts(reference.model, reference.configurations[0] if reference.configurations else ()),
        "this": _facts(trace.model, now),
        "differences": _differences(reference, now),
        "metrics": metrics,
        "step_time": asdict(times.effect) | {"steps": times.steps, "reference_steps": times.reference_steps},
    }
    print(json.dumps(told, ensure_ascii=False), file=out)


def _facts(model: Any, configuration: Configuration) -> dict[str, Any]:
    facts = {"name": model.name, "dtype": model.dtype, "device": model.device} if model else {}
    return {"model": facts, "configuration": dict(configuration)}


def _differences(reference: Reference, now: Configuration) -> dict[str, dict[str, object]]:
    first = reference.configurations[0] if reference.configurations else ()
    return {key: {"reference": then, "this": value} for key, then, value in differences(first, now)}
