"""What the chart of the cycle model shows, computed without Qt: points, fits and residuals of decode and of prefill.

The models themselves, and what they stand for, are in engine.trace.cycle_model.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from engine.trace.cycle_model import (
    PREFILL_SAMPLES,
    DecodeModel,
    PrefillModel,
    TermFit,
    decode_model,
    decode_rows,
    prefill_lengths,
    prefill_models,
    prefill_rows,
)
from engine.trace.ledger import Int64
from engine.trace.phases import StepKind
from engine.trace.pooling import configuration_numbers
from engine.trace.statistics import FIT_SAMPLES, ContextFit
from engine.trace.store import KINDS, Trace
from engine.trace.wording import configuration_labels
from gui import units
from gui.view_state import HEADROOM, nice_ceiling

Float = npt.NDArray[np.float64]
Model = TypeVar("Model", DecodeModel, PrefillModel)

MOST_POINTS = 4096  # of all configurations together; more are thinned out evenly
CURVE = 65  # places of a curve
LEAST_OFF = 0.05  # that the axis of residuals reaches
DECODE = KINDS.index(StepKind.DECODE)
FORMULA = "T = n·(T_layer + T_attention + T_sample) + n·V"
#: Terms of the model by the letters of the formula; what is in none of them stands apart.
SYMBOLS = {
    "layers": "T_layer",
    "attention": "T_attention",
    "sample": "T_sample",
    "vocabulary": "V",
    "unattributed": "in none",
    "whole": "T of a token",
}
DECODE_HEADINGS = ("term", "constant", "1,000 tokens", "share", "±")
PREFILL_HEADINGS = ("term", "time", "floor")
TOO_FEW_DECODED = f"A fit needs {FIT_SAMPLES} decode steps at different contexts, under the same settings."
TOO_FEW_READ = (
    f"A fit needs {PREFILL_SAMPLES} prefill steps of different lengths: run prompts of other lengths, or read a long"
    " one in chunks."
)


class CycleKind(StrEnum):
    """Which of the two models is shown."""

    DECODE = "decode"
    PREFILL = "prefill"


@dataclass(frozen=True)
class Series:
    """One configuration: its steps, x and wall_ns (n,), and how far each lies off the fit (n,): measured / fit − 1, NaN
    without one.

    line_x, line_ns (m,): the fit, `band_ns` the median distance of a step from it; floor_x, floor_ns (k,): the fit of
    their floors. All of them empty without enough steps. `number`: its place among the colours.
    """

    configuration: int
    number: int
    label: str
    step: Int64
    x: Int64
    wall_ns: Int64
    off: Float
    line_x: Float
    line_ns: Float
    band_ns: Float
    floor_x: Float
    floor_ns: Float


@dataclass(frozen=True)
class CycleView:
    """A model of each configuration, and that of one of them in words: `headings` over `rows`, `formula`, `sentences`,
    a line each."""

    kind: CycleKind
    series: tuple[Series, ...]
    title: str = ""
    headings: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    formula: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether there is any fit."""
        return any(len(series.line_x) for series in self.series)


@dataclass
class CycleModels:
    """The models of a trace, made anew only for configurations that have got more steps since."""

    _decode: dict[int, tuple[int, DecodeModel | None]] = field(default_factory=dict)

    def view(self, trace: Trace, kind: CycleKind, shown: int | None) -> CycleView:
        """One of the two models. `shown`: the step whose configuration is told in words, if it has a model."""
        configuration = int(trace.steps.configuration[shown]) if shown is not None else -1
        return (
            self._decode_view(trace, configuration)
            if kind is CycleKind.DECODE
            else _prefill_view(trace, configuration)
        )

    def _decode_view(self, trace: Trace, wanted: int) -> CycleView:
        numbers, labels = configuration_numbers(trace), configuration_labels(trace.configurations)
        found, models = [], []
        decoded = trace.steps.configuration[trace.steps.kind == DECODE]
        different: list[int] = np.unique(decoded).tolist()
        for configuration in different:
            rows = decode_rows(trace, configuration)
            model = self._decode_model(trace, configuration, len(rows))
            number = int(numbers[configuration])
            kept = _thinned(rows, len(different))
            found.append(_decode_series(trace, kept, model, configuration, number, labels[number]))
            models += [model] if model is not None else []
        chosen = _chosen(models, wanted)
        if chosen is None:
            return CycleView(CycleKind.DECODE, tuple(found), sentences=(TOO_FEW_DECODED,))
        return CycleView(
            CycleKind.DECODE,
            tuple(found),
            title=_title(labels[int(numbers[chosen.configuration])]),
            headings=DECODE_HEADINGS,
            rows=tuple(map(term_row, (*chosen.terms, chosen.whole))) + _floor_rows(chosen.floor),
            formula=decode_formula(chosen),
            sentences=decode_sentences(chosen),
        )

    def _decode_model(self, trace: Trace, configuration: int, count: int) -> DecodeModel | None:
        known = self._decode.get(configuration)
        if known is None or known[0] != count:
            known = self._decode[configuration] = count, decode_model(trace, configuration)
        return known[1]


def _chosen(models: Sequence[Model], wanted: int) -> Model | None:
    """The model of a configuration, or else the last one."""
    mine = [model for model in models if model.configuration == wanted]
    found = mine or models
    return found[-1] if found else None


def _title(label: str) -> str:
    return f"SETTINGS: {label}"


def _thinned(rows: Int64, among: int) -> Int64:
    return rows[:: 1 + among * len(rows) // MOST_POINTS]


NOTHING: Float = np.zeros(0)


def _decode_series(
    trace: Trace, kept: Int64, model: DecodeModel | None, configuration: int, number: int, label: str
) -> Series:
    context, wall = trace.steps.context_length[kept], trace.steps.wall_ns[kept]
    if model is None:
        off = np.full(len(kept), np.nan)
        empty = (NOTHING,) * 5
        return Series(configuration, number, label, kept, context, wall, off, *empty)
    ends = np.asarray(model.contexts, np.float64)
    line = _along(model.whole.fit, ends)
    band = np.full(2, model.whole.residual * float(np.median(wall)))
    floor = _along(model.floor, ends) if model.floor is not None else NOTHING
    floor_x = ends if model.floor is not None else NOTHING
    off = wall / _along(model.whole.fit, context.astype(np.float64)) - 1
    return Series(configuration, number, label, kept, context, wall, off, ends, line, band, floor_x, floor)


def _along(fit: ContextFit, context: Float) -> Float:
    return fit.intercept_ns + fit.slope_ns * context


def _prefill_view(trace: Trace, wanted: int) -> CycleView:
    numbers, labels = configuration_numbers(trace), configuration_labels(trace.configurations)
    models = prefill_models(trace)
    rows = prefill_rows(trace)
    found = []
    different: list[int] = np.unique(trace.steps.configuration[rows]).tolist()
    for configuration in different:
        model = next((each for each in models if each.configuration == configuration), None)
        mine = rows[trace.steps.configuration[rows] == configuration]
        number = int(numbers[configuration])
        kept = _thinned(mine, len(different))
        found.append(_prefill_series(trace, kept, model, configuration, number, labels[number]))
    chosen = _chosen(models, wanted)
    if chosen is None:
        return CycleView(CycleKind.PREFILL, tuple(found), sentences=(TOO_FEW_READ,))
    return CycleView(
        CycleKind.PREFILL,
        tuple(found),
        title=_title(labels[int(numbers[chosen.configuration])]),
        headings=PREFILL_HEADINGS,
        rows=tuple(prefill_rows_of(chosen)),
        formula=prefill_formula(chosen),
        sentences=prefill_sentences(chosen),
    )


def _prefill_series(
    trace: Trace, kept: Int64, model: PrefillModel | None, configuration: int, number: int, label: str
) -> Series:
    tokens, past = prefill_lengths(trace, kept)
    wall = trace.steps.wall_ns[kept]
    if model is None:
        off = np.full(len(kept), np.nan)
        return Series(configuration, number, label, kept, tokens, wall, off, *(NOTHING,) * 5)
    expected = np.array([model.step_ns(n, p) for n, p in zip(tokens.tolist(), past.tolist(), strict=True)])
    along = np.unique(np.linspace(*model.chunks, CURVE).round())
    line = np.array([model.prompt_ns(int(n)) for n in along])
    floors = trace.steps.floor_ns[kept]
    first = np.flatnonzero((past == 0) & (floors > 0))  # behind other tokens a chunk has another floor
    order = first[np.argsort(tokens[first], kind="stable")]
    return Series(
        configuration,
        number,
        label,
        kept,
        tokens,
        wall,
        wall / expected - 1,
        along,
        line,
        model.residual * line,
        tokens[order].astype(np.float64),
        floors[order].astype(np.float64),
    )


def ends(view: CycleView) -> tuple[float, float, float]:
    """How far the axes reach: tokens, ns, and residuals (a share). Single stalls lie beyond."""
    drawn = [series for series in view.series if len(series.step)]
    if not drawn:
        return 1.0, 1e6, LEAST_OFF
    wall = np.concatenate([series.wall_ns for series in drawn])
    lines = [float(series.line_ns.max()) for series in drawn if len(series.line_ns)]
    off = np.abs(np.concatenate([series.off for series in drawn]))
    off = off[np.isfinite(off)]
    far = float(np.percentile(off, 95)) if len(off) else 0.0
    longest = max(float(series.x.max()) for series in drawn)
    return (
        nice_ceiling(1.02 * longest),
        nice_ceiling(HEADROOM * max(float(np.percentile(wall, 98)), *lines, 1.0)),
        nice_ceiling(max(LEAST_OFF, HEADROOM * far)),
    )


# ---------------------------------------------------------------- words


def term_row(term: TermFit) -> tuple[str, ...]:
    """A term in the columns of DECODE_HEADINGS."""
    fit = term.fit
    return (
        SYMBOLS[term.name],
        units.duration(fit.intercept_ns),
        signed(1000 * fit.slope_ns),
        "" if term.name == "whole" else units.share(term.share),
        units.share(term.residual),
    )


def _floor_rows(floor: ContextFit | None) -> tuple[tuple[str, ...], ...]:
    if floor is None:
        return ()
    return (("its floor", units.duration(floor.intercept_ns), signed(1000 * floor.slope_ns), "", ""),)


def decode_formula(model: DecodeModel) -> tuple[str, ...]:
    """The formula, and below it the same with the coefficients that were measured; c: tokens of context."""
    fits = {term.name: term.fit for term in model.terms}
    if not {"layers", "attention", "sample", "vocabulary"} <= set(fits):
        return (f"T = n·({_coefficients(model.whole.fit)})", "    which this detail does not tell apart")
    layers, attention, sample = (_coefficients(fits[name]) for name in ("layers", "attention", "sample"))
    lines = [
        FORMULA,
        f"  = n·({layers}",
        f"     + {attention}",
        f"     + {sample})",
        f"  + n·({_coefficients(fits['vocabulary'])})",
    ]
    if "unattributed" in fits:
        lines.append(f"  + n·({_coefficients(fits['unattributed'])}) in none")
    return tuple(lines)


def decode_sentences(model: DecodeModel) -> tuple[str, ...]:
    """Whether the formula tells the time."""
    count = model.whole.fit.count
    held = "holds" if model.holds else "does not hold"
    return (
        f"The formula {held} for these {count:,} tokens (c is the context, {model.contexts[0]:,} to"
        f" {model.contexts[1]:,} tokens): {_by_the_fit(model)}.",
    )


def _coefficients(fit: ContextFit) -> str:
    """ "4.10 ms + 810 ns·c", or the constant alone where the context adds less than a nanosecond a token."""
    constant = units.duration(fit.intercept_ns)
    if abs(fit.slope_ns) < 1:
        return constant
    return f"{constant} {'+' if fit.slope_ns > 0 else '−'} {units.duration(abs(fit.slope_ns))}·c"


def prefill_rows_of(model: PrefillModel) -> list[tuple[str, ...]]:
    """The coefficients of prefill, in the columns of PREFILL_HEADINGS."""
    floor = model.floor
    rows = [
        ("each step", model.constant_ns, floor.constant_ns if floor else None, 1.0),
        ("1,000 tokens (linear)", model.token_ns, floor.token_ns if floor else None, 1e3),
        ("1,000,000 pairs (quadratic)", model.pair_ns, floor.pair_ns if floor else None, 1e6),
    ]
    told = [
        (name, _times(times, took, plus), _times(times, least, plus))
        for plus, (name, took, least, times) in zip((0, 1, 1), rows, strict=True)
        if took is not None
    ]
    return [*told, ("± of a step", units.share(model.residual), "")]


def _times(factor: float, ns: float | None, plus: int) -> str:
    return "" if ns is None else signed(factor * ns, plus)


def prefill_formula(model: PrefillModel) -> tuple[str, ...]:
    """What a prompt of P tokens takes in one piece."""
    constant = "" if model.constant_ns is None else f"{units.duration(model.constant_ns)} + "
    sign = "−" if model.pair_ns < 0 else "+"
    return (
        "T(P) = T_step + P·T_weights + P·(P + 1)/2·T_pair",
        f"     = {constant}P·{units.duration(model.token_ns)}",
        f"       {sign} P·(P + 1)/2·{units.duration(abs(model.pair_ns))}",
    )


def prefill_sentences(model: PrefillModel) -> tuple[str, ...]:
    """What it stands on, how much of the longest step is quadratic, and whether the formula tells the time."""
    longest = model.chunks[1]
    stands = f"From {model.count:,} steps of {model.chunks[0]:,} to {longest:,} tokens."
    held = f"The formula {'holds' if model.holds else 'does not hold'} for them: {_by_the_fit(model)}."
    if model.pair_ns <= 0:
        return f"{stands} No quadratic term shows at these lengths.", held
    quadratic = model.pair_ns * longest * (longest + 1) / 2 / model.prompt_ns(longest)
    share = units.share(quadratic)
    return f"{stands} Of a prompt of {longest:,} tokens in one piece {share} are quadratic (attention).", held


def _by_the_fit(model: DecodeModel | PrefillModel) -> str:
    error = f"{'−' if model.error < 0 else '+'}{units.share(abs(model.error))}"
    return f"{units.duration(model.predicted_ns)} by the fit, {units.duration(model.measured_ns)} measured, {error}"


def signed(ns: float, plus: int = 1) -> str:
    """A time that may be below zero, with its sign."""
    sign = "−" if ns < 0 else "+" * plus
    return f"{sign}{units.duration(abs(ns))}"
