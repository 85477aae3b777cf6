"""Run: one generation on a workbench, step by step.

Before each step comes what is due between two (turns, another level of detail, who joins); after it, it is handed over.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter_ns, thread_time_ns

from engine.protocol import (
    Configuration,
    Failed,
    GenerationEnded,
    Join,
    ProbeTraining,
    SamenessMeasured,
    SequenceJoined,
)
from engine.runtime.alternating import Alternation, AlternationRefused
from engine.runtime.caches import cache_bytes
from engine.runtime.capturing import Capture
from engine.runtime.encoding import Encoding
from engine.runtime.floors import Found
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.handing import Made, marks_of
from engine.runtime.joining import JoinRefused, Newcomer, why_never
from engine.runtime.profiling import CaptureRefused
from engine.runtime.prompts import fitted
from engine.runtime.sameness import SamenessRefused, measure_sameness
from engine.runtime.settings.together import why_not_joined
from engine.runtime.training_probe import ProbeRefused, training_step
from engine.runtime.workbench import Workbench
from engine.runtime.writing import end_tokens
from engine.trace.phases import StepKind

_ENDED_BEFORE = "The generation ended before another sequence could join it: run that prompt by itself."


class Run:
    """One generation on a workbench, step by step."""

    def __init__(self, workbench: Workbench, work: Generation | Encoding, number: int) -> None:
        self._workbench = workbench
        self._work = work
        self._steps: Iterator[Stepped] = iter(work)
        self._number = number
        self._last_end_ns = perf_counter_ns()
        self._untold: dict[int, SequenceJoined] = {}  # sequences that are to join, by number
        self._aside_ns = 0  # since the last step, for trials that belong to no latency
        self.alternation: Alternation | None = None
        self._capture: Capture | None = None  # of the step under way
        work.context.awaited = self._is_awaited
        prompt = work.prompt if isinstance(work, Generation) else []
        self._past = workbench.past.begin(prompt, work.context.capacity)

    def _is_awaited(self) -> bool:
        turns = self.alternation is not None and self.alternation.is_due
        due = self._workbench.detail_choice.is_due or self._capture is not None
        return turns or due or self._workbench.is_awaited()

    @property
    def is_ahead(self) -> bool:
        """Whether a token is on its way to the host: then the next thing to do is another step."""
        return self._work.context.unread > 0

    def capture_next(self) -> str:
        """Do one step under the profiler, and say what it was made of; why the generation ended, or "".

        Raises CaptureRefused before the step; where only what was seen of it cannot be read, that is told.
        """
        bench = self._workbench
        if self._work.context.beside is not None:
            raise CaptureRefused("Another sequence is about to join: capture a step once it has.")
        self._capture = capture = Capture(bench.live)
        try:
            ended = self.step(True)
        finally:
            self._capture = None
        try:
            layout = bench.handing.layout(self._last.codes)
            bench.emit(capture.event(bench.step_index - 1, layout, self._last.stamps))
        except CaptureRefused as refusal:
            bench.emit(Failed(perf_counter_ns(), str(refusal), command="capture"))
        return ended

    def step(self, held: bool) -> str:
        """Do one step and emit it; why the generation ended, or "". `held`: the user held the engine before it."""
        held = self._take_turn() or held
        held = self._workbench.make_missed() or held
        held = self._follow_cost() or held
        bench = self._workbench
        bench.follow_floors()
        with nullcontext() if self._capture is None else self._capture.around():
            held_ns = perf_counter_ns() - self._last_end_ns if held else self._aside_ns
            self._aside_ns = 0
            self._tell_newcomer()
            found = self._found()
            stepped = next(self._steps)
            end_ns, handing_ns = perf_counter_ns(), thread_time_ns()
        if self.alternation is not None:
            self.alternation.after_step(bool(stepped.tokens) and stepped.kind is not StepKind.PREFILL)
        self._last = stepped
        told = bench.take(self._made(stepped, found, held_ns), end_ns)
        if bench.holds_back and self._is_awaited():
            bench.settle()
        bench.step_index += 1
        bench.observer.after_step(marks_of(stepped), handing_ns - bench.take_reading_ns())
        if told:
            bench.memory.after_step(bench.emit, end_ns)
            bench.observer.tell(bench.emit)
        self._last_end_ns = end_ns
        return stepped.end_reason

    def join(self, command: Join, submitted_ns: int) -> None:
        """Another sequence is to join at the next step boundary. Raises JoinRefused or PromptRefused."""
        live, work = self._workbench.live, self._work
        if not isinstance(work, Generation):
            raise JoinRefused("A sequence joins others that are written, and this model writes none.")
        if command.max_new_tokens < 1:
            raise JoinRefused(
                f"A sequence needs at least one new token, not {command.max_new_tokens}: raise the number."
            )
        if reason := why_never(live):
            raise JoinRefused(reason)
        begin_ns = perf_counter_ns()
        prompt = fitted(live, command.prompt, command.max_new_tokens)
        tokenize_ns = perf_counter_ns() - begin_ns
        self._try_to_join()
        limits = Limits(command.max_new_tokens, end_tokens(live, command.stop_at_end_token))
        strand = work.join(prompt.ids, limits).strand
        self._untold[strand.number] = SequenceJoined(
            perf_counter_ns(),
            self._workbench.step_index,
            self._number,
            strand.number,
            submitted_ns,
            tokenize_ns,
            prompt.text,
            tuple(prompt.ids),
            strand.limits.max_new_tokens,
            prompt.dropped,
        )

    def _try_to_join(self) -> None:
        begin_ns = perf_counter_ns()
        reason = why_not_joined(self._workbench.live)
        self._aside_ns += perf_counter_ns() - begin_ns
        if reason:
            raise JoinRefused(reason)

    def _tell_newcomer(self) -> None:
        """The next step is the first that reads the prompt of a sequence that is to join: say so."""
        newcomer: Newcomer | None = self._work.newcomer if isinstance(self._work, Generation) else None
        told = self._untold.pop(newcomer.strand.number, None) if newcomer is not None else None
        if told is not None:
            bench = self._workbench
            bench.emit(replace(told, at_ns=perf_counter_ns(), step=bench.step_index))

    def _take_turn(self) -> bool:
        """Whether an alternation switched its setting for the next step."""
        if self.alternation is None or self._work.context.beside is not None:
            return False
        try:
            return self.alternation.before_step()
        except AlternationRefused as refusal:
            self.end_alternation(str(refusal))
            return True

    def _follow_cost(self) -> bool:
        """Whether the level of detail was changed for the next step, by what it costs."""
        busy = self.alternation is not None or self._capture is not None or self.is_ahead
        if busy or self._work.context.beside is not None:
            return False
        return self._workbench.detail_choice.follow()

    def end_alternation(self, reason: str = "") -> None:
        """Let the values take turns no more, where they did."""
        alternation, self.alternation = self.alternation, None
        if alternation is not None:
            alternation.end(reason)

    def measure_sameness(self, reference: Configuration) -> None:
        """Say how far the output moved from what it would be under `reference`. Raises SamenessRefused."""
        bench, begin_ns = self._workbench, perf_counter_ns()
        if not isinstance(self._work, Generation):
            raise SamenessRefused("Outputs are compared on tokens, and this model writes none.")
        sameness = measure_sameness(bench, self._work.prompt, reference, bench.tell_comparing)
        bench.emit(
            SamenessMeasured(
                begin_ns,
                bench.step_index,
                bench.configuration,
                reference,
                sameness,
                perf_counter_ns() - begin_ns,
            )
        )

    def probe_training(self, command: ProbeTraining) -> None:
        """Make a training step on the text so far, as a step of the trace. Raises ProbeRefused."""
        bench = self._workbench
        if not isinstance(self._work, Generation):
            raise ProbeRefused("A training step predicts next tokens, and this model predicts none.")
        ids = self._work.context.text_ids
        found = self._found()
        codes, stamps = training_step(bench.live, ids, self._work.prompt, command)
        stepped = Stepped(StepKind.BACKWARD, codes, stamps, (), len(ids), "")
        made = self._made(stepped, found, 0)
        bench.take(made._replace(past=None, probe=command), perf_counter_ns())
        bench.settle()
        bench.step_index += 1

    def _found(self) -> Found:
        """What the next step will find."""
        work = self._work
        newcomer = work.newcomer if isinstance(work, Generation) else None
        if newcomer is not None:
            return self._workbench.floors.find(newcomer.context)
        source = len(work.prompt) if isinstance(work, Generation) else 0
        return self._workbench.floors.find(work.context, source)

    def _made(self, stepped: Stepped, found: Found, held_ns: int) -> Made:
        """A step, with what cannot be read off the context any more once it has gone on."""
        bench, context = self._workbench, self._work.context
        has_gone_on = stepped.tokens or stepped.beams or context.unread
        nbytes = cache_bytes(context.cache)
        if context.beside is not None:
            nbytes += cache_bytes(context.beside.cache)
        return Made(
            bench.step_index,
            self._number,
            bench.configuration,
            stepped,
            found,
            held_ns,
            (context.length if has_gone_on else context.cached) - min(context.padding, default=0),
            nbytes,
            bench.floors.routed(),
            past=self._past,
            counts=self.alternation is None and self._capture is None,
            captured=self._capture is not None,
        )

    def end(self, reason: str) -> None:
        """Emit the end of the generation and let its context go."""
        bench = self._workbench
        bench.settle()
        self.end_alternation()
        bench.emit(GenerationEnded(self._number, perf_counter_ns(), reason, self._work.tail()))
        bench.live.context = None
        if reason != "stopped":
            for _ in self._untold:
                bench.emit(Failed(perf_counter_ns(), _ENDED_BEFORE, command="join"))
