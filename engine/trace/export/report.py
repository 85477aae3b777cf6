"""A report that can be mailed: one HTML page with everything in it. No network, no script; all text is escaped.

It holds numbers, charts, settings, marks and what it was measured on; the prompts and what the model wrote it leaves
out, since whoever mails a measurement need not mean to mail those.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import BinaryIO

import numpy as np

from engine import __version__
from engine.protocol import Family
from engine.trace.export.capture_tables import capture_tables
from engine.trace.export.drawing import SERIES, latency_chart, layer_chart, step_chart
from engine.trace.export.excerpt import Excerpt
from engine.trace.export.markup import element, joined, safe
from engine.trace.export.progress import Tick
from engine.trace.export.report_tables import (
    configuration_table,
    effect_table,
    environment_tables,
    mark_table,
    metric_table,
    phase_table,
)
from engine.trace.export.sample_charts import sample_charts
from engine.trace.export.style import style_sheet
from engine.trace.phases import LABELS, Phase, Role
from engine.trace.pooling import configuration_numbers, is_preparation
from engine.trace.wording import configuration_labels, formatted

HEADLINES = {
    Family.DECODER: ("decode_throughput", "itl_p50", "ttft"),
    Family.ENCODER_DECODER: ("decode_throughput", "itl_p50", "ttft"),
    Family.ENCODER: ("sequence_throughput", "sequence_p50", "padding_share"),
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_HATCH = (
    '<svg width="0" height="0" style="position:absolute" aria-hidden="true"><defs><pattern id="hatch" width="6"'
    ' height="6" patternUnits="userSpaceOnUse"><path d="M-1 7L7 -1"/></pattern></defs></svg>'
)


def write_report(excerpt: Excerpt, file: BinaryIO, tick: Tick) -> None:
    """Write the page, UTF-8."""
    parts = []
    for place, part in enumerate(sections(excerpt, datetime.now().astimezone())):
        parts.append(part)
        tick(min(0.9, place / 14))
    file.write(page(excerpt, parts).encode("utf-8"))


def page(excerpt: Excerpt, parts: Iterable[str]) -> str:
    """The whole page around its sections."""
    return joined(
        (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            element("title", safe(_title(excerpt))),
            element("style", style_sheet()),
            f"</head><body>{_HATCH}",
            *parts,
            "</body></html>\n",
        )
    )


def sections(excerpt: Excerpt, now: datetime) -> Iterable[str]:
    """The sections, one after the other; those without anything to say are left out."""
    yield _heading(excerpt, now)
    yield _section("Steps", step_chart(excerpt) + _phase_legend(excerpt))
    latency = latency_chart(excerpt)
    yield _section("Latency", latency and latency + _series_legend(excerpt))
    yield _section("Where the time went", phase_table(excerpt))
    yield _section("Layers", "".join(layer_chart(excerpt, role) for role in Role))
    yield _section("Measurements", metric_table(excerpt))
    yield _section("Settings", configuration_table(excerpt))
    yield _section("What switches did", effect_table(excerpt))
    yield _section("Marks", mark_table(excerpt))
    yield _section("The machine meanwhile", sample_charts(excerpt))
    yield _section("Steps in depth", capture_tables(excerpt))
    yield _section("Measured on", environment_tables(excerpt))


def _section(title: str, content: str) -> str:
    return element("section", element("h2", safe(title)) + content) if content else ""


def _title(excerpt: Excerpt) -> str:
    name = excerpt.trace.model.name if excerpt.trace.model else "a model"
    return f"{name} · Cyclograph"


def _heading(excerpt: Excerpt, now: datetime) -> str:
    model = excerpt.trace.model
    count = len(excerpt.generations)
    runs = f"{count:,} generation{'' if count == 1 else 's'}"
    words = f"Exported {now:%Y-%m-%d %H:%M %Z} by Cyclograph {__version__}: {excerpt.words}, {runs}"
    lines = [element("h1", safe(model.name if model else "a model"))]
    if model is not None:
        lines.append(
            element("p", safe(f"{model.architecture}, {model.dtype} on {model.device}"), class_="muted")
        )
    lines.append(element("p", safe(f"{words}. Prompts and texts are not in this report."), class_="muted"))
    return element("header", joined(lines)) + _headlines(excerpt)


def _headlines(excerpt: Excerpt) -> str:
    measured = excerpt.measured
    family = excerpt.trace.model.family if excerpt.trace.model else Family.DECODER
    shown = [measured[key] for key in HEADLINES[family] if measured[key].value is not None]
    numbers = (element("div", safe(m.metric.name) + element("b", safe(formatted(m)))) for m in shown)
    return element("div", joined(numbers), class_="headlines")


def _phase_legend(excerpt: Excerpt) -> str:
    steps, rows = excerpt.trace.steps, slice(excerpt.rows.start, excerpt.rows.stop)
    totals = steps.phases_ns[rows].sum(axis=0)
    entries = [(f"phase-{p.name.lower()}", LABELS[p]) for p in Phase if totals[p]]
    legend = _legend(entries)
    hatched = []
    if is_preparation(excerpt.trace, steps.kind[rows]).any():
        hatched.append("a step that takes in the prompt")
    if steps.captured[rows].any():
        hatched.append("a step that was captured in depth, in no statistic")
    if hatched:
        legend += element("p", f"Hatched: {', or '.join(hatched)}.", class_="muted")
    return legend


def _series_legend(excerpt: Excerpt) -> str:
    numbers = configuration_numbers(excerpt.trace)
    used = excerpt.trace.steps.configuration[excerpt.rows.start : excerpt.rows.stop]
    labels = configuration_labels(excerpt.trace.configurations)
    present = np.unique(numbers[used]).tolist()
    return _legend(
        [(f"series-{number % SERIES}", labels[number]) for number in present if number < len(labels)]
    )


def _legend(entries: Sequence[tuple[str, str]]) -> str:
    spans = (
        element("span", element("i", class_=f"swatch {class_}") + safe(label)) for class_, label in entries
    )
    return element("p", joined(spans), class_="legend")
