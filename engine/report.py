"""What a run without a window prints: JSON lines for programs, text for people. Everything is read off the trace."""

import json
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Protocol, TextIO

import numpy as np

from engine.protocol import (
    Calibrated,
    CatalogueEntry,
    Configuration,
    Event,
    Family,
    FloorBeaten,
    GenerationEnded,
    GenerationStarted,
    KernelsCaptured,
    ModelFacts,
    ModelLoaded,
    NoteTaken,
    Noticed,
    Progress,
    SequenceJoined,
    SequencesEncoded,
    SettingFacts,
    SettingsChanged,
    SettingValue,
    StepEnded,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.trace import cycle_model
from engine.trace.agreement import agreement_sentences
from engine.trace.alternation import PAIR_LOOKS, SelfTest
from engine.trace.capture_record import capture_record
from engine.trace.effects import AlternationEffect, trust
from engine.trace.generation_view import writes
from engine.trace.kernels import TopEntry
from engine.trace.metrics import Measured, summary
from engine.trace.observer import beyond_budget, instrument_cost, marks_compared
from engine.trace.phases import LABELS, Phase, StepKind
from engine.trace.records import (
    Record,
    cycle_record,
    event_record,
    instrument_record,
    step_record,
    summary_record,
    warning_record,
)
from engine.trace.sameness import Sameness
from engine.trace.store import KINDS, Trace
from engine.trace.units import visible
from engine.trace.wording import result_line
from engine.walk import Row

_COLUMNS = 120
_TOP = 12  # names that are printed of a capture


class Report(Protocol):
    """Where a run's events go."""

    def event(self, event: Event, trace: Trace) -> None:
        """An event, already folded into the trace."""
        ...

    def problem(self, sentence: str) -> None:
        """What went wrong, in one sentence."""
        ...

    def summary(self, trace: Trace) -> None:
        """The metrics of the whole run; called once, last."""
        ...


class JsonReport:
    """One JSON object a line: model, generation, joined, step, kernels, sequences, beams, mark, memory, telemetry,
    warning, observer, display, recording, part, turns, shape, calibrated, floor_beaten, notice, gap, and end;
    cycle_model, instrument and summary are the last.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._warned = 0

    def _line(self, record: Record) -> None:
        print(json.dumps(record, ensure_ascii=False), file=self._out, flush=True)

    def problem(self, sentence: str) -> None:
        """One object with the sentence."""
        self._line({"event": "error", "sentence": sentence})

    def event(self, event: Event, trace: Trace) -> None:
        """One object for an event that says what was measured or decided."""
        if isinstance(event, StepEnded):
            self._line(step_record(trace, len(trace.steps) - 1))
        elif isinstance(event, KernelsCaptured):
            self._line(capture_record(trace, event.step - trace.first_index))
        elif record := event_record(event):
            self._line(record)
        if isinstance(event, TelemetrySampled):
            self._warnings(trace)

    def _warnings(self, trace: Trace) -> None:
        for mark in trace.warnings[self._warned :]:
            self._line(warning_record(mark))
        self._warned = len(trace.warnings)

    def summary(self, trace: Trace) -> None:
        """The metrics, each with its unit and the count that it stands on."""
        measured = list(summary(trace).values())
        if model := cycle_record(trace):
            self._line(model)
        if record := instrument_record(trace):
            self._line(record)
        self._line(summary_record(len(trace.steps), len(trace.tokens), measured))


class TextReport:
    """The text as it streams, or a line an input, on one stream; progress, marks and the summary on another."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        self._out = out
        self._notes = notes
        self._activity = ""
        self._warned = 0

    def _note(self, text: str) -> None:
        print(text, file=self._notes, flush=True)

    def problem(self, sentence: str) -> None:
        """The sentence, on the stream of notes."""
        self._note(sentence)

    def event(self, event: Event, trace: Trace) -> None:
        """Print what a person wants to see of it."""
        match event:
            case StepEnded(kind=StepKind.BACKWARD):
                self._note(training_line(trace, len(trace.steps) - 1))
            case StepEnded():
                text = "".join(token.text for token in event.tokens if not token.sequence)
                print(text, end="", file=self._out, flush=True)
            case SequencesEncoded():
                for result in event.results:
                    print(result_line(result), file=self._out, flush=True)
            case GenerationStarted(dropped_tokens=dropped) if dropped:
                self._note(f"{dropped:,} tokens of the prompt were dropped, to fit the model's context")
            case Progress():
                self._progress(event.activity)
            case ModelLoaded():
                self._note(_model_line(event))
                for warning in event.model.warnings:
                    self._note(warning)
            case SettingsChanged():
                self._note(
                    f"\n[step {event.step}: {trace.marks[-1].text}; switch {event.switch_ns / 1e6:.1f} ms]"
                )
            case KernelsCaptured():
                self._note("\n" + capture_text(trace, event.step - trace.first_index))
            case SequenceJoined():
                self._note(f"\n[step {event.step}: sequence {event.sequence} {trace.joins[-1].text}]")
            case NoteTaken(text=text) if text:
                self._note(f"\n[note on step {event.step}: {visible(text)}]")
            case Noticed():
                self._note(f"\n[{event.sentence}]")
            case Calibrated():
                self._note(calibration_line(event))
            case FloorBeaten():
                self._note(beaten_line(event))
            case TelemetrySampled():
                for note in event.notes:
                    self._note(f"\n{note}")
                for mark in trace.warnings[self._warned :]:
                    self._note(f"\n[step {mark.step}: {mark.warning.sentence} {mark.warning.remedy}]")
                self._warned = len(trace.warnings)
            case TelemetryEnded(sentence=sentence) if sentence:
                self._note(f"\n{sentence}")
            case GenerationEnded():
                if writes(trace):
                    print(event.tail, file=self._out, flush=True)
                    self._others(trace)
                self._note(f"[ended: {event.reason}]")
            case _:
                pass

    def _others(self, trace: Trace) -> None:
        """What the sequences that were decoded together with the first one say."""
        generation = trace.generations[-1]
        for sequence in trace.sequences_of(generation):
            if sequence:
                print(
                    f"--- sequence {sequence}", trace.text_of(generation, sequence), sep="\n", file=self._out
                )

    def _progress(self, activity: str) -> None:
        """A line an activity, not one for each of its fractions."""
        if activity != self._activity:
            self._note(f"{activity} …")
        self._activity = activity

    def summary(self, trace: Trace) -> None:
        """The metrics that such a model can have, as a table, and where the time went."""
        self._note("")
        family = trace.model.family if trace.model else Family.DECODER
        for measured in summary(trace).values():
            if family in measured.metric.families:
                self._note(metric_line(measured))
        self._note(phase_table(trace))
        for line in cycle_model.lines(trace):
            self._note(line)
        for line in instrument_lines(trace):
            self._note(line)


def instrument_lines(trace: Trace) -> list[str]:
    """What the instrument cost, in words; nothing where nothing is known."""
    lines = []
    cost = instrument_cost(trace, trace.observer[-1] if trace.observer else None)
    if cost is not None:
        lines.append(
            f"the instrument took {cost.share:.2%} of a median decode step: {cost.marks} marks × {cost.mark_ns:.0f} ns"
            f" + {cost.emit_ns / 1e3:.1f} µs for handing it over, with what this program makes of it"
        )
        if beyond := beyond_budget(cost, trace.configuration):
            lines.append(beyond)
    compared = marks_compared(trace)
    if compared is not None:
        lines.append(compared_line(compared, trust(trace)))
    return lines


def compared_line(found: AlternationEffect, trusted: SelfTest | None) -> str:
    """What marks did to a step by taking turns with none, and what could have been told at all."""
    effect = found.effect
    if effect.ratio is None or effect.low is None or effect.high is None:
        return (
            f"detail {found.first} against {found.second}: {found.pairs} pairs of turns are too few for a number;"
            f" make {2 * PAIR_LOOKS[0]} tokens or more"
        )
    line = (
        f"detail {found.first} against {found.second}, taking turns: {effect.ratio:.3f}× the time of a step"
        f" (95 % interval {effect.low:.3f} to {effect.high:.3f}, {effect.count} pairs)"
    )
    if trusted is not None:
        line += f"; against itself ± {trusted.half_width:.1%}, {trusted.covered} of {trusted.tried} intervals held 1"
    return line


def training_line(trace: Trace, row: int) -> str:
    """What a training step took, and how often a decode step would have fitted into it."""
    wall_ns = int(trace.steps.wall_ns[row])
    backward_ns = int(trace.steps.phases_ns[row, Phase.BACKWARD])
    steps = trace.steps
    decode = steps.wall_ns[(steps.kind == KINDS.index(StepKind.DECODE)) & ~steps.captured]
    ratio = f", {wall_ns / float(np.median(decode)):.1f} times a decode step" if len(decode) else ""
    return (
        f"\n[training step on {trace.steps.prompt_tokens[row]:,} tokens: {wall_ns / 1e6:.1f} ms{ratio};"
        f" loss and backward {backward_ns / 1e6:.1f} ms of it; its gradients were dropped]"
    )


def capture_text(trace: Trace, row: int) -> str:
    """What a captured step was made of: the names that took the longest, and what our clocks say to it."""
    capture = trace.capture(row)
    assert capture is not None
    event = capture.event
    again = ", done again" if event.again else ""
    lines = [
        f"[step {row} captured in depth{again}: {len(capture):,} entries, {capture.wall_ns / 1e6:.2f} ms under the"
        f" profiler, {event.overhead_ns / 1e6:.1f} ms around it; clocks compared to ±{event.exact_ns / 1e3:.1f} µs]"
    ]
    for device, title in ((True, "kernel of a device"), (False, "operation of the host")):
        found = capture.top(device)[:_TOP]
        if found:
            lines += [_top_line(title, ("own time", "share", "count", "mostly in")), *map(_top_row, found)]
    return "\n".join([*lines, *agreement_sentences(trace, row), *event.notes])


def _top_row(entry: TopEntry) -> str:
    cells = (f"{entry.self_ns / 1e6:.3f} ms", f"{entry.share:.1%}", f"{entry.count:,}", LABELS[entry.phase])
    return _top_line(entry.name, cells)


def _top_line(name: str, cells: Sequence[str]) -> str:
    own, share, count, phase = cells
    return f"{textwrap.shorten(name, 56, placeholder='…'):<56} {own:>12} {share:>7} {count:>7}  {phase}"


def _model_line(event: ModelLoaded) -> str:
    model = event.model
    weights = "random weights" if model.random_weights else "trained weights"
    layers = f"{len(model.layer_names)} layers"
    if model.family is Family.ENCODER_DECODER:
        layers += f" ({model.encoder_layers} of the encoder)"
    places = ", ".join(f"{count} layers on {device}" for device, count in model.placement)
    return (
        f"{model.name}: {model.architecture}, {model.family} for {model.task}, {layers},"
        f" {model.parameters / 1e6:,.1f} M parameters, {model.dtype} on {places or model.device}, {weights},"
        f" context {model.context_limit:,}, loaded in {_load_times(model)}"
    )


def _load_times(model: ModelFacts) -> str:
    """How long loading took, and its stages."""
    stages = ", ".join(f"{name} {ns / 1e9:.1f} s" for name, ns in model.load_stages_ns)
    return f"{model.load_ns / 1e9:.1f} s" + (f" ({stages})" if stages else "")


def calibration_line(event: Calibrated) -> str:
    """What this machine achieves, and how much that is to be trusted."""
    found = event.calibration
    date = datetime.fromtimestamp(found.at_s).strftime("%Y-%m-%d %H:%M")
    threads = f", {found.threads} thread{'s' if found.threads != 1 else ''}" if found.device == "cpu" else ""
    again = "repeated within" if found.is_repeatable else "not repeatable, repeated only within"
    doubtful = f"doubtful: {found.plain_bandwidth / 1e9:,.1f} GB/s by other means"
    doubts = filter(
        None, (f"{again} {found.spread:.1%}", "" if found.is_confirmed else doubtful, found.remark)
    )
    fastest = max(rate for _, rate in found.rungs)
    rates = ", ".join(f"{kind} {rate / 1e9:,.1f}" for kind, rate in found.rates)
    return (
        f"[calibration {event.number} of {found.device}{threads}, {event.origin} {date}:"
        f" {found.memory_bandwidth / 1e9:,.1f} GB/s from memory, up to {fastest / 1e9:,.1f} GB/s from caches,"
        f" {rates} GFLOP/s; {'; '.join(doubts)}]"
    )


def beaten_line(event: FloorBeaten) -> str:
    """That a calibration is broken, and what to do."""
    return (
        f"\n[step {event.step} took {event.wall_ns / 1e6:.3f} ms, less than its floor of {event.floor_ns / 1e6:.3f} ms:"
        " the calibration is broken. Calibrate again while the machine is idle.]"
    )


def metric_line(measured: Measured) -> str:
    """One metric as a line of text; a dash where there is no value."""
    value, unit = measured.value, measured.metric.unit
    if value is None:
        text = "–"
    elif unit == "ns":
        text = f"{value / 1e6:,.3f} ms"
    elif unit == "1":
        text = f"{value:.1%}"
    else:
        text = f"{value:,.4g} {unit}".rstrip()
    return f"{measured.metric.name:<36} {text:>18}   (n = {measured.count})"


def phase_table(trace: Trace) -> str:
    """The total of every phase over all steps but those captured in depth, with its share, largest first.

    They sum to the steps' wall time.
    """
    counted = ~trace.steps.captured
    totals = trace.steps.phases_ns[counted].sum(axis=0)
    wall = max(1, int(totals.sum()))
    rows = sorted(((int(totals[phase]), phase) for phase in Phase if totals[phase]), reverse=True)
    lines = [f"{LABELS[phase]:<34} {ns / 1e6:>13,.3f} ms   {ns / wall:6.1%}" for ns, phase in rows]
    return "\n".join([f"where {wall / 1e6:,.1f} ms of {int(counted.sum())} steps went:", *lines])


# ---------------------------------------------------------------- lists


def print_catalogue(entries: Iterable[CatalogueEntry], as_lines: bool, out: TextIO) -> None:
    """The models there are: JSON lines, or a table."""
    for entry in entries:
        if as_lines:
            print(json.dumps(asdict(entry), ensure_ascii=False), file=out)
        else:
            print(catalogue_line(entry), file=out)


def catalogue_line(entry: CatalogueEntry) -> str:
    """A model as a line of text; whether it fits is what the automatic device says."""
    fit = entry.fit_on()
    words = entry.reason or fit.reason or "; ".join(filter(None, (entry.remark, fit.remark)))
    size = f"{entry.parameters / 1e6:>9,.0f} M" if entry.parameters else f"{'?':>9}  "
    return f"{entry.name:<36} {entry.kind:<8} {size}  {words}".rstrip()


def print_settings(
    settings: Iterable[SettingFacts], configuration: Configuration, as_lines: bool, out: TextIO
) -> None:
    """What can be switched: JSON lines, or a text by family with the reasons for what cannot; `*`: in force."""
    effective, family = dict(configuration), ""
    for facts in settings:
        if as_lines:
            print(
                json.dumps({**asdict(facts), "effective": effective[facts.key]}, ensure_ascii=False), file=out
            )
            continue
        if facts.family != family:
            family = facts.family
            print(f"--- {family}", file=out)
        print("\n".join(settings_lines(facts, effective[facts.key])), file=out)
    if not as_lines:
        print(
            "\nPut one into force with --set KEY=VALUE, or from a step on with --at STEP:KEY=VALUE.", file=out
        )


def settings_lines(facts: SettingFacts, now: SettingValue) -> list[str]:
    """A setting as lines of text: what is in force, what it does, and its values."""
    lines = [f"{facts.key} = {now}   ({facts.label})"]
    if facts.expected:
        lines += _wrapped(facts.expected, "    ")
    if facts.reason:
        lines += _wrapped(f"impossible here: {facts.reason}", "    ")
    if facts.kind in ("integer", "number"):
        lines.append(f"    from {facts.minimum:,.10g} to {facts.maximum:,.10g} {facts.unit}".rstrip())
    for choice in facts.choices:
        state = f"impossible here: {choice.reason}" if choice.reason else choice.expected or "possible"
        mark = "*" if choice.value == now else " "
        lines += _wrapped(state, f"  {mark} {choice.value!s:<16} ")
    return lines


def _wrapped(text: str, begin: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, initial_indent=begin, subsequent_indent=" " * len(begin))


def print_walk(rows: Iterable[Row], as_lines: bool, out: TextIO) -> None:
    """What each setting did: JSON lines, or a table and below it what was not possible, with the reasons."""
    if as_lines:
        for row in rows:
            print(json.dumps({"event": "station", **asdict(row)}, ensure_ascii=False), file=out)
        return
    rows = list(rows)
    titles = ("setting", "switch", "time a token", "95 % interval", "verdict", "tokens/step", "output")
    print(_walk_line(titles), file=out)
    for row in rows:
        if not row.reason:
            print(_walk_line(_walk_cells(row)), file=out)
    print(
        "time a token: of each sequence, under the setting over that of the tokens before and after it;"
        " below 1 is faster.",
        file=out,
    )
    for row in rows:
        if row.reason:
            print(f"{row.station}: not possible here. {row.reason}", file=out)


def print_prefill_walk(rows: Iterable[Row], as_lines: bool, out: TextIO) -> None:
    """What each setting did to the reading of the prompt: JSON lines, or a table."""
    if as_lines:
        for row in rows:
            print(json.dumps({"event": "prefill station", **asdict(row)}, ensure_ascii=False), file=out)
        return
    print(file=out)
    print(_walk_line(("setting", "switch", "time of prefill", "95 % interval", "verdict")), file=out)
    for row in rows:
        print(
            _walk_line(_walk_cells(row)[:5]) if not row.reason else f"{row.station}: {row.reason}", file=out
        )
    print(
        "time of prefill: under the setting over that without it, in turns on the same prompt; below 1 is faster.",
        file=out,
    )


def _walk_line(cells: Sequence[str]) -> str:
    widths = (36, 10, 15, 15, 8, 11, 0)
    return "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=False)).rstrip()


def _walk_cells(row: Row) -> tuple[str, ...]:
    """A line of the table; a dash where nothing was measured."""
    switch = "–" if row.switch_ns is None else f"{row.switch_ns / 1e6:.1f} ms"
    ratio = "–" if row.ratio is None else f"{row.ratio:.3f}×"
    interval = "–" if row.low is None or row.high is None else f"{row.low:.3f} – {row.high:.3f}"
    per_step = "–" if row.tokens_per_step is None else f"{row.tokens_per_step:.2f}"
    return row.station, switch, ratio, interval, row.verdict or "–", per_step, sameness_words(row.sameness)


def sameness_words(found: Sameness | None) -> str:
    """How far an output moved, in short."""
    if found is None:
        return "–"
    if found.greedy_is_same and found.top1 == 1.0:
        return f"same greedy tokens (KL {found.kl_mean:.1g})"
    greedy = "same" if found.greedy_is_same else f"differ at {found.first_difference + 1}"
    return (
        f"greedy tokens {greedy}, top-1 {found.top1:.0%}, KL {found.kl_mean:.2g}, NLL {found.nll_change:+.2g}"
    )
