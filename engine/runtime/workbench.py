"""Workbench: a loaded model with its settings, ready to run; and Run, one generation on it.

What happens here is what a session orders: load, change settings, start, step. Every outcome leaves as an event.
"""

import inspect
from array import array
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter_ns, thread_time_ns

import torch

from engine.protocol import (
    BeamsRanked,
    Configuration,
    CountTokens,
    Emit,
    Failed,
    Family,
    Flush,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Join,
    LayoutDefined,
    Load,
    ModelLoaded,
    Noticed,
    ProbeTraining,
    Progress,
    SamenessMeasured,
    SequenceJoined,
    SequencesEncoded,
    SettingChange,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    ShapeDefined,
    StepEnded,
    TokensCounted,
)
from engine.runtime.alternating import TURN_STEPS, Alternation, AlternationRefused
from engine.runtime.anatomy import find_anatomy
from engine.runtime.caches import cache_bytes, new_cache
from engine.runtime.capturing import Capture, do_again, why_not_again
from engine.runtime.clocks import StampRecorder
from engine.runtime.detail_choice import DetailChoice
from engine.runtime.device_clock import DeviceRecorder
from engine.runtime.device_events import open_events
from engine.runtime.encoding import Encoding, encode_inputs
from engine.runtime.floors import Before, Floors
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.holding import HeldBack
from engine.runtime.joining import JoinRefused, Newcomer, why_never
from engine.runtime.live import LiveModel
from engine.runtime.models.errors import LoadGivenUp
from engine.runtime.models.loading import load_model
from engine.runtime.models.memory import SPLIT
from engine.runtime.models.progress import LoadReport
from engine.runtime.past_steps import PastSteps
from engine.runtime.placement import time_crossings
from engine.runtime.profiling import CaptureRefused
from engine.runtime.prompts import (
    SHOWN_CHARACTERS,
    PromptRefused,
    Tokenized,
    answer_limit,
    fitted,
    prompt_limit,
    tokenize,
)
from engine.runtime.sameness import SamenessRefused, measure_sameness
from engine.runtime.settings import ALL, places
from engine.runtime.settings.adapting import has_missed, made_for_missed
from engine.runtime.settings.base import Setting
from engine.runtime.settings.conflicts import PROMPTS, UNEQUAL, why_excluded
from engine.runtime.settings.decoding import own_decoding
from engine.runtime.settings.execution import default_threads
from engine.runtime.settings.instrumentation import as_chosen
from engine.runtime.settings.resolve import apply_changes, apply_defaults
from engine.runtime.settings.suited import suited
from engine.runtime.settings.together import why_not_joined, why_not_padded
from engine.runtime.telemetry import MemorySampler, Observer
from engine.runtime.training_probe import ProbeRefused, training_step
from engine.trace import ledger
from engine.trace.floor import Fed
from engine.trace.phases import Detail, StepKind

_ENDED_BEFORE = "The generation ended before another sequence could join it: run that prompt by itself."
CACHE_ARGUMENTS = ("past_key_values", "cache_params", "state")


class Workbench:
    """A model made ready: loaded, its parts found, its settings probed. Raises ModelError when it cannot be."""

    def __init__(
        self,
        command: Load,
        place: str,
        emit: Emit,
        flush: Flush,
        is_given_up: Callable[[], bool] = lambda: False,
        is_awaited: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_awaited`: whether somebody waits for the end of the step under way, to do something between two."""
        self._tell_now = emit
        self.is_awaited = is_awaited
        self.flush = flush
        self._place = place
        begin_ns = perf_counter_ns()
        report = LoadReport(self._tell, is_given_up)
        self.live = self._load(command, report)
        self.live.tell = lambda activity: self._tell(Progress(perf_counter_ns(), activity, None))
        self.live.new_report = lambda: LoadReport(self._tell, is_given_up)
        self.recorder = self.live.recorder
        self._held = HeldBack(emit, self.recorder) if isinstance(self.recorder, DeviceRecorder) else None
        self.emit = self._held.emit if self._held is not None else emit
        self.live.notice = lambda sentence, about: self.emit(Noticed(perf_counter_ns(), sentence, about))
        self.facts = self._probe(report)
        self.live.facts = replace(
            self.live.facts, load_ns=perf_counter_ns() - begin_ns, load_stages_ns=report.stages_ns
        )
        self.configuration = 0
        self._configurations = 1
        self.step_index = 0
        self.memory = MemorySampler(self.live)
        self.observer = Observer(self.live.recorder)
        self._layouts: dict[bytes, int] = {}
        self._settings: dict[
            int, Configuration
        ] = {}  # by the number of the configuration, once a step ran under it
        self.past = PastSteps()
        self._generation_count = 0
        asked = as_chosen(self.live, tuple((k, v) for k, v in command.settings if k != "precision"))
        refused = self.apply(asked)
        self.detail_choice = DetailChoice(self, self._deepest())
        if is_given_up():  # maybe while a draft model was loaded, which alone was refused then
            self.close()
            raise LoadGivenUp
        self.floors = Floors(self.live, emit)
        self._tell_shape()
        self.emit(
            ModelLoaded(perf_counter_ns(), self.live.facts, self.facts, self.configuration, self.effective())
        )
        self._report_refused(refused)
        self.follow_floors()

    def _load(self, command: Load, report: LoadReport) -> LiveModel:
        torch.set_num_threads(
            default_threads()
        )  # before anything is tried: with every core taken, trials crawl
        precision = dict(command.settings).get("precision")
        loaded = load_model(command.model, command.device, str(precision) if precision else None, report)
        anatomy = find_anatomy(loaded.model)
        parameters = inspect.signature(loaded.model.forward).parameters
        facts = loaded.facts(anatomy)
        events, no_clock = open_events(loaded.device, bool(facts.placement))
        recorder = DeviceRecorder(events) if events is not None else StampRecorder()
        if facts.placement:
            time_crossings(loaded.model, recorder)
        return LiveModel(
            model=loaded.model,
            tokenizer=loaded.tokenizer,
            facts=facts,
            device=loaded.device,
            anatomy=anatomy,
            recorder=recorder,
            cache_argument=next((name for name in CACHE_ARGUMENTS if name in parameters), ""),
            keeps_logits="logits_to_keep" in parameters,
            own_decoding=own_decoding(getattr(loaded.model, "generation_config", None)),
            no_device_clock=no_clock,
        )

    def _probe(self, report: LoadReport) -> tuple[SettingFacts, ...]:
        report.stage("probe settings")
        self.live.untried.add("attention")
        facts = []
        for done, setting in enumerate(ALL):
            report(f"trying setting {setting.key}", done / len(ALL))
            facts.append(self._suited(setting))
        apply_defaults(self.live, facts)
        detail = next(setting for setting in ALL if setting.key == "detail")
        detail.apply(self.live, detail.current(self.live))
        report.stage("")
        return (*facts, places.engine_facts(), places.model_facts())

    def _deepest(self) -> Detail:
        """The deepest level that is chosen without being asked for."""
        return next(Detail(str(facts.default)) for facts in self.facts if facts.key == "detail")

    def _suited(self, setting: Setting) -> SettingFacts:
        facts = suited(setting.probe(self.live), self.live.facts)
        return replace(facts, turn_steps=TURN_STEPS.get(facts.key, 0))

    @property
    def is_tried(self) -> bool:
        """Whether everything that is offered has been tried."""
        return not self.live.untried

    def try_rest(self) -> None:
        """Try what was left out so that the first token would come soon. Call it while nothing is generated."""
        waiting = set(self.live.untried)
        self.live.untried.clear()
        again = {setting.key: self._suited(setting) for setting in ALL if setting.key in waiting}
        # Another value may be in force by now; the default stays what was told when the model was loaded.
        self.facts = tuple(
            replace(again.get(facts.key, facts), default=facts.default) for facts in self.facts
        )
        self.emit(SettingsProbed(perf_counter_ns(), self.facts))

    def _tell(self, progress: Progress) -> None:
        self._tell_now(progress)
        self.flush()

    def tell_comparing(self, share: float) -> None:
        """How far a comparison of outputs is."""
        self._tell(Progress(perf_counter_ns(), "comparing outputs", share))

    def effective(self) -> Configuration:
        """All settings in force, sorted by key."""
        values = {setting.key: setting.current(self.live) for setting in ALL} | self._places()
        return tuple(sorted(values.items()))

    def _places(self) -> dict[str, SettingValue]:
        model = SPLIT if self.live.facts.placement else str(self.live.device)
        return {places.ENGINE: self._place, places.MODEL: model}

    def change(self, settings: Configuration) -> None:
        """Change settings now, between two steps; what was asked for and what came of it is one event."""
        begin_ns = perf_counter_ns()
        changes = self.apply(as_chosen(self.live, settings))
        self.configuration = self.next_configuration()
        self.memory.soon()
        end_ns = perf_counter_ns()
        self.emit(
            SettingsChanged(
                begin_ns, self.step_index, changes, end_ns - begin_ns, self.configuration, self.effective()
            )
        )

    def make_missed(self) -> bool:
        """Compile or capture for a step that what was made did not fit, as a switch of its own. False without one."""
        if not has_missed(self.live):
            return False
        begin_ns = perf_counter_ns()
        changes = made_for_missed(self.live)
        if any(change.reason for change in changes):
            self.configuration = self.next_configuration()
        switch_ns = perf_counter_ns() - begin_ns
        self.emit(
            SettingsChanged(
                begin_ns, self.step_index, changes, switch_ns, self.configuration, self.effective()
            )
        )
        return True

    def _tell_shape(self) -> None:
        """What the steps of the model read and multiply belongs to its facts, with what could not be told of that."""
        shape, facts = self.floors.shape(), self.live.facts
        remarks = tuple(
            f"The floor: {remark}." for remark in (shape.remarks if shape else (self.floors.problem,))
        )
        self.live.facts = replace(facts, shape=shape, warnings=(*facts.warnings, *remarks))

    def follow_floors(self) -> None:
        """Derive what the floors of the configuration in force stand on, where it has not run yet."""
        if self.floors.knows(self.configuration):
            return
        shape = self.floors.follow(self.configuration)
        if shape is not None and shape != self.live.facts.shape:
            self.emit(ShapeDefined(perf_counter_ns(), self.configuration, shape))

    def next_configuration(self) -> int:
        """A number that no configuration has had yet."""
        self._configurations += 1
        return self._configurations - 1

    def apply(self, settings: Configuration) -> tuple[SettingChange, ...]:
        """Put settings into force where that is possible, without a word to the front end."""
        moves, others = places.apart(settings)
        facts = {fact.key: fact for fact in self.facts}
        here = [fact for key, fact in facts.items() if key not in places.KEYS]
        changes = apply_changes(self.live, others, here) if others else ()
        now = self._places()
        return (*changes, *(places.change(facts[key], value, now[key]) for key, value in moves))

    def _report_refused(self, changes: tuple[SettingChange, ...]) -> None:
        """What was asked for at load and refused is told as a mark: nothing asked for is dropped silently."""
        refused = tuple(change for change in changes if change.reason)
        if refused:
            self.emit(
                SettingsChanged(
                    perf_counter_ns(), self.step_index, refused, 0, self.configuration, self.effective()
                )
            )

    def count_tokens(self, question: CountTokens) -> None:
        """Answer how long a prompt is. Call it while nothing is generated."""
        limit = prompt_limit(self.live)
        try:
            if self.live.facts.family is Family.ENCODER:
                lines = encode_inputs(self.live, question.prompt.text, truncate=True)
                count, rendered = max(len(line.ids) + line.dropped for line in lines), ""
            else:
                taken = tokenize(self.live, question.prompt)
                count, rendered = len(taken.ids), taken.text if question.prompt.turns else ""
        except PromptRefused as refusal:
            answer = TokensCounted(perf_counter_ns(), question.request, 0, limit, reason=str(refusal))
        else:
            shown = rendered[:SHOWN_CHARACTERS]
            answer = TokensCounted(perf_counter_ns(), question.request, count, limit, shown)
        self.emit(answer)

    def start(self, command: Generate, submitted_ns: int) -> "Run":
        """Take a prompt. The generation has not made a step yet. Raises PromptRefused where it cannot be continued."""
        if self.live.facts.family is Family.ENCODER:
            return self._start_encoding(command, submitted_ns)
        if command.max_new_tokens < 1:
            raise PromptRefused(
                f"A generation needs at least one new token, not {command.max_new_tokens}: raise the number."
            )
        begin_ns = perf_counter_ns()
        prompt, *others = self._prompts(command)
        tokenize_ns = perf_counter_ns() - begin_ns
        room = answer_limit(self.live, max(len(each.ids) for each in (prompt, *others)))
        limits = Limits(min(command.max_new_tokens, room), self.end_tokens(command.stop_at_end_token))
        try:
            generation = Generation(self.live, prompt.ids, limits, [other.ids for other in others])
        except ValueError as error:  # an encoder–decoder that does not say how its answers begin
            raise PromptRefused(
                f"This model cannot answer ({str(error).rstrip('.')}): choose another model, or complete its"
                " generation_config.json."
            ) from error
        context = generation.context
        context.cache = new_cache(self.live, self.live.cache_kind, context.capacity)
        return self._started(
            generation,
            GenerationStarted(
                self._generation_count,
                submitted_ns,
                tokenize_ns,
                "\n".join(each.text for each in (prompt, *others)),
                tuple(id for each in (prompt, *others) for id in each.ids),
                command.max_new_tokens,
                sum(each.dropped for each in (prompt, *others)),
            ),
        )

    def _prompts(self, command: Generate) -> list[Tokenized]:
        """The prompt, or each of its lines where that is asked for. Raises PromptRefused."""
        if not command.lines:
            return [fitted(self.live, command.prompt, command.max_new_tokens)]
        lines = [line for line in command.prompt.text.splitlines() if line.strip()]
        if not lines:
            raise PromptRefused("There is no prompt: type something, one prompt a line.")
        loop = self.live.loop
        if (
            self.live.facts.family is not Family.DECODER
            or loop.speculation != "off"
            or loop.beams > 1
            or loop.batch > 1
            or loop.read_back != "synchronous"
        ):
            raise PromptRefused(
                "Several prompts are continued together by a decoder only, without speculation, beams or copies, and"
                " each token is waited for: set speculation to off, beams and batch to 1, read_back to synchronous."
            )
        prompts = [
            fitted(self.live, replace(command.prompt, text=line), command.max_new_tokens) for line in lines
        ]
        if len({len(each.ids) for each in prompts}) > 1:
            self._check_padding()
        return prompts

    def _check_padding(self) -> None:
        excluded = why_excluded(dict(self.effective()) | {PROMPTS: UNEQUAL})
        if reason := excluded or why_not_padded(self.live):
            raise PromptRefused(reason)

    def _start_encoding(self, command: Generate, submitted_ns: int) -> "Run":
        if command.batch < 1:
            raise PromptRefused(f"A step needs at least one input, not {command.batch}: raise the number.")
        begin_ns = perf_counter_ns()
        inputs = encode_inputs(self.live, command.prompt.text, truncate=command.prompt.truncate)
        tokenize_ns = perf_counter_ns() - begin_ns
        return self._started(
            Encoding(self.live, inputs, command.batch),
            GenerationStarted(
                self._generation_count,
                submitted_ns,
                tokenize_ns,
                command.prompt.text,
                tuple(id for line in inputs for id in line.ids),
                0,
                sum(line.dropped for line in inputs),
            ),
        )

    def _started(self, work: Generation | Encoding, started: GenerationStarted) -> "Run":
        self._generation_count += 1
        if isinstance(self.recorder, DeviceRecorder):
            self.recorder.begin_generation()
        self.emit(started)
        return Run(self, work, started.generation)

    def end_tokens(self, stop: bool) -> frozenset[int]:
        """The ids with which a sequence ends; none where it is not to `stop` there."""
        ids = self.live.model.generation_config.eos_token_id if stop else None
        if ids is None:
            return frozenset()
        return frozenset([ids] if isinstance(ids, int) else ids)

    def layout(self, codes: bytes) -> int:
        """The number of the layout with these codes (uint16); defines it, as an event, when it is new."""
        known = self._layouts.get(codes)
        if known is None:
            known = self._layouts[codes] = len(self._layouts)
            self.emit(LayoutDefined(known, self.recorder.names, tuple(array("H", codes))))
        return known

    @property
    def holds_back(self) -> bool:
        """Whether steps wait for the device's clock before they are told."""
        return self._held is not None

    def take_reading_ns(self) -> int:
        """Time that reading the device's clock took since the last call."""
        if not isinstance(self.recorder, DeviceRecorder):
            return 0
        took_ns, self.recorder.reading_ns = self.recorder.reading_ns, 0
        return took_ns

    def settle(self) -> None:
        """Say all that has been measured: nothing waits any more for the device's clock."""
        if self._held is not None:
            self._held.settle()

    def note_settings(self) -> int:
        """The number of the configuration in force, of which the settings are remembered."""
        if self.configuration not in self._settings:
            self._settings[self.configuration] = self.effective()
        return self.configuration

    def capture_again(self, step: int) -> None:
        """Do the work of a step that was made again, on a copy, and say what it was made of. Raises CaptureRefused."""
        live, past = self.live, self.past.find(step)
        is_same = past is not None and self._settings[past.configuration] == self.effective()
        reason = why_not_again(live, past, step, is_same)
        if past is None or reason:
            raise CaptureRefused(reason)
        capture = Capture(live, step)
        self._tell(Progress(perf_counter_ns(), f"doing step {step} again", None))
        stepped = do_again(live, past, capture)
        self.emit(capture.event(step, self.layout(stepped.codes), stepped.stamps))

    def close(self) -> None:
        """Let go of the model."""
        if self.live.probes is not None:
            self.live.probes.remove()
        for step in (self.live.compiled, self.live.replayed):
            if step is not None:
                step.take_out()  # what it said to torch is of the process
        self.live.context = None


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
            bench.emit(capture.event(bench.step_index - 1, *self._last_stamped))
        except CaptureRefused as refusal:
            bench.emit(Failed(perf_counter_ns(), str(refusal), command="capture"))
        return ended

    def step(self, held: bool) -> str:
        """Do one step and emit it; why the generation ended, or "". `held`: the user held the engine before it."""
        held = self._take_turn() or held
        held = self._workbench.make_missed() or held
        held = self._follow_cost() or held
        self._workbench.follow_floors()
        context = self._work.context
        found = context.ids, context.cached, context.length
        with nullcontext() if self._capture is None else self._capture.around():
            held_ns = perf_counter_ns() - self._last_end_ns if held else self._aside_ns
            self._aside_ns = 0
            self._tell_newcomer()
            before = self._before()
            stepped = next(self._steps)
            end_ns, handing_ns = perf_counter_ns(), thread_time_ns()
        if self.alternation is not None:
            self.alternation.after_step(bool(stepped.tokens) and stepped.kind is not StepKind.PREFILL)
        bench = self._workbench
        settings = bench.note_settings()
        self._past.note(bench.step_index, stepped.kind, found, stepped.batch, stepped.drafted, settings)
        fed = bench.floors.fed(before, stepped)
        bench.emit(self._event(stepped, held_ns, fed, self._capture is not None))
        bench.floors.after_step()
        if stepped.results:
            bench.emit(SequencesEncoded(bench.step_index, self._number, stepped.results))
        if stepped.beams:
            bench.emit(BeamsRanked(bench.step_index, self._number, stepped.beams))
        if bench.holds_back and self._is_awaited():
            bench.settle()
        bench.step_index += 1
        bench.memory.after_step(bench.emit, end_ns)
        marks = len(stepped.codes) // 2 + 2
        bench.observer.after_step(bench.emit, marks, handing_ns - bench.take_reading_ns())
        wall_ns = ledger.wall_ns(stepped.stamps)
        resting = self.alternation is not None or self._capture is not None
        bench.detail_choice.after_step(stepped.kind, wall_ns, marks, resting)
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
        end_tokens = self._workbench.end_tokens(command.stop_at_end_token)
        strand = work.join(prompt.ids, Limits(command.max_new_tokens, end_tokens)).strand
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
        codes, stamps = training_step(bench.live, ids, self._work.prompt, command)
        stepped = Stepped(StepKind.BACKWARD, codes, stamps, (), len(ids), "")
        fed = bench.floors.fed(self._before(), stepped, command)
        bench.emit(self._event(stepped, 0, fed))
        bench.settle()
        bench.floors.after_step()
        bench.step_index += 1

    def _before(self) -> Before:
        """What the next step will find."""
        work = self._work
        newcomer = work.newcomer if isinstance(work, Generation) else None
        if newcomer is not None:
            return self._workbench.floors.before(newcomer.context)
        return self._workbench.floors.before(work.context, self._source)

    @property
    def _source(self) -> int:
        return len(self._work.prompt) if isinstance(self._work, Generation) else 0

    def _event(self, stepped: Stepped, held_ns: int, fed: Fed | None, captured: bool = False) -> StepEnded:
        bench = self._workbench
        context = self._work.context
        layout = bench.layout(stepped.codes)
        self._last_stamped = layout, stepped.stamps
        floor = (0, 0, 0, -1)
        if fed is not None:
            floor = bench.floors.told(bench.configuration, bench.step_index, fed, stepped.stamps)
        return StepEnded(
            index=bench.step_index,
            generation=self._number,
            kind=StepKind(stepped.kind),
            configuration=bench.configuration,
            layout=layout,
            stamps=stepped.stamps,
            held_ns=held_ns,
            context_length=(
                context.length if stepped.tokens or stepped.beams or context.unread else context.cached
            )
            - min(context.padding, default=0),
            cache_bytes=cache_bytes(context.cache)
            + (cache_bytes(context.beside.cache) if context.beside is not None else 0),
            tokens=stepped.tokens,
            prompt_tokens=stepped.prompt_tokens,
            batch=stepped.batch,
            padding_tokens=stepped.padding_tokens,
            drafted=stepped.drafted,
            accepted=stepped.accepted,
            moved_bytes=floor[0],
            operations=floor[1],
            floor_ns=floor[2],
            calibration=floor[3],
            captured=captured,
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
