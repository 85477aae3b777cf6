"""Our clocks held against a capture: the shares of attention and MLP by each, and how far they are apart.

Our clocks speak twice: of the same run, which shows whether phases begin and end where they should, and of the steps
around it, of the same kind and under the same settings, which ran without the profiler. A capture changes what it looks
at, since recording an operation takes time; and on a busy machine single steps vary by more than that.
"""

from dataclasses import dataclass

import numpy as np

from engine.trace.kernels import PARTS, Capture
from engine.trace.ledger import Int64
from engine.trace.store import Trace

WITHIN = 5.0  # points: what counts as agreement
NEIGHBOURS = 64
REACH = 512  # steps on either side in which they are looked for


@dataclass(frozen=True, slots=True)
class Agreement:
    """A part of the step ("attention", "MLP"): its share by the capture, and by our clocks.

    `in_run`: of the same run. `around`: the median of the steps around it, `spread` the distance of their quartiles.
    """

    part: str
    captured: float
    in_run: float
    around: float
    spread: float

    @property
    def points_in_run(self) -> float:
        """How far capture and clocks of the same run are apart, in percentage points."""
        return 100 * abs(self.captured - self.in_run)

    @property
    def points(self) -> float:
        """How far the capture and the steps around it are apart, in percentage points."""
        return 100 * abs(self.captured - self.around)

    @property
    def is_clear(self) -> bool:
        """Whether the steps around it vary so little that they can be held against a capture."""
        return 100 * self.spread <= WITHIN


def undisturbed(trace: Trace, row: int) -> Int64:
    """The nearest steps (n ≤ NEIGHBOURS) like one, that it is held against: itself, where it was captured again."""
    steps = trace.steps
    begin = max(0, row - REACH)
    near = slice(begin, row + REACH)
    alike = trace.configurations[int(steps.configuration[row])] if trace.configurations else ()
    same = [place for place, settings in enumerate(trace.configurations) if settings == alike] or [0]
    keep = (steps.kind[near] == steps.kind[row]) & (steps.batch[near] == steps.batch[row])
    keep &= ~steps.captured[near] & np.isin(steps.configuration[near], same)
    rows = begin + np.flatnonzero(keep)
    nearest: Int64 = np.sort(rows[np.argsort(np.abs(rows - row), kind="stable")][:NEIGHBOURS])
    return nearest


def agreement(trace: Trace, row: int) -> tuple[Agreement, ...]:
    """How the capture of a step and our clocks compare; () where there is nothing that could be compared.

    A part that neither tells apart is left out. What a device did is not compared with our spans on the host, which say
    when it was launched; nor is what the profiler sees in one piece and our stamps alone take apart: that agrees with
    them whatever they say.
    """
    capture, rows = trace.capture(row), undisturbed(trace, row)
    if capture is None or capture.has_device or _is_in_one_piece(capture) or not len(rows):
        return ()
    walls = np.maximum(trace.steps.wall_ns[rows], 1)
    own = capture.layout.phases_ns(capture.stamps[None])[0]
    found = []
    for part, phases in PARTS.items():
        shares = trace.steps.phases_ns[rows][:, list(phases)].sum(axis=1) / walls
        low, middle, high = (float(value) for value in np.percentile(shares, (25, 50, 75)))
        in_run = float(own[list(phases)].sum()) / max(1, capture.wall_ns)
        theirs = capture.share(part)
        if theirs is not None and (middle or in_run):
            found.append(Agreement(part, theirs, in_run, middle, high - low))
    return tuple(found)


def _is_in_one_piece(capture: Capture) -> bool:
    return 100 * capture.spanning_ns > WITHIN * capture.wall_ns


def agreement_sentences(trace: Trace, row: int) -> list[str]:
    """The comparison in words, for people."""
    capture = trace.capture(row)
    if capture is None:
        return []
    found = agreement(trace, row)
    if not found:
        return [_why_not(trace, row, capture)]
    count = len(undisturbed(trace, row))
    around = f"{count} step{'s' if count != 1 else ''} like it without the profiler"
    lines = [
        f"{each.part}: {each.captured:.1%} by the capture; by our clocks {each.in_run:.1%} in the same run,"
        f" {each.around:.1%} in {around} (median)"
        for each in found
    ]
    between = capture.between_ns / max(1, capture.wall_ns)
    return [
        *lines,
        _verdict(found),
        f"the host was in no operation for {between:.1%} of the step; that time is given to the operation that follows",
    ]


def _verdict(found: tuple[Agreement, ...]) -> str:
    in_run, around = (
        max(points) for points in zip(*((a.points_in_run, a.points) for a in found), strict=True)
    )
    if in_run > WITHIN:
        return f"capture and clocks of the same run are {in_run:.1f} points apart: one of them tells phases wrongly"
    if around <= WITHIN:
        return f"they agree within {WITHIN:g} points"
    if not all(each.is_clear for each in found):
        return (
            f"they agree within {WITHIN:g} points in the same run; steps vary by more than that from one to the next"
            " here, so that the steps around it say little: the machine is busy"
        )
    return (
        f"they agree within {WITHIN:g} points in the same run; the steps around it are {around:.1f} points away, which"
        " is what the profiler adds to small operations, or a disturbance: capture another"
    )


def _why_not(trace: Trace, row: int, capture: Capture) -> str:
    if capture.has_device:
        return "not held against our clocks: those are the host's here, and say when work was launched, not when it ran"
    if _is_in_one_piece(capture):
        return (
            "not held against our clocks: what is compiled is in one piece here, which they alone take apart"
        )
    if not len(undisturbed(trace, row)):
        return "not held against our clocks: no step like it has run without the profiler"
    return "not held against our clocks: at this level of detail they tell neither attention nor MLP apart"
