"""A step captured in depth: the next one of a generation, or one that was made, whose work is done again.

What is done again starts from a cache of its own, filled with the tokens that the step found, and goes through the same
loop: the generation that runs, its tokens and its random numbers are not touched.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter_ns

import numpy as np
import torch

from engine.protocol import NEXT_STEP, KernelsCaptured
from engine.runtime.caches import new_cache
from engine.runtime.clocks import wait_for_device
from engine.runtime.feeding import Feeding
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import LiveModel
from engine.runtime.past_steps import PastStep
from engine.runtime.profiling import MOST_ENTRIES, CaptureRefused, Entries, StepProfiler
from engine.trace.phases import StepKind

INSTEAD = "capture the next step instead."
#: What torch calls compiled code, and the launch of a captured graph, in a profile.
_COMPILED = ("Torch-Compiled Region", "CompiledFxGraph", "CompiledFunction")
_GRAPH = "GraphLaunch"


class Capture:
    """A capture under way, of the step with an index or of NEXT_STEP. Raises CaptureRefused where there can be none."""

    def __init__(self, live: LiveModel, step: int = NEXT_STEP) -> None:
        self._live = live
        self.step = step
        self._since_ns = perf_counter_ns()
        live.tell("starting the profiler")
        self._profiler = StepProfiler(live.device)
        self._profiler.ready()

    @contextmanager
    def around(self) -> Iterator[None]:
        """Inside, everything is profiled. Raises CaptureRefused before anything is done inside."""
        self._profiler.start()
        try:
            yield
        except BaseException:
            self._profiler.cancel()
            raise
        self._profiler.stop()

    def event(self, step: int, layout: int, stamps: bytes) -> KernelsCaptured:
        """What was seen of the step with these stamps. Raises CaptureRefused."""
        times = np.frombuffer(stamps, np.int64)
        begin_ns, end_ns = int(times[0]), int(times[-1])
        entries = self._profiler.entries(begin_ns, end_ns)
        now_ns = perf_counter_ns()
        took_ns = now_ns - self._since_ns
        return KernelsCaptured(
            now_ns,
            step,
            layout,
            stamps,
            entries.begin_ns.tobytes(),
            entries.duration_ns.tobytes(),
            entries.name.astype(np.uint32).tobytes(),
            entries.lane.astype(np.uint32).tobytes(),
            entries.launched_by.astype(np.int32).tobytes(),
            entries.names,
            entries.lanes,
            entries.host_lanes,
            entries.exact_ns,
            self.step != NEXT_STEP,
            entries.dropped,
            tuple(self._notes(entries)),
            took_ns,
            took_ns - (end_ns - begin_ns),
        )

    def _notes(self, entries: Entries) -> Iterator[str]:
        has_device = len(entries.lanes) > entries.host_lanes
        if not self._profiler.sees_device:
            yield (
                f"What runs on {self._live.device} is not seen by torch's profiler here: only what the host launched is"
                " shown."
            )
        if not has_device and any(name.startswith(_COMPILED) for name in entries.names):
            yield (
                "Compiled code shows as a region: what was fused in it has no entry of its own, and its time is told"
                " apart by our marks alone."
            )
        if any(_GRAPH in name for name in entries.names):
            yield "A graph is launched as a whole: its kernels are told apart by when they ran."
        if entries.dropped:
            yield f"There were more than {MOST_ENTRIES:,} entries: the {entries.dropped:,} shortest are left out."


def why_not_again(live: LiveModel, past: PastStep | None, step: int, is_same: bool) -> str:
    """Why a step's work cannot be done again; "" where it may be tried. `is_same`: its settings are in force."""
    if past is None:
        return f"What step {step} found is not remembered, so its work cannot be done again: {INSTEAD}"
    if past.kind not in (StepKind.PREFILL, StepKind.DECODE) or past.rows > 1:
        return (
            f"Step {step} is not one that reads or writes a single sequence, and only the work of those can be done"
            f" again: {INSTEAD}"
        )
    if not is_same:
        return (
            f"Step {step} ran under other settings than are in force: put them back into force, or {INSTEAD}"
        )
    loop = live.loop
    if loop.speculation != "off" or loop.beams > 1 or loop.batch > 1:
        return f"With proposed tokens, beams or several sequences a step cannot be made by itself: {INSTEAD}"
    if live.replayed is not None:
        return f"A captured graph works on the memory of its own cache, and not on a copy of it: {INSTEAD}"
    return ""


def do_again(live: LiveModel, past: PastStep, capture: Capture) -> Stepped:
    """Do a step's work again, captured. Raises CaptureRefused, and leaves the generation that runs as it was."""
    context = live.context
    try:
        generation = _rebuilt(live, past)
        with capture.around():
            stepped = generation.once()
        if live.compiled is not None and live.compiled.missed is not None:
            raise CaptureRefused(f"The compiled code does not fit a copy of the cache: {INSTEAD}")
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise CaptureRefused(f"There is too little memory for a second cache: {INSTEAD}") from error
    finally:
        live.context = context
        if live.compiled is not None:
            live.compiled.missed = None
    return stepped


def _rebuilt(live: LiveModel, past: PastStep) -> Generation:
    """A generation that stands where the step began: its tokens known, as many of them cached as there were."""
    encodes = live.anatomy.encoder is not None
    begin, length = (past.prompt, 1) if encodes else (past.ids, len(past.ids))
    generation = Generation(live, begin, Limits(max(1, past.capacity - length)))
    context = generation.context
    context.ids[:] = past.ids
    context.capacity = past.capacity
    context.cache = new_cache(live, live.cache_kind, past.capacity)
    with live.forward_mode():
        if live.anatomy.encoder is not None:
            prompt = torch.tensor([past.prompt], dtype=torch.long, device=live.device)
            context.encoded = live.anatomy.encoder(input_ids=prompt)
        if live.cache_kind != "none":
            _fill(live, generation, past.cached)
    wait_for_device(live.device)
    return generation


def _fill(live: LiveModel, generation: Generation, cached: int) -> None:
    """Read the first tokens into the cache, in chunks as a prompt."""
    context, feeding = generation.context, Feeding(live, generation.context)
    with live.uncompiled():
        while context.cached < cached:
            count = min(cached - context.cached, live.prefill_chunk or cached)
            ids = torch.tensor([context.ids[context.cached : context.cached + count]], device=live.device)
            output = live.model(**feeding.arguments(ids, live.cache_kind))
            feeding.count(output, ids, live.cache_kind)
