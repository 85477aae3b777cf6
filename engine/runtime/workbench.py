"""Workbench: a loaded model with its settings, ready to run; and Run, one generation on it.

What happens here is what a session orders: load, change settings, start, step. Every outcome leaves as an event.
"""

import inspect
from array import array
from collections.abc import Iterator
from time import perf_counter_ns

import torch

from engine.protocol import (
    Choice,
    Configuration,
    Emit,
    Flush,
    Generate,
    GenerationEnded,
    GenerationStarted,
    LayoutDefined,
    Load,
    ModelLoaded,
    Progress,
    SettingChange,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SettingValue,
    StepEnded,
)
from engine.runtime.anatomy import find_anatomy
from engine.runtime.caches import cache_bytes, new_cache
from engine.runtime.clocks import StampRecorder
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import LiveModel
from engine.runtime.models.loading import load_model
from engine.runtime.settings import ALL
from engine.runtime.settings.execution import default_threads
from engine.runtime.settings.resolve import apply_changes, apply_defaults
from engine.runtime.telemetry import MemorySampler, Observer
from engine.trace.phases import StepKind

CACHE_ARGUMENTS = ("past_key_values", "cache_params", "state")


class PromptRefused(Exception):
    """A prompt cannot be continued. The message is one sentence for people."""


class Workbench:
    """A model made ready: loaded, its parts found, its settings probed. Raises ModelError when it cannot be."""

    def __init__(self, command: Load, place: str, emit: Emit, flush: Flush) -> None:
        self.emit = emit
        self.flush = flush
        self._place = place
        self.live = self._load(command)
        self.recorder = self.live.recorder
        self.facts = self._probe()
        self.configuration = 0
        self.step_index = 0
        self.memory = MemorySampler(self.live)
        self.observer = Observer(self.live.recorder)
        self._layouts: dict[bytes, int] = {}
        self._generation_count = 0
        refused = self._apply(tuple((k, v) for k, v in command.settings if k != "precision"))
        self.emit(
            ModelLoaded(perf_counter_ns(), self.live.facts, self.facts, self.configuration, self.effective())
        )
        self._report_refused(refused)

    def _load(self, command: Load) -> LiveModel:
        begin_ns = perf_counter_ns()
        torch.set_num_threads(
            default_threads()
        )  # before anything is tried: with every core taken, trials crawl
        precision = dict(command.settings).get("precision")
        loaded = load_model(
            command.model, command.device, str(precision) if precision else None, self._progress
        )
        parameters = inspect.signature(loaded.model.forward).parameters
        return LiveModel(
            model=loaded.model,
            tokenizer=loaded.tokenizer,
            facts=loaded.facts(perf_counter_ns() - begin_ns),
            device=loaded.device,
            anatomy=find_anatomy(loaded.model),
            recorder=StampRecorder(),
            cache_argument=next((name for name in CACHE_ARGUMENTS if name in parameters), ""),
            keeps_logits="logits_to_keep" in parameters,
        )

    def _probe(self) -> tuple[SettingFacts, ...]:
        self.live.untried.add("attention")
        facts = []
        for done, setting in enumerate(ALL):
            self._progress(f"trying setting {setting.key}", done / len(ALL))
            facts.append(setting.probe(self.live))
        apply_defaults(self.live, facts)
        detail = next(setting for setting in ALL if setting.key == "detail")
        detail.apply(self.live, detail.current(self.live))
        return (*facts, place_facts(self._place))

    @property
    def is_tried(self) -> bool:
        """Whether everything that is offered has been tried."""
        return not self.live.untried

    def try_rest(self) -> None:
        """Try what was left out so that the first token would come soon. Call it while nothing is generated."""
        waiting = set(self.live.untried)
        self.live.untried.clear()
        again = {setting.key: setting.probe(self.live) for setting in ALL if setting.key in waiting}
        self.facts = tuple(again.get(facts.key, facts) for facts in self.facts)
        self.emit(SettingsProbed(perf_counter_ns(), self.facts))

    def _progress(self, activity: str, fraction: float | None) -> None:
        self.emit(Progress(perf_counter_ns(), activity, fraction))
        self.flush()

    def effective(self) -> Configuration:
        """All settings in force, sorted by key."""
        values = {setting.key: setting.current(self.live) for setting in ALL} | {"engine_place": self._place}
        return tuple(sorted(values.items()))

    def change(self, settings: Configuration) -> None:
        """Change settings now, between two steps; what was asked for and what came of it is one event."""
        begin_ns = perf_counter_ns()
        changes = self._apply(settings)
        self.configuration += 1
        end_ns = perf_counter_ns()
        self.emit(
            SettingsChanged(
                begin_ns, self.step_index, changes, end_ns - begin_ns, self.configuration, self.effective()
            )
        )

    def _apply(self, settings: Configuration) -> tuple[SettingChange, ...]:
        place = [(key, value) for key, value in settings if key == "engine_place"]
        others = {key: value for key, value in settings if key != "engine_place"}
        changes = apply_changes(self.live, others, self.facts[:-1]) if others else ()
        return (*changes, *(self._place_change(value) for _, value in place))

    def _place_change(self, requested: SettingValue) -> SettingChange:
        reason = (
            ""
            if requested == self._place
            else "An engine cannot move itself: the window restarts it elsewhere."
        )
        return SettingChange("engine_place", requested, self._place, reason)

    def _report_refused(self, changes: tuple[SettingChange, ...]) -> None:
        """What was asked for at load and refused is told as a mark: nothing asked for is dropped silently."""
        refused = tuple(change for change in changes if change.reason)
        if refused:
            self.emit(
                SettingsChanged(
                    perf_counter_ns(), self.step_index, refused, 0, self.configuration, self.effective()
                )
            )

    def _check(self, command: Generate, count: int) -> None:
        """Raises PromptRefused where a prompt of `count` tokens cannot be continued as asked."""
        limit = self.live.facts.context_limit
        if not command.prompt:
            raise PromptRefused("The prompt is empty: type something for the model to continue.")
        if command.max_new_tokens < 1:
            raise PromptRefused(
                f"A generation needs at least one new token, not {command.max_new_tokens}: raise the number."
            )
        if count == 0:
            raise PromptRefused("The prompt has no tokens for this model's tokenizer: type something else.")
        if count >= limit:
            raise PromptRefused(
                f"The prompt has {count:,} tokens, but this model's context holds {limit:,}:"
                " shorten the prompt or choose a model with a longer context."
            )

    def _tokenize(self, prompt: str) -> list[int]:
        return list(self.live.tokenizer(prompt, verbose=False)["input_ids"])

    def start(self, command: Generate, submitted_ns: int) -> "Run":
        """Take a prompt. The generation has not made a step yet. Raises PromptRefused where it cannot be continued."""
        begin_ns = perf_counter_ns()
        ids = self._tokenize(command.prompt)
        tokenize_ns = perf_counter_ns() - begin_ns
        self._check(command, len(ids))
        room = self.live.facts.context_limit - len(ids)
        limits = Limits(min(command.max_new_tokens, room), self._end_tokens(command))
        generation = Generation(self.live, ids, limits)
        context = generation.context
        context.cache = new_cache(self.live, self.live.cache_kind, context.capacity)
        number = self._generation_count
        self._generation_count += 1
        self.emit(
            GenerationStarted(
                number, submitted_ns, tokenize_ns, command.prompt, tuple(ids), command.max_new_tokens
            )
        )
        return Run(self, generation, number)

    def _end_tokens(self, command: Generate) -> frozenset[int]:
        ids = self.live.model.generation_config.eos_token_id if command.stop_at_end_token else None
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

    def close(self) -> None:
        """Let go of the model."""
        if self.live.probes is not None:
            self.live.probes.remove()
        self.live.context = None


class Run:
    """One generation on a workbench, step by step."""

    def __init__(self, workbench: Workbench, generation: Generation, number: int) -> None:
        self._workbench = workbench
        self._generation = generation
        self._steps: Iterator[Stepped] = iter(generation)
        self._number = number
        self._last_end_ns = perf_counter_ns()

    def step(self, held: bool) -> str:
        """Do one step and emit it; why the generation ended, or "". `held`: the user held the engine before it."""
        held_ns = perf_counter_ns() - self._last_end_ns if held else 0
        stepped = next(self._steps)
        end_ns = perf_counter_ns()
        bench = self._workbench
        bench.emit(self._event(stepped, held_ns))
        bench.step_index += 1
        bench.memory.after_step(bench.emit, end_ns)
        bench.observer.after_step(bench.emit, len(stepped.codes) // 2 + 2, end_ns)
        self._last_end_ns = end_ns
        return stepped.end_reason

    def _event(self, stepped: Stepped, held_ns: int) -> StepEnded:
        bench = self._workbench
        context = self._generation.context
        return StepEnded(
            index=bench.step_index,
            generation=self._number,
            kind=StepKind(stepped.kind),
            configuration=bench.configuration,
            layout=bench.layout(stepped.codes),
            stamps=stepped.stamps,
            held_ns=held_ns,
            context_length=len(context.ids) if stepped.tokens else context.cached,
            cache_bytes=cache_bytes(context.cache),
            tokens=stepped.tokens,
            prompt_tokens=stepped.prompt_tokens,
        )

    def end(self, reason: str) -> None:
        """Emit the end of the generation and let its context go."""
        bench = self._workbench
        bench.emit(GenerationEnded(self._number, perf_counter_ns(), reason, self._generation.tail()))
        bench.live.context = None


def place_facts(place: str) -> SettingFacts:
    """Where the engine lives, as a setting; the front end carries it out by restarting the engine."""
    return SettingFacts(
        key="engine_place",
        family="execution",
        label="Engine lives in",
        kind="choice",
        default="process",
        choices=(
            Choice("process", "its own process", expected="the window cannot slow the model down"),
            Choice(
                "thread",
                "this process",
                expected="shares Python's interpreter lock with the window: slower tokens",
            ),
        ),
        expected="restarts the engine",
    )
