"""The metrics, one definition each: what a number is called, its formula, its clock, what is left out of it.

Names of latency metrics are not standardized, so no number goes without these. A metric without enough data
has no value (None), never 0. Times are nanoseconds of the host's monotonic clock; held time is in no latency
(see engine.trace.generation_view). Over several generations a metric that each of them has is their median,
and samples (gaps, steps) are pooled.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from engine.trace.energy import energy
from engine.trace.generation_view import DECODE, NOT_JOINED, VERIFY, Bool, GenerationView, view_generations
from engine.trace.generation_view import view_generation as view_generation
from engine.trace.ledger import Int64
from engine.trace.metric_definitions import CHAT as CHAT
from engine.trace.metric_definitions import METRICS as METRICS
from engine.trace.metric_definitions import SECOND_LEVEL as SECOND_LEVEL
from engine.trace.metric_definitions import Metric as Metric
from engine.trace.metric_definitions import Targets as Targets
from engine.trace.phases import GROUPS, Phase, StepKind
from engine.trace.statistics import percentiles, quantile_of_sorted_rows
from engine.trace.store import KINDS, GenerationRecord, Trace

STALL_WINDOW = 64  # gaps before the one that is judged
STALL_HISTORY = 16  # fewer gaps before it say too little
SECOND_NS = 1_000_000_000
PREFILL = KINDS.index(StepKind.PREFILL)
ENCODE = KINDS.index(StepKind.ENCODE)
#: Phases that only a detail level deeper than `step` tells apart.
INSIDE_FORWARD = tuple(p for p in GROUPS["forward"] + GROUPS["attention"] if p is not Phase.FORWARD)

Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric's value, in the metric's unit; None where there is not enough data. `count`: samples it stands
    on.

    `note`: what is special about this value (what was left out, how many generations it is the median of);
    may be "".
    """

    metric: Metric
    value: float | None
    count: int
    note: str = ""


def as_json(measured: Measured) -> dict[str, float | int | str | None]:
    """For the headless program: value, unit and count."""
    return {"value": measured.value, "unit": measured.metric.unit, "count": measured.count}


def summary(
    trace: Trace,
    generations: Sequence[GenerationRecord] | None = None,
    *,
    configuration: int | None = None,
    targets: Targets = CHAT,
    counted: range | None = None,
) -> dict[str, Measured]:
    """Every metric by its key, over some generations of a trace (all of them by default).

    With `configuration` only steps under its settings count, with `counted` only those rows of `Steps`; and only
    generations of which every step counts have latencies of their own. Raises IndexError when the trace has no such
    configuration.
    """
    view = view_generations(trace, generations, configuration, counted)
    measured = [function(view) for function in _PLAIN]
    measured += [
        *itl(view),
        *sequence_latency(view),
        *stalls(view),
        *goodput(view, targets),
        *acceptance(view),
    ]
    measured += phase_shares(view)
    measured += energy_metrics(trace, generations, configuration)
    return {m.metric.key: m for m in measured}


# ---------------------------------------------------------------- one value a generation


def ttft(view: GenerationView) -> Measured:
    """Time to first token: a1 - t0; of a sequence that joined since it was submitted."""
    own = view.arrivals_ns[view.token_begin[view.whole]]
    if not view.joined_ns:
        return _median_of("ttft", view, own)
    sequences = view.sequences
    joined = view.whole[sequences.generation] & (sequences.joined_ns != NOT_JOINED)
    values = np.concatenate((own, (sequences.first_ns - sequences.joined_ns)[joined]))
    note = f"median of {len(values)}, {int(joined.sum())} of them of sequences that joined"
    return Measured(METRICS["ttft"], _middle(values), len(values), note)


def end_to_end(view: GenerationView) -> Measured:
    """aN - t0, of generations that are over."""
    return _median_of("end_to_end", view, _last_arrivals(view, view.whole & view.ended))


def tpot(view: GenerationView) -> Measured:
    """Time per output token, of each sequence: (aN - a1) / (N - 1)."""
    several = _sequences_with_gaps(view)
    sequences = view.sequences
    span = (sequences.last_ns - sequences.first_ns)[several]
    return _median_of_sequences("tpot", view, span / (sequences.tokens[several] - 1))


def output_throughput(view: GenerationView) -> Measured:
    """Tokens of all sequences / (aN - t0)."""
    some = view.whole.copy()
    some[some] = _last_arrivals(view, some) > 0
    tokens = view.token_end[some] - view.token_begin[some]
    return _median_of("output_throughput", view, tokens * SECOND_NS / _last_arrivals(view, some))


def decode_throughput(view: GenerationView) -> Measured:
    """Tokens of all sequences behind the first arrival / (aN - a1)."""
    several = _with_gaps(view)
    begin, end = view.token_begin[several], view.token_end[several]
    span = _last_arrivals(view, several) - view.arrivals_ns[begin]
    owner = view.generation[view.token_step]
    is_later = view.arrivals_ns > view.arrivals_ns[view.token_begin[owner]] if len(owner) else owner
    later = np.concatenate(([0], np.cumsum(is_later)))
    return _median_of("decode_throughput", view, (later[end] - later[begin]) * SECOND_NS / span)


def decode_throughput_each(view: GenerationView) -> Measured:
    """Of each sequence: (N - 1) / (aN - a1)."""
    several = _sequences_with_gaps(view)
    sequences = view.sequences
    span = (sequences.last_ns - sequences.first_ns)[several]
    rates = (sequences.tokens[several] - 1) * SECOND_NS / span
    return _median_of_sequences("decode_throughput_each", view, rates)


def prefill_throughput(view: GenerationView) -> Measured:
    """Prompt tokens / wall time of the prefill steps."""
    prefill = view.counted & (view.kinds == PREFILL)
    return _rate("prefill_throughput", view, prefill, view.prompt_tokens)


def input_throughput(view: GenerationView) -> Measured:
    """Input tokens, without padding, / wall time of the encode steps."""
    return _rate("input_throughput", view, _encodes(view), view.prompt_tokens)


def sequence_throughput(view: GenerationView) -> Measured:
    """Sequences / wall time of the encode steps, of a model that only reads."""
    return _rate("sequence_throughput", view, _encodes_only(view), view.batch)


def _rate(key: str, view: GenerationView, which: Bool, amount: Int64) -> Measured:
    """Amounts (s,) a second of some steps' (s,) wall time, in each generation that has such steps."""
    owner, among = view.generation[which], len(view.submitted_ns)
    wall = np.bincount(owner, view.wall_ns[which], among)
    total = np.bincount(owner, amount[which], among)
    some = (wall > 0) & (total > 0)
    return _median_of(key, view, total[some] * SECOND_NS / wall[some])


def _median_of(key: str, view: GenerationView, values: Numbers) -> Measured:
    left_out = len(view.submitted_ns) - len(values)
    notes = [f"median of {len(values)} generations"] if len(values) > 1 else []
    notes += [f"{left_out} without a value left out"] if left_out and len(values) else []
    return Measured(METRICS[key], _middle(values), len(values), "; ".join(notes))


def _middle(values: Numbers) -> float | None:
    return float(np.median(values)) if len(values) else None


def _last_arrivals(view: GenerationView, which: Bool) -> Int64:
    return view.arrivals_ns[view.token_end[which] - 1]


def _with_gaps(view: GenerationView) -> Bool:
    """Generations whose tokens came at more than one time."""
    several = view.whole.copy()
    several[several] = _last_arrivals(view, several) > view.arrivals_ns[view.token_begin[several]]
    return several


def _sequences_with_gaps(view: GenerationView) -> Bool:
    """Sequences (q,) of whole generations whose tokens came at more than one time."""
    sequences = view.sequences
    several: Bool = view.whole[sequences.generation] & (sequences.last_ns > sequences.first_ns)
    return several


def _median_of_sequences(key: str, view: GenerationView, values: Numbers) -> Measured:
    """As `_median_of`; where sequences are decoded together, each of them counts."""
    if len(view.sequences.tokens) <= len(view.submitted_ns):
        return _median_of(key, view, values)
    return Measured(METRICS[key], _middle(values), len(values), f"median of {len(values)} sequences")


# ---------------------------------------------------------------- gaps between arrivals


def itl(view: GenerationView) -> tuple[Measured, ...]:
    """Inter-token latency: p50, p95, p99, largest and mean of the gaps between distinct arrivals, pooled."""
    gaps = view.gaps.gap_ns
    if not len(gaps):
        values: tuple[float | None, ...] = (None,) * 5
    else:
        values = (*(percentiles(gaps, (50, 95, 99)) or ()), float(gaps.max()), float(gaps.mean()))
    keys = ("itl_p50", "itl_p95", "itl_p99", "itl_max", "itl_mean")
    return tuple(Measured(METRICS[k], v, len(gaps)) for k, v in zip(keys, values, strict=True))


def stalls(view: GenerationView) -> tuple[Measured, Measured]:
    """How many gaps were stalls, of those with enough history to judge, and the largest stall."""
    gaps = view.gaps
    groups = (
        view.generation[gaps.step] * (1 + view.configuration.max(initial=0)) + view.configuration[gaps.step]
    )
    judged, stalled = find_stalls(gaps.gap_ns, groups)
    count = int(judged.sum())
    largest = gaps.gap_ns[stalled].max(initial=0)
    return (
        Measured(METRICS["stalls"], float(stalled.sum()) if count else None, count),
        Measured(METRICS["stall_largest"], float(largest) if stalled.any() else None, count),
    )


def find_stalls(gap_ns: Int64, groups: Int64) -> tuple[Bool, Bool]:
    """Which gaps (n,) could be judged, and which were stalls: > max(5 × median, median + 10 MAD) of those
    before.

    Those before are the last 64 of the same group (generation and settings: a switch to something slower is
    no stall), at least 16. The past alone decides, so a stall stays one whatever follows.
    """
    order = np.argsort(groups, kind="stable")
    values = gap_ns[order]
    begins = np.flatnonzero(np.diff(groups[order], prepend=-1))
    place = np.arange(len(values)) - np.repeat(begins, np.diff(begins, append=len(values)))
    judged, stalled = np.zeros((2, len(values)), np.bool_)
    judged[order] = place >= STALL_HISTORY
    candidates = np.flatnonzero((place >= STALL_HISTORY) & (values > 5 * _least_before(values)))
    stalled[order[candidates]] = values[candidates] > _stall_limits(values, candidates, place[candidates])
    return judged, stalled


def _least_before(values: Int64) -> Int64:
    """At most the least of the 64 values before each (n,): that of its block of 64 and the block before.
    Cheap.
    """
    if not len(values):
        return values
    least = np.minimum.reduceat(values, np.arange(0, len(values), STALL_WINDOW))
    least[1:] = np.minimum(least[1:], least[:-1])
    return np.repeat(least, STALL_WINDOW)[: len(values)]


def _stall_limits(values: Int64, candidates: Int64, place: Int64) -> npt.NDArray[np.float64]:
    """The stall limit for each candidate: a place in `values`, with `place` values of its group before it."""
    padded = np.concatenate((np.full(STALL_WINDOW, np.inf), values))
    before = sliding_window_view(padded, STALL_WINDOW)[candidates]
    before[np.arange(STALL_WINDOW) < (STALL_WINDOW - place)[:, None]] = (
        np.inf
    )  # sorted to the end, not counted
    counts = np.minimum(place, STALL_WINDOW)
    middle = quantile_of_sorted_rows(np.sort(before, axis=1), counts, 0.5)
    distance = np.sort(np.abs(before - middle[:, None]), axis=1)
    spread = quantile_of_sorted_rows(distance, counts, 0.5)
    limits: npt.NDArray[np.float64] = np.maximum(5 * middle, middle + 10 * spread)
    return limits


def goodput(view: GenerationView, targets: Targets = CHAT) -> tuple[Measured, Measured]:
    """Share of the generations that met all targets, and of the tokens that came in time."""
    late = _late_tokens(view, targets)
    total_late = np.concatenate(([0], np.cumsum(late)))
    over = view.whole & view.ended
    met = total_late[view.token_end[over]] == total_late[view.token_begin[over]]
    timely = ~late[view.counted[view.token_step]]
    wanted = str(targets)
    return (
        Measured(METRICS["goodput"], _share_of(met), len(met), wanted),
        Measured(METRICS["goodput_tokens"], _share_of(timely), len(timely), wanted),
    )


def _share_of(flags: Bool) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _late_tokens(view: GenerationView, targets: Targets) -> Bool:
    """Tokens (t,) that came after their target: the first arrival of a generation by TTFT, the others by
    their gap. Where sequences have joined, each of them counts by itself.
    """
    if view.joined_ns:
        own, is_first = view.waits
        return np.where(is_first, own > targets.ttft_limit, own > targets.itl_limit)
    begins = view.token_begin[view.token_end > view.token_begin]
    wait = np.diff(view.arrivals_ns, prepend=0)
    first = np.zeros(len(wait), np.bool_)
    first[begins] = True
    wait[begins] = view.arrivals_ns[begins]
    late: Bool = np.where(first, wait > targets.ttft_limit, wait > targets.itl_limit)
    arrival = np.cumsum(first | (wait != 0)) - 1
    late_arrivals: Bool = late[first | (wait != 0)]
    late_tokens: Bool = late_arrivals[arrival]
    return late_tokens


# ---------------------------------------------------------------- steps and their phases


def token_latency(view: GenerationView) -> Measured:
    """Median of wall time / tokens over the steps that yielded tokens, prefill left out."""
    some = view.counted & (view.tokens_per_step > 0) & (view.kinds != PREFILL)
    values = view.wall_ns[some] / view.tokens_per_step[some]
    return Measured(METRICS["token_latency"], _middle(values), len(values))


def acceptance(view: GenerationView) -> tuple[Measured, ...]:
    """Of the tokens that were proposed those that were right, and how many that are a verify step."""
    some = view.counted & (view.drafted > 0)
    drafted, accepted, count = int(view.drafted[some].sum()), int(view.accepted[some].sum()), int(some.sum())
    return (
        Measured(METRICS["acceptance"], accepted / drafted if drafted else None, drafted),
        Measured(METRICS["accepted_length"], accepted / count if count else None, count),
    )


def tokens_per_step(view: GenerationView) -> Measured:
    """Mean of n_s over the steps that decode or verify."""
    some = view.counted & ((view.kinds == DECODE) | (view.kinds == VERIFY))
    grown = view.tokens_per_step[some]
    return Measured(METRICS["tokens_per_step"], float(grown.mean()) if len(grown) else None, len(grown))


def encode_time(view: GenerationView) -> Measured:
    """Median wall time of the encode steps of a model that writes: how long it read before it did."""
    wall = view.wall_ns[_encodes(view) & view.writes]
    return Measured(METRICS["encode_time"], _middle(wall), len(wall))


def sequence_latency(view: GenerationView) -> tuple[Measured, ...]:
    """p50, p95 and p99 of wall time / batch over the encode steps of a model that only reads."""
    some = _encodes_only(view)
    latencies = view.wall_ns[some] / view.batch[some]
    values = percentiles(latencies, (50, 95, 99)) or (None,) * 3
    keys = ("sequence_p50", "sequence_p95", "sequence_p99")
    return tuple(Measured(METRICS[k], v, len(latencies)) for k, v in zip(keys, values, strict=True))


def padding_share(view: GenerationView) -> Measured:
    """Positions computed for nothing, of all in the encode steps of a model that only reads."""
    some = _encodes_only(view)
    padding, real = int(view.padding_tokens[some].sum()), int(view.prompt_tokens[some].sum())
    share = padding / (padding + real) if padding + real else None
    return Measured(METRICS["padding_share"], share, int(some.sum()))


def _encodes(view: GenerationView) -> Bool:
    encodes: Bool = view.counted & (view.kinds == ENCODE)
    return encodes


def _encodes_only(view: GenerationView) -> Bool:
    """Encode steps, where the model does nothing else: an encoder that feeds a decoder is part of one sequence."""
    return _encodes(view) & (not view.writes)


def floor_share(view: GenerationView) -> Measured:
    """Median of floor_s / wall_s over the steps that decode, verify, or encode for their own sake."""
    some = _floored(view) & (view.floor_ns > 0) & (view.wall_ns > 0)
    shares = view.floor_ns[some] / view.wall_ns[some]
    return Measured(METRICS["floor_share"], _middle(shares), len(shares))


def mbu(view: GenerationView) -> Measured:
    """Median of the bandwidth utilization over the same steps."""
    shares = view.utilization[_floored(view) & np.isfinite(view.utilization)]
    return Measured(METRICS["mbu"], _middle(shares), len(shares))


def intensity(view: GenerationView) -> Measured:
    """Median of the arithmetic intensity over the same steps."""
    known = view.intensity[_floored(view) & np.isfinite(view.intensity)]
    return Measured(METRICS["intensity"], _middle(known), len(known))


def _floored(view: GenerationView) -> Bool:
    writes: Bool = (view.kinds == DECODE) | (view.kinds == VERIFY)
    return view.counted & (writes | _encodes_only(view))


def unattributed(view: GenerationView) -> Measured:
    """Median share of a step's wall time that is in no phase."""
    shares = _shares(view, (Phase.UNATTRIBUTED,), view.counted)
    return Measured(METRICS["unattributed"], _middle(shares), len(shares))


def phase_shares(view: GenerationView) -> tuple[Measured, ...]:
    """For forward, attention and decode: the median share of a step's wall time, and the total."""
    apart = view.counted & (_sum_of(view.phases_ns, INSIDE_FORWARD) > 0)
    measured: list[Measured] = []
    for group, phases in GROUPS.items():
        measured += _group(view, group, phases, view.counted if group == "decode" else apart)
    return tuple(measured)


def _group(
    view: GenerationView, group: str, phases: Sequence[Phase], which: Bool
) -> tuple[Measured, Measured]:
    left_out = int(view.counted.sum() - which.sum())
    note = f"{left_out} steps that tell nothing apart inside the forward pass left out" if left_out else ""
    shares = _shares(view, phases, which)
    count = int(which.sum())
    total = float(_sum_of(view.phases_ns, phases)[which].sum()) if count else None
    return (
        Measured(METRICS[f"{group}_share"], _middle(shares), len(shares), note),
        Measured(METRICS[f"{group}_total"], total, count, note),
    )


def _shares(view: GenerationView, phases: Sequence[Phase], which: Bool) -> npt.NDArray[np.float64]:
    some = which & (view.wall_ns > 0)
    shares: npt.NDArray[np.float64] = _sum_of(view.phases_ns, phases)[some] / view.wall_ns[some]
    return shares


def _sum_of(phases_ns: Int64, phases: Sequence[Phase]) -> Int64:
    """Wall time in some phases: (steps, PHASE_COUNT) to (steps,)."""
    total = np.zeros(len(phases_ns), np.int64)
    for phase in phases:
        total += phases_ns[:, phase]
    return total


# ---------------------------------------------------------------- counts


def steps(view: GenerationView) -> Measured:
    """Steps measured."""
    return _count("steps", int(view.counted.sum()), _captured_words(view))


def tokens(view: GenerationView) -> Measured:
    """Tokens of all sequences."""
    return _count("tokens", int(view.counted[view.token_step].sum()), _captured_words(view))


def _captured_words(view: GenerationView) -> str:
    count = view.left_out
    return f"{count} step{'s' if count != 1 else ''} captured in depth left out" if count else ""


def sequences(view: GenerationView) -> Measured:
    """Sequences that a model which only reads has read."""
    return _count("sequences", int(view.batch[_encodes_only(view)].sum()))


def context_length(view: GenerationView) -> Measured:
    """Context of the latest step: what the next one will find."""
    lengths = view.context_length[view.counted & (view.kinds != ENCODE)]
    return Measured(METRICS["context_length"], float(lengths[-1]) if len(lengths) else None, len(lengths))


def held(view: GenerationView) -> Measured:
    """What the user kept the engine waiting: in no latency, so it is told apart."""
    count = int(view.counted.sum())
    return Measured(METRICS["held"], float(view.held_ns[view.counted].sum()) if count else None, count)


def energy_metrics(
    trace: Trace, generations: Sequence[GenerationRecord] | None, configuration: int | None
) -> tuple[Measured, Measured]:
    """Energy per token and mean power over stretches of steps (see engine.trace.energy)."""
    found = energy(trace, generations, configuration)
    note = ""
    if found.stretches:
        several = f" in {found.stretches} stretches" if found.stretches > 1 else ""
        note = f"over {found.seconds:.1f} s{several}; counted: {', '.join(found.counters)} alone"
    return (
        Measured(METRICS["energy_per_token"], found.per_token, found.tokens, note),
        Measured(METRICS["mean_power"], found.power_w, found.stretches, note),
    )


def _count(key: str, count: int, note: str = "") -> Measured:
    return Measured(METRICS[key], float(count) if count else None, count, note)


_PLAIN: tuple[Callable[[GenerationView], Measured], ...] = (
    ttft,
    tpot,
    token_latency,
    end_to_end,
    output_throughput,
    decode_throughput,
    decode_throughput_each,
    tokens_per_step,
    prefill_throughput,
    encode_time,
    sequence_throughput,
    input_throughput,
    padding_share,
    floor_share,
    mbu,
    intensity,
    unattributed,
    steps,
    tokens,
    sequences,
    context_length,
    held,
)
