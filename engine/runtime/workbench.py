"""Workbench: a loaded model with its settings, ready to run.

What happens here is what a session orders: load, change settings, start, step. Every outcome leaves as an event.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns

import torch

from engine.protocol import (
    Configuration,
    CountTokens,
    Emit,
    Event,
    Family,
    Flush,
    Load,
    ModelLoaded,
    Noticed,
    Progress,
    SettingChange,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    ShapeDefined,
    TokensCounted,
)
from engine.runtime.alternating import TURN_STEPS
from engine.runtime.anatomy import find_anatomy
from engine.runtime.capturing import Capture, do_again, why_not_again
from engine.runtime.clocks import StampRecorder
from engine.runtime.detail_choice import DetailChoice
from engine.runtime.device_clock import DeviceRecorder
from engine.runtime.device_events import open_events
from engine.runtime.encoding import encode_inputs
from engine.runtime.floors import Floors
from engine.runtime.handing import Handing, Made
from engine.runtime.holding import HeldBack
from engine.runtime.live import LiveModel
from engine.runtime.models.errors import LoadGivenUp
from engine.runtime.models.loading import load_model
from engine.runtime.models.memory import SPLIT
from engine.runtime.models.progress import LoadReport
from engine.runtime.past_steps import PastSteps
from engine.runtime.placement import devices_of, time_crossings
from engine.runtime.profiling import CaptureRefused
from engine.runtime.prompts import (
    SHOWN_CHARACTERS,
    PromptRefused,
    prompt_limit,
    tokenize,
)
from engine.runtime.settings import ALL, places
from engine.runtime.settings.adapting import has_missed, made_for_missed
from engine.runtime.settings.base import Setting
from engine.runtime.settings.decoding import own_decoding
from engine.runtime.settings.execution import default_threads
from engine.runtime.settings.instrumentation import as_chosen
from engine.runtime.settings.resolve import apply_changes, apply_defaults
from engine.runtime.settings.suited import suited
from engine.runtime.telemetry import MemorySampler, Observer
from engine.trace.phases import Detail

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
        gather_ns: int = 0,
    ) -> None:
        """`is_awaited`: whether somebody waits for the end of the step under way, to do something between two.

        `gather_ns`: how long a step may wait to be told together with others, while nobody waits for it.
        """
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
        self._emit = self._held.emit if self._held is not None else emit
        self.handing = Handing(self, self._emit, flush, gather_ns)
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
        #: By the number of the configuration, once a step ran under it.
        self._settings: dict[int, Configuration] = {}
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
        events, no_clock = open_events(loaded.device, devices_of(loaded.model) if facts.placement else ())
        recorder = DeviceRecorder(events) if events else StampRecorder()
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
        self.hand_over()
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
        self.hand_over()  # what is told of steps is read off the settings that they ran under
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

    def begin_generation(self) -> int:
        """Another generation begins; returns its number."""
        if isinstance(self.recorder, DeviceRecorder):
            self.recorder.begin_generation()
        self._generation_count += 1
        return self._generation_count - 1

    def emit(self, event: Event) -> None:
        """Say something, behind the steps before it."""
        self.hand_over()
        self._emit(event)

    def take(self, made: Made, now_ns: int) -> bool:
        """A step has ended just now: tell it, now or soon. Whether it was told."""
        if self._held is not None:
            self._held.expect()
        is_due = self.handing.take(made, now_ns) or self.is_awaited()
        if is_due:
            self.hand_over()
        return is_due

    def hand_over(self) -> None:
        """Tell the steps that wait; those of which the device's clock has not been read still wait for that."""
        self.handing.hand_over()

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
        """Say all that has been measured: nothing waits any more, not for the device's clock either."""
        self.hand_over()
        if self._held is not None:
            self._held.settle()

    def note_settings(self) -> None:
        """Steps ran under the settings in force: remember these by the number of their configuration."""
        if self.configuration not in self._settings:
            self._settings[self.configuration] = self.effective()

    def capture_again(self, step: int) -> None:
        """Do the work of a step that was made again, on a copy, and say what it was made of. Raises CaptureRefused."""
        self.hand_over()
        live, past = self.live, self.past.find(step)
        is_same = past is not None and self._settings[past.configuration] == self.effective()
        reason = why_not_again(live, past, step, is_same)
        if past is None or reason:
            raise CaptureRefused(reason)
        capture = Capture(live, step)
        self._tell(Progress(perf_counter_ns(), f"doing step {step} again", None))
        stepped = do_again(live, past, capture)
        self.emit(capture.event(step, self.handing.layout(stepped.codes), stepped.stamps))

    def close(self) -> None:
        """Let go of the model."""
        if self.live.probes is not None:
            self.live.probes.remove()
        for step in (self.live.compiled, self.live.replayed):
            if step is not None:
                step.take_out()  # what it said to torch is of the process
        self.live.context = None
