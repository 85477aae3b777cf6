"""What the charts say, computed without Qt: sentences, labels and where labels fit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.trace.agreement import agreement, agreement_sentences
from engine.trace.kernels import Capture
from engine.trace.lanes import Verdict
from engine.trace.ledger import Span
from engine.trace.phases import GROUPS, LABELS, Phase, StepKind
from engine.trace.store import (
    KINDS,
    NO_LATENCY,
    AnyMark,
    CaptureMark,
    GapMark,
    Mark,
    NoteMark,
    Trace,
    WarningMark,
)
from engine.trace.wording import change_sentences as change_sentences
from engine.trace.wording import configuration_labels as configuration_labels
from engine.trace.wording import gap_sentences
from gui import units
from gui.view_state import lengths, only_reads

LONGEST_LABEL, SHORTEST_LABEL = 220, 60  # pixels


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A phase's part of a step."""

    phase: Phase
    ns: int
    share: float


def ledger(trace: Trace, step: int, capture: Capture | None = None) -> list[LedgerEntry]:
    """The phases of a step that took time, in fixed order; they sum to its wall time, or to that of its capture."""
    wall = max(1, int(trace.steps.wall_ns[step]) if capture is None else capture.wall_ns)
    row = trace.steps.phases_ns[step].tolist()
    if capture is not None:
        row = capture.layout.phases_ns(capture.stamps[None])[0].tolist()
    return [LedgerEntry(p, row[p], row[p] / wall) for p in Phase if row[p]]


def ledger_text(trace: Trace, step: int) -> str:
    """A step and its ledger as lines of tab-separated cells: the phase, its time (ns), its share."""
    rows = [
        ("phase", "ns", "share"),
        *((LABELS[e.phase], e.ns, f"{e.share:.4f}") for e in ledger(trace, step)),
    ]
    rows.append(("all", int(trace.steps.wall_ns[step]), "1"))
    return "\n".join([step_sentence(trace, step), *("\t".join(map(str, row)) for row in rows)])


def step_sentence(trace: Trace, step: int) -> str:
    """A step in one line: "step 118 · decode · 8.42 ms · context 312 · “token”"."""
    steps = trace.steps
    parts = [f"step {step}", KINDS[int(steps.kind[step])].value, units.duration(float(steps.wall_ns[step]))]
    if steps.captured[step]:
        parts.append("captured in depth, in no statistic")
    reads = KINDS[int(steps.kind[step])] is StepKind.ENCODE
    if steps.batch[step] > 1 or only_reads(trace):
        parts.append(rows_words(trace, step))
    if steps.drafted[step]:
        parts.append(f"{int(steps.accepted[step])} of {int(steps.drafted[step])} proposed tokens right")
    if steps.prompt_tokens[step]:
        parts.append(f"{int(steps.prompt_tokens[step])} {'' if reads else 'prompt '}tokens")
    if steps.padding_tokens[step]:
        parts.append(f"{int(steps.padding_tokens[step])} {'padding' if waits(trace, step) else 'taken back'}")
    if not reads:
        parts.append(f"context {int(steps.context_length[step]):,}")
    text = "".join(trace.tokens.text[i] for i in trace.tokens_of(step) if not trace.tokens.sequence[i])
    if text:
        parts.append(f"“{units.visible(text)}”")
    return " · ".join(parts)


def clock_words(trace: Trace, step: int) -> str:
    """By which clock the phases of a step are told, as the end of a line; "" where there is only one."""
    if trace.device_stamps(step) is not None:
        return " · by the device's clock"
    on_cpu = trace.model is None or trace.model.device == "cpu"
    return "" if on_cpu else " · by the host's clock: when it was launched"


def verdict_sentence(verdict: Verdict) -> str:
    """What limits a step, and why: "launch-bound: of the 8.42 ms …"."""
    return f"{verdict.bound.value}: {verdict.reason[0].lower()}{verdict.reason[1:]}"


def waits(trace: Trace, step: int) -> bool:
    """Whether each token is waited for; else a step behind the end is surplus, and taken back."""
    settings = trace.configurations[int(trace.steps.configuration[step])] if trace.configurations else ()
    return dict(settings).get("read_back") != "pipelined"


def rows_words(trace: Trace, step: int) -> str:
    """What was computed together: "4 sequences", or "4 beams" of one."""
    count = int(trace.steps.batch[step])
    settings = trace.configurations[int(trace.steps.configuration[step])] if trace.configurations else ()
    what = "beam" if dict(settings).get("beams", 1) != 1 else "sequence"
    return f"{count} {what}{'s' if count != 1 else ''}"


def together_sentence(trace: Trace) -> str:
    """What goes on beside the text that is shown: other sequences, or how the best beam continues; "" for nothing."""
    if not trace.generations or only_reads(trace):
        return ""
    generation = trace.generations[-1]
    if generation.first_step == generation.end_step or generation.ended:
        others = len([number for number in trace.sequences_of(generation) if number])
        return f"+ {others} more sequence{'s' if others != 1 else ''}" if others else ""
    last = generation.end_step - 1
    if trace.beams and trace.beams[-1].step - trace.first_index == last:
        best = trace.beams[-1].beams[0]
        return f"{rows_words(trace, last)}, not agreed yet: “{units.visible(best.text)}”"
    others = int(trace.steps.batch[last]) - 1
    return f"+ {others} more sequence{'s' if others != 1 else ''} running" if others > 0 else ""


def latency_sentence(trace: Trace, step: int) -> str:
    """What there is to say about a step's latency, or that it has none."""
    if only_reads(trace):
        tokens = int(lengths(trace, slice(step, step + 1))[0])
        each = units.duration(float(trace.steps.wall_ns[step] / trace.steps.batch[step]))
        return f"{each} a sequence of {tokens:,} tokens{' with padding' if trace.steps.padding_tokens[step] else ''}"
    if trace.steps.captured[step]:
        return "no ITL: captured in depth"
    itl = int(trace.steps.itl_ns[step])
    return f"ITL {units.duration(itl)}" if itl != NO_LATENCY else "no ITL: the first arrival, or no token"


def mark_sentences(mark: AnyMark) -> list[str]:
    """What happened at a mark, a line each."""
    if isinstance(mark, WarningMark):
        return [mark.warning.sentence, mark.warning.remedy]
    if isinstance(mark, Mark):
        return change_sentences(mark.event)
    if isinstance(mark, GapMark):
        return gap_sentences(mark.event)
    if isinstance(mark, CaptureMark):
        again = ", its work done again" if mark.event.again else ""
        return [f"step {mark.step} was captured in depth{again}; its operations are in the step timeline"]
    if isinstance(mark, NoteMark):
        return [f"note on step {mark.step:,}: {mark.text}"]
    joined = mark.event
    prompt = joined.prompt if len(joined.prompt) <= 60 else joined.prompt[:60] + "…"
    read = f"sequence {joined.sequence} {mark.text}, “{units.visible(prompt)}”"
    return [read, "the others wait while its prompt is read"]


def place_labels(lefts: Sequence[int], widths: Sequence[int], rows: int, right: int) -> list[tuple[int, int]]:
    """Where labels go so that none overlaps: (x, row) each, row -1 where there is no room. `lefts` must not
    fall.
    """
    ends = [-1_000_000] * rows
    places = []
    for left, width in zip(lefts, widths, strict=True):
        x = min(left, right - width)
        row = next((r for r in range(rows) if ends[r] <= x), -1)
        if row >= 0:
            ends[row] = x + width
        places.append((x, row))
    return places


def shared_widths(wanted: Sequence[int], room: int) -> list[int]:
    """How wide labels with a swatch and a gap (30 pixels) may be beside each other: the longest lose first."""
    widest = LONGEST_LABEL
    while widest > SHORTEST_LABEL and sum(min(widest, width) + 30 for width in wanted) > room:
        widest -= 10
    return [min(widest, width) for width in wanted]


def phase_label(phase: Phase) -> str:
    """How a phase is called on screen."""
    return LABELS[phase]


#: The table of a capture.
CAPTURE_COLUMNS = ("name", "own time", "share", "count", "mostly in", "where")


def capture_heading(capture: Capture, step: int) -> str:
    """A captured step in one line."""
    again = " · done again" if capture.event.again else ""
    return f"step {step}{again} · {units.duration(capture.wall_ns)} · {len(capture):,} entries"


def capture_remarks(trace: Trace, step: int) -> list[str]:
    """All there is to know of a capture: what it took, how it compares with our clocks, what cannot be seen in it."""
    event = trace.captures[step]
    which = "its work was done again, on a copy" if event.again else "it is in no statistic"
    return [
        f"under torch's profiler: {which}; {units.duration(event.overhead_ns)} went by around it, in no latency",
        f"the profiler's clock and ours are compared to ±{units.duration(event.exact_ns)}",
        *agreement_sentences(trace, step),
        *event.notes,
    ]


def capture_verdict(trace: Trace, step: int) -> list[str]:
    """How a capture compares with our clocks, in short."""
    lines = [
        f"{each.part} {units.share(each.captured)}; by our clocks {units.share(each.in_run)}, around it"
        f" {units.share(each.around)}"
        for each in agreement(trace, step)
    ]
    return lines or agreement_sentences(trace, step)


def capture_rows(trace: Trace, step: int) -> list[tuple[str, ...]]:
    """The table of a capture: kernels of devices first, then operations of the host, the longest first."""
    capture = trace.capture(step)
    assert capture is not None
    return [
        (
            entry.name,
            units.duration(entry.self_ns),
            units.share(entry.share),
            f"{entry.count:,}",
            LABELS[entry.phase],
            "device" if entry.is_device else "host",
        )
        for entry in (*capture.top(True), *capture.top(False))
    ]


def lane_label(capture: Capture, lane: int) -> str:
    """What a lane of a capture is called beside it."""
    event = capture.event
    name = event.lanes[lane]
    if lane >= event.host_lanes:
        return name.replace(" stream ", " #")
    return "ops" if lane == 0 else name.replace("host, thread ", "ops ")


def short_name(name: str) -> str:
    """The name of an operation without its library, and of a kernel without its arguments."""
    bare = (
        name.replace("(anonymous namespace)::", "")
        .partition("(")[0]
        .partition("<")[0]
        .rpartition("::")[2]
        .strip()
    )
    return bare or name


def entry_lines(capture: Capture, entry: int) -> list[str]:
    """What there is to say about an entry of a capture, a line each, its name first."""
    event = capture.event
    begin, took = int(capture.begin_ns[entry]), int(capture.duration_ns[entry])
    lines = [event.names[int(capture.name[entry])]]
    layer = int(capture.layer[entry])
    phase = LABELS[Phase(int(capture.phase[entry]))]
    lines.append(f"{phase}, layer {layer}" if layer >= 0 else phase)
    lines += [f"begin {units.microseconds(begin)}", f"duration {units.microseconds(took)}"]
    own = int(capture.self_ns[entry])
    if own != took:
        lines.append(f"by itself {units.microseconds(own)}")
    launcher = int(capture.launched_by[entry])
    if launcher >= 0:
        before = begin - int(capture.begin_ns[launcher])
        lines.append(
            f"launched by {event.names[int(capture.name[launcher])]}, {units.duration(before)} before"
        )
    return lines


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """Neighbouring outermost spans of one group, from the begin of the first to the end of the last."""

    name: str
    begin_ns: int
    end_ns: int


def is_frame(span: Span) -> bool:
    """Whether a span is a whole layer (or all of them), whose own time is what its parts leave."""
    return span.name.phase is Phase.NORM and span.depth == 0


def group_spans(spans: Sequence[Span]) -> list[GroupSpan]:
    """What of a step was the forward pass and what decode (attention is inside forward)."""
    found: list[GroupSpan] = []
    for span in spans:
        if span.depth or span.name.phase is Phase.UNATTRIBUTED:
            continue
        name = "decode" if span.name.phase in GROUPS["decode"] else "forward"
        name = LABELS[Phase.BACKWARD] if span.name.phase is Phase.BACKWARD else name
        begin, end = span.begin_ns, span.begin_ns + span.duration_ns
        if found and found[-1].name == name:
            begin = found.pop().begin_ns
        found.append(GroupSpan(name, begin, end))
    return found


def span_labels(span: Span) -> tuple[str, ...]:
    """What a span may be called on screen, the longest first."""
    label = LABELS[span.name.phase]
    if span.name.layer < 0:
        if is_frame(span):
            return (span.name.name,)
        return (f"{label}: {span.name.name}", label)
    layer = f"L{span.name.layer:02d}"
    if span.name.phase is Phase.NORM:
        return (layer, str(span.name.layer))
    return (f"{layer} {label}", label)


def fitting_ledger(
    entries: Sequence[LedgerEntry], room: int, width_of: Callable[[str], int]
) -> list[tuple[str, Phase | None, int]]:
    """A ledger line that fits into `room` pixels: (text, phase, width) each. The smallest phases become
    "other".
    """
    shown = list(entries)
    while True:
        kept = set(map(id, shown))
        other = sum(e.ns for e in entries if id(e) not in kept)
        texts: list[tuple[str, Phase | None]] = [
            (f"{LABELS[e.phase]} {units.milliseconds(e.ns)}", e.phase) for e in shown
        ]
        if other:
            texts.append((f"other {units.milliseconds(other)}", None))
        widths = [width_of(text) for text, _ in texts]
        if not shown or sum(widths) + 24 * len(widths) <= room:
            return [(text, phase, width) for (text, phase), width in zip(texts, widths, strict=True)]
        shown.remove(min(shown, key=lambda e: e.ns))
