"""The tables of a report, as HTML. Each function gives "" where it has nothing to show."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from engine.protocol import Family, PartCompared
from engine.trace import units
from engine.trace.effects import Effects, MeasuredEffect, effect_of_alternation, trust
from engine.trace.export.drawing import SERIES
from engine.trace.export.excerpt import Excerpt, PlacedMark
from engine.trace.export.markup import element, joined, safe
from engine.trace.observer import (
    DISPLAY,
    MARKS,
    RECORDING,
    as_part,
    beyond_budget,
    instrument_cost,
    marks_compared,
    part_compared,
)
from engine.trace.phases import LABELS, Phase
from engine.trace.pooling import configuration_numbers
from engine.trace.statistics import Effect
from engine.trace.store import GapMark, Mark, NoteMark, WarningMark
from engine.trace.wording import change_sentences, configuration_labels, formatted, gap_sentences

MOST_CONFIGURATIONS = 6  # columns of a table that can be read
MOST_MARKS = 1000


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table of cells that are markup already; `numbers`: the columns of figures. Without `heads` it has no head."""
    kinds = [{"class_": "number"} if place in numbers else {} for place in range(len(heads))]
    head = "".join(element("th", safe(text), **kind) for text, kind in zip(heads, kinds, strict=True))
    body = [
        element("tr", "".join(element("td", cell, **kind) for cell, kind in zip(cells, kinds, strict=True)))
        for cells in rows
    ]
    first = element("thead", element("tr", head)) if any(heads) else ""
    return element("table", first + element("tbody", joined(body))) if body else ""


def metric_table(excerpt: Excerpt) -> str:
    """Every metric that has a value, with what it stands on and its formula."""
    family = excerpt.trace.model.family if excerpt.trace.model else Family.DECODER
    rows = []
    for measured in excerpt.measured.values():
        metric = measured.metric
        if measured.value is not None and family in metric.families:
            about = f"{metric.formula}; {measured.note}" if measured.note else metric.formula
            formula = element("small", safe(about))
            rows.append((safe(metric.name), safe(formatted(measured)), f"{measured.count:,}", formula))
    return table(("metric", "value", "n", "what it is"), rows, numbers=(1, 2))


def phase_table(excerpt: Excerpt) -> str:
    """The total of each phase with its share, largest first; they sum to the wall time of the steps.

    Steps that were captured in depth are left out.
    """
    rows_shown = slice(excerpt.rows.start, excerpt.rows.stop)
    counted = ~excerpt.trace.steps.captured[rows_shown]
    totals = excerpt.trace.steps.phases_ns[rows_shown][counted].sum(axis=0)
    wall = max(1, int(totals.sum()))
    order = sorted((phase for phase in Phase if totals[phase]), key=lambda phase: -int(totals[phase]))
    rows = []
    for phase in order:
        class_, share = f"phase-{phase.name.lower()}", int(totals[phase]) / wall
        name = element("i", class_=f"swatch {class_}") + safe(LABELS[phase])
        bar = element("div", element("i", class_=class_, style=f"width:{share:.2%}"), class_="share")
        rows.append((name, safe(units.duration(int(totals[phase]))), safe(units.share(share)), bar))
    rows.append(("all steps", safe(units.duration(int(totals.sum()))), safe(units.share(1.0)), ""))
    return table(("phase", "time", "share", ""), rows, numbers=(1, 2))


def configuration_table(excerpt: Excerpt) -> str:
    """Every setting under each configuration of the steps; the rows that differ come first."""
    trace = excerpt.trace
    numbers = configuration_numbers(trace)
    used = numbers[trace.steps.configuration[excerpt.rows.start : excerpt.rows.stop]]
    firsts = np.unique(used, return_index=True)[1]
    present = used[np.sort(firsts)].tolist()  # in the order in which they came into force
    shown = present[:MOST_CONFIGURATIONS]
    labels, different = configuration_labels(trace.configurations), list(dict.fromkeys(trace.configurations))
    if not different:
        return ""
    settings = [dict(different[number]) for number in shown]
    keys = list(dict.fromkeys(key for each in settings for key in each))
    values = {key: [str(each.get(key, units.ABSENT)) for each in settings] for key in keys}
    keys.sort(key=lambda key: len(set(values[key])) == 1)
    swatches = [element("i", class_=f"swatch series-{number % SERIES}") for number in shown]
    heads = "".join(element("th", s + safe(labels[n])) for s, n in zip(swatches, shown, strict=True))
    rows = []
    for key in keys:
        cells = "".join(element("td", safe(value)) for value in values[key])
        differs = {"class_": "differs"} if len(set(values[key])) > 1 else {}
        rows.append(element("tr", element("td", safe(key)) + cells, **differs))
    more = len(present) - len(shown)
    note = element("p", safe(f"{more:,} more configurations are not shown."), class_="muted") if more else ""
    return element("table", element("tr", element("th", "setting") + heads) + joined(rows)) + note


def effect_table(excerpt: Excerpt) -> str:
    """What the last change of each setting did to a step, and what taking turns found; of a whole session only."""
    if not excerpt.is_whole:
        return ""
    effects = Effects(excerpt.trace)
    keys = dict.fromkeys(change.key for mark in excerpt.marks for change in mark.event.changes)
    found = [measured for key in keys if (measured := effects.of(key))]
    rows = [_effect_row(measured) for measured in found]
    for record in excerpt.alternations:
        turns = effect_of_alternation(excerpt.trace, record)
        what = f"{turns.key}: {turns.first} against {turns.second}, taking turns ({turns.pairs:,} pairs)"
        rows.append((safe(what), *_effect_cells(turns.effect), units.ABSENT))
    said = (
        "Time of a step after the change over that before it, growing context taken out: below 1 is faster."
    )
    heads = ("change", "ratio", "95 % interval", "verdict", "the switch took")
    return (rows and table(heads, rows, numbers=(1, 2, 4)) + element("p", safe(said), class_="muted")) or ""


def _effect_row(measured: MeasuredEffect) -> tuple[str, ...]:
    change, mark = measured.change, measured.mark
    before = "" if measured.before is None else f"{measured.before} "
    what = f"{change.key}: {before}→ {change.effective}, before step {mark.step:,}"
    if measured.together:
        what += f" (together with {', '.join(measured.together)})"
    return safe(what), *_effect_cells(measured.effect), safe(units.duration(mark.event.switch_ns))


def _effect_cells(effect: Effect) -> tuple[str, str, str]:
    if effect.ratio is None or effect.low is None or effect.high is None:
        return units.ABSENT, units.ABSENT, "too few steps"
    return f"{effect.ratio:.3f}×", f"{effect.low:.3f} – {effect.high:.3f}", safe(effect.verdict.value)


def mark_table(excerpt: Excerpt) -> str:
    """The marks, numbered as in the charts: what was asked for, what came into force, why not."""
    found = excerpt.all_marks
    rows = []
    for number, mark in enumerate(found[:MOST_MARKS], start=1):
        lines = _mark_sentences(mark)
        rows.append((f"{number:,}", f"{mark.step:,}", "<br>".join(map(safe, lines))))
    more = len(found) - MOST_MARKS
    note = element("p", f"{more:,} more marks are not shown.", class_="muted") if more > 0 else ""
    return table(("", "before step", "what"), rows, numbers=(0, 1)) + note


def _mark_sentences(mark: PlacedMark) -> list[str]:
    if isinstance(mark, Mark):
        return change_sentences(mark.event)
    if isinstance(mark, GapMark):
        return gap_sentences(mark.event)
    if isinstance(mark, WarningMark):
        return [mark.warning.sentence, mark.warning.remedy]
    if isinstance(mark, NoteMark):
        return [f"note on this step: {mark.text}"]
    return [f"sequence {mark.event.sequence} {mark.text}"]


def environment_tables(excerpt: Excerpt) -> str:
    """The model, the machine and the program, and what measuring cost."""
    rows = [
        (safe(name), safe(value))
        for name, value in (*_model(excerpt), *_engine(excerpt), *_observer(excerpt))
    ]
    return table(("", ""), rows)


def _model(excerpt: Excerpt) -> list[tuple[str, str]]:
    model = excerpt.trace.model
    if model is None:
        return []
    places = ", ".join(f"{count} layers on {device}" for device, count in model.placement)
    stages = ", ".join(f"{name} {units.duration(ns)}" for name, ns in model.load_stages_ns)
    rows = [
        ("model", model.name),
        ("architecture", f"{model.architecture}, {model.family} for {model.task}"),
        ("parameters", f"{model.parameters:,}, {units.size(model.weight_bytes)} of weights in {model.dtype}"),
        ("weights", "random" if model.random_weights else "trained"),
        ("layers", f"{len(model.layer_names):,}, hidden size {model.hidden_size:,}"),
        ("vocabulary", f"{model.vocabulary:,}, tokenizer {model.tokenizer}"),
        ("context", f"{model.context_limit:,} tokens at most"),
        ("device", places or model.device),
        ("loaded in", units.duration(model.load_ns) + (f" ({stages})" if stages else "")),
    ]
    return rows + [("remark", warning) for warning in model.warnings]


def _engine(excerpt: Excerpt) -> list[tuple[str, str]]:
    engine = excerpt.trace.engine
    if engine is None:
        return []
    cores = f"{engine.processor}, {engine.cores} core{'' if engine.cores == 1 else 's'}"
    devices = [
        ("device there", f"{d.device}: {d.label}, {units.size(d.memory_bytes)}") for d in engine.devices
    ]
    return [("processor", cores), *devices, *engine.versions]


def _observer(excerpt: Excerpt) -> Iterator[tuple[str, str]]:
    """What the instrument cost: of each part what was measured last."""
    trace = excerpt.trace
    if trace.observer:
        observed = trace.observer[-1]
        marks = f"{observed.marks_per_step:,} marks a step at {observed.mark_cost_ns:.0f} ns each"
        told = f"{marks}, and {units.duration(observed.emit_ns_per_step)} a step to hand it over"
        cost = instrument_cost(trace, observed)
        share = f": {units.share(cost.share)} of a median decode step" if cost is not None else ""
        yield "measuring costs", told + share
        if beyond := beyond_budget(cost, trace.configuration):
            yield "remark", beyond
    if trace.display:
        drawn = trace.display[-1]
        yield (
            "drawing costs",
            f"{units.duration(drawn.frame_ns)} a frame, {drawn.frames_per_second:.0f} frames a second,"
            f" {units.share(drawn.core_share)} of a core",
        )
    if trace.recording:
        yield (
            "recording costs",
            f"{units.duration(trace.recording[-1].ns_per_step)} a step of another thread's time",
        )
    marked = marks_compared(trace)
    parts = [as_part(MARKS, marked.effect, 0, 0)] if marked is not None else []
    parts += filter(None, (part_compared(trace, DISPLAY), part_compared(trace, RECORDING)))
    yield from ((f"{part.part} in turns with none", _in_turns(part)) for part in parts)
    trusted = trust(trace) if parts else None
    if trusted is not None:
        yield (
            "A against A",
            f"{trusted.covered} of {trusted.tried} intervals held 1; differences below"
            f" {units.share(trusted.half_width)} cannot be told",
        )


def _in_turns(part: PartCompared) -> str:
    if part.ratio is None:
        return f"{part.pairs} pairs of turns are too few for a number"
    return (
        f"{units.fine_ratio(part.ratio)} the time of a step (95 % interval {units.fine_ratio(part.low)} to"
        f" {units.fine_ratio(part.high)}, {part.pairs} pairs)"
    )
