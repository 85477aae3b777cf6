"""The session on a real small model: which command takes effect when, and which events say so."""

import gc
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from engine.protocol import (
    Alternate,
    AlternationEnded,
    AlternationStarted,
    Calibrate,
    Calibrated,
    CancelLoad,
    Change,
    Command,
    CountTokens,
    EngineState,
    Event,
    Failed,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Join,
    Load,
    LoadCancelled,
    MeasureSameness,
    ModelLoaded,
    Pause,
    Progress,
    Prompt,
    Resume,
    SamenessMeasured,
    SequenceJoined,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    Shutdown,
    SingleStep,
    StateChanged,
    StepEnded,
    Stop,
    StopAlternating,
    TokensCounted,
    Turn,
)
from engine.runtime.calibration import CalibrationInterrupted, Machine
from engine.runtime.session import run_session
from engine.trace.calibration import Calibration
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from tests.engine.runtime import small_seq2seq
from tests.engine.runtime.live_models import byte_tokenizer, family_checkpoint, save_checkpoint
from tests.engine.trace.test_floor import calibration

Answer = Callable[[Event, Callable[[Command], None]], None]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


def play(first: list[Command], answer: Answer = lambda event, send: None) -> list[Event]:
    """Run a session on this thread: `answer` may send a command upon any event, exactly between two steps."""
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        answer(event, commands.put)

    for command in first:
        commands.put(command)
    run_session(commands, take, place="thread")
    return events


def end_with_generation(event: Event, send: Callable[[Command], None]) -> None:
    if isinstance(event, GenerationEnded | Failed):
        send(Shutdown())


def of(events: list[Event], kind: type) -> list:
    return [event for event in events if isinstance(event, kind)]


def states(events: list[Event]) -> list[EngineState]:
    return [event.state for event in of(events, StateChanged)]


def test_a_session_goes_through_its_states_and_generates(llama: Path) -> None:
    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 5)], end_with_generation)
    assert states(events) == [
        EngineState.STARTING,
        EngineState.EMPTY,
        EngineState.LOADING,
        EngineState.READY,
        EngineState.RUNNING,
        EngineState.READY,
    ]
    assert len(of(events, StepEnded)) == 5
    assert of(events, GenerationEnded)[0].reason == "length"
    assert [event.index for event in of(events, StepEnded)] == list(range(5))


def test_a_pause_holds_the_next_step_and_its_time_is_in_no_latency(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 3:
            send(Pause())
        if isinstance(event, StateChanged) and event.state is EngineState.PAUSED:
            send(Change((("prefill_chunk", 3),)))
            send(Resume())

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 8)], answer)
    steps = of(events, StepEnded)
    assert [step.index for step in steps if step.held_ns] == [4]
    place = events.index(steps[3])
    after = events[place + 1 : events.index(steps[4])]
    assert [e.state for e in after if isinstance(e, StateChanged)] == [
        EngineState.PAUSED,
        EngineState.RUNNING,
    ]
    loaded = of(events, ModelLoaded)[0]
    trace = Trace(loaded)
    trace.extend(events)
    arrivals = trace.tokens.arrival_ns
    assert trace.steps.itl_ns[4] == arrivals[4] - arrivals[3] - steps[4].held_ns


def test_single_steps_do_one_step_each(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index < 2:
            send(SingleStep())
        elif isinstance(event, StepEnded):
            send(Stop())

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 50, paused=True), SingleStep()], answer)
    assert len(of(events, StepEnded)) == 3
    assert of(events, GenerationEnded)[0].reason == "stopped"
    assert EngineState.RUNNING not in states(events)


def test_a_change_is_effective_with_the_very_next_step_and_leaves_its_mark(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 2:
            send(Change((("attention", "eager"), ("no_such", 1))))

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 6)], answer)
    steps = of(events, StepEnded)
    mark = of(events, SettingsChanged)[0]
    assert mark.step == 3
    assert [step.configuration for step in steps] == [0, 0, 0, 1, 1, 1]
    by_key = {change.key: change for change in mark.changes}
    assert by_key["attention"].effective == "eager"
    assert "no_such" in by_key["no_such"].reason
    assert mark.switch_ns > 0
    assert steps[3].held_ns > 0


def test_a_new_prompt_ends_the_generation_before_it(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 1:
            send(Generate(Prompt("xyz"), 3))
        if isinstance(event, GenerationEnded) and event.generation == 1:
            send(Shutdown())

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 50)], answer)
    assert [event.reason for event in of(events, GenerationEnded)] == ["stopped", "length"]
    assert [event.prompt for event in of(events, GenerationStarted)] == ["abc", "xyz"]


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([Generate(Prompt("abc"))], "no model"),
        ([Change((("threads", 1),))], "no model"),
        ([Resume()], "no generation"),
        ([SingleStep()], "no generation"),
    ],
)
def test_commands_out_of_place_say_so_in_a_sentence(commands: list[Command], words: str) -> None:
    events = play([*commands, Shutdown()])
    (failed,) = of(events, Failed)
    assert words in failed.sentence
    assert failed.sentence.endswith(".")


@pytest.mark.parametrize(
    ("generate", "words"),
    [
        (Generate(Prompt("")), "empty"),
        (Generate(Prompt("x" * 5000)), "5,000 tokens"),
        (Generate(Prompt("abc"), 0), "at least one"),
    ],
)
def test_impossible_prompts_are_refused_and_the_model_stays(
    llama: Path, generate: Generate, words: str
) -> None:
    events = play([Load(str(llama), "cpu"), generate, Generate(Prompt("abc"), 2), Shutdown()])
    (failed,) = of(events, Failed)
    assert words in failed.sentence
    assert states(events)[3] is EngineState.READY
    assert of(events, GenerationStarted)[0].prompt == "abc"


def test_a_model_that_cannot_be_loaded_leaves_the_engine_alive(llama: Path, tmp_path: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, Failed):
            send(Load(str(llama), "cpu"))
        if isinstance(event, ModelLoaded):
            send(Shutdown())

    events = play([Load(str(tmp_path), "cpu")], answer)
    assert len(of(events, Failed)) == 1
    assert len(of(events, ModelLoaded)) == 1
    assert states(events)[-1] is EngineState.READY


def test_a_model_that_fails_in_the_middle_ends_its_generation_only(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaForCausalLM

    plain = LlamaForCausalLM.forward
    calls = []

    def failing(self: LlamaForCausalLM, *args: object, **kwargs: object) -> object:
        calls.append(1)
        if "armed" in calls and len(calls) == 5:
            raise RuntimeError("out of memory: tried to allocate 99 GiB\nmore")
        return plain(self, *args, **kwargs)

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, ModelLoaded):
            monkeypatch.setattr(LlamaForCausalLM, "forward", plain)
        if isinstance(event, GenerationStarted) and event.generation == 0:
            calls.clear()
            calls.append("armed")
        if isinstance(event, GenerationEnded) and event.generation == 0:
            send(Generate(Prompt("abc"), 2))
        if isinstance(event, GenerationEnded) and event.generation == 1:
            send(Shutdown())

    monkeypatch.setattr(LlamaForCausalLM, "__call__", failing)
    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 20)], answer)
    (failed,) = of(events, Failed)
    assert failed.sentence.startswith("Memory ran out")
    assert "99 GiB" in failed.details
    assert [event.reason for event in of(events, GenerationEnded)] == ["failed", "length"]
    assert len(of(events, StepEnded)) == 3 + 2


def test_a_load_is_cancelled_and_the_engine_goes_on_without_a_model(llama: Path) -> None:
    asked: list[Event] = []

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, Progress) and event.stage and not asked:
            asked.append(event)
            send(CancelLoad())
        if isinstance(event, StateChanged) and event.state is EngineState.EMPTY and asked:
            send(Shutdown())

    events = play([Load(str(llama), "cpu")], answer)
    (cancelled,) = of(events, LoadCancelled)
    assert cancelled.model == str(llama)
    assert states(events)[-2:] == [EngineState.LOADING, EngineState.EMPTY]
    assert not of(events, ModelLoaded)
    assert not of(events, Failed)


def test_a_cancelled_load_leaves_no_weights_behind() -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if (
            isinstance(event, Progress)
            and event.stage == "make random weights"
            and (event.fraction or 0) > 0.5
        ):
            send(CancelLoad())
        if isinstance(event, LoadCancelled):
            left.append(sum(weights_alive()))
            send(Shutdown())

    left: list[int] = []
    before = sum(weights_alive())
    play([Load("gpt2-124m", "cpu")], answer)
    assert left == [before]


def weights_alive() -> Iterator[int]:
    """Bytes of every parameter that something still holds."""
    gc.collect()
    for thing in gc.get_objects():
        if type(thing) is torch.nn.Parameter:
            yield thing.numel() * thing.element_size()


def test_a_second_load_cancels_the_first(llama: Path, tmp_path: Path) -> None:
    asked: list[Event] = []

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, Progress) and event.stage and not asked:
            asked.append(event)
            send(Load(str(llama), "cpu"))
        if isinstance(event, ModelLoaded):
            send(Shutdown())

    events = play([Load("llama-30m", "cpu")], answer)
    assert [event.model for event in of(events, LoadCancelled)] == ["llama-30m"]
    assert [event.model.name for event in of(events, ModelLoaded)] == [llama.name]


def test_a_prompt_is_counted_but_never_while_one_runs(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index in (1, 2):
            send(CountTokens(event.index, Prompt("x" * event.index)))
        if isinstance(event, TokensCounted):
            send(Shutdown())

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 6)], answer)
    (counted,) = of(events, TokensCounted)
    assert (counted.request, counted.tokens, counted.limit) == (2, 2, 255)
    assert events.index(counted) > events.index(of(events, GenerationEnded)[0])
    assert all(step.held_ns == 0 for step in of(events, StepEnded)), "asking held nothing"


def test_a_count_says_why_there_is_none(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, ModelLoaded):
            send(CountTokens(7, Prompt(turns=(Turn("user", "hello"),))))
        if isinstance(event, TokensCounted):
            send(Shutdown())

    (counted,) = of(play([Load(str(llama), "cpu")], answer), TokensCounted)
    assert "no chat template" in counted.reason


def test_a_long_prompt_loses_its_beginning_when_told_to(llama: Path) -> None:
    prompt = Prompt("".join(f"<{n}>" for n in range(1000)), truncate=True)
    events = play([Load(str(llama), "cpu"), Generate(prompt, 20)], end_with_generation)
    (started,) = of(events, GenerationStarted)
    assert len(started.prompt_ids) == 256 - 20
    assert started.dropped_tokens == len(prompt.text) - len(started.prompt_ids)
    assert bytes_of(started.prompt_ids) == prompt.text[-236:]
    assert len(of(events, StepEnded)) == 20


def bytes_of(ids: tuple[int, ...]) -> str:
    return byte_tokenizer().decode(ids)


def test_what_is_slow_to_try_is_tried_when_the_engine_is_idle(tmp_path: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, SettingsProbed):
            send(Generate(Prompt("abc"), 2))
        end_with_generation(event, send)

    events = play([Load(str(family_checkpoint("gpt_oss", tmp_path)), "cpu")], answer)
    (loaded,), (probed,) = of(events, ModelLoaded), of(events, SettingsProbed)
    assert flex_reason(loaded.settings) == ""
    assert "attention sinks" in flex_reason(probed.settings)
    assert [facts.key for facts in probed.settings] == [facts.key for facts in loaded.settings]
    assert len(of(events, StepEnded)) == 2


def test_the_default_stays_what_it_was_when_something_is_tried_later(llama: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, ModelLoaded):
            send(Change((("attention", "eager"),)))
        if isinstance(event, SettingsProbed):
            send(Shutdown())

    events = play([Load(str(llama), "cpu")], answer)
    (loaded,), (probed,) = of(events, ModelLoaded), of(events, SettingsProbed)
    assert dict(of(events, SettingsChanged)[0].effective)["attention"] == "eager"
    before, now = ({facts.key: facts.default for facts in each.settings} for each in (loaded, probed))
    assert now == before


def flex_reason(settings: tuple[SettingFacts, ...]) -> str:
    attention = next(facts for facts in settings if facts.key == "attention")
    return next(choice.reason for choice in attention.choices if choice.value == "flex")


def test_what_was_not_tried_yet_is_tried_when_it_is_chosen(tmp_path: Path) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, StepEnded) and event.index == 2:
            send(Change((("attention", "flex"),)))

    events = play(
        [Load(str(family_checkpoint("gpt_oss", tmp_path)), "cpu"), Generate(Prompt("abc"), 6)], answer
    )
    (mark,) = of(events, SettingsChanged)
    assert mark.changes[0].effective == "eager"
    assert "attention sinks" in mark.changes[0].reason
    assert len(of(events, StepEnded)) == 6


# ---------------------------------------------------------------- values that take turns


def alternating(llama: Path, command: Command, tokens: int = 24, settings: tuple = ()) -> list[Event]:
    """A generation in which `command` is given after its fourth step."""

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 3:
            send(command)
        end_with_generation(event, send)

    load = Load(str(llama), "cpu", (("detail", "step"), *settings))
    return play([load, Generate(Prompt("turns"), tokens, stop_at_end_token=False)], answer)


def tokens_of(events: list[Event]) -> list[int]:
    return [token.id for step in of(events, StepEnded) for token in step.tokens]


def test_two_values_take_turns_and_the_first_is_in_force_again(llama: Path) -> None:
    events = alternating(llama, Alternate("attention", "eager"))
    (started,), (ended,) = of(events, AlternationStarted), of(events, AlternationEnded)
    assert (started.key, started.first, started.second, started.turn_steps) == (
        "attention",
        "sdpa",
        "eager",
        1,
    )
    first, second = started.configurations
    assert first != second
    assert [dict(effective)["attention"] for effective in started.effective] == ["sdpa", "eager"]
    steps = of(events, StepEnded)
    assert [step.configuration for step in steps[4:12]] == [first, second, second, first] * 2
    assert all(step.held_ns > 0 for step in steps[5:7:2])  # a switch is in no latency
    assert (ended.configuration, ended.reason) == (first, "")
    assert tokens_of(events) == tokens_of(alternating(llama, CountTokens(1, Prompt("x"))))


def test_turns_of_several_steps_and_a_setting_that_costs_its_cache(llama: Path) -> None:
    events = alternating(llama, Alternate("precision", "bfloat16"), tokens=30)
    (started,) = of(events, AlternationStarted)
    first, second = started.configurations
    written = [step.configuration for step in of(events, StepEnded)[4:] if step.tokens]
    assert written[:16] == [first] * 4 + [second] * 8 + [first] * 4


def test_alternation_ends_when_told_and_before_another_change(llama: Path) -> None:
    for command in (StopAlternating(), Change((("attention", "sdpa:math"),))):

        def answer(event: Event, send: Callable[[Command], None], command: Command = command) -> None:
            if isinstance(event, StepEnded) and event.index == 3:
                send(Alternate("attention", "eager"))
            if isinstance(event, StepEnded) and event.index == 9:
                send(command)
            end_with_generation(event, send)

        events = play([Load(str(llama), "cpu"), Generate(Prompt("turns"), 16)], answer)
        (ended,) = of(events, AlternationEnded)
        assert ended.step == 10
        trace = Trace(of(events, ModelLoaded)[0])
        trace.extend(events[events.index(of(events, ModelLoaded)[0]) + 1 :])
        expected = "sdpa" if isinstance(command, StopAlternating) else "sdpa:math"
        assert dict(trace.configuration)["attention"] == expected
        record = trace.alternations[0]
        assert (record.first_step, record.end_step) == (4, 10)
        assert len(set(trace.steps.configuration[10:])) == 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("attention", "sdpa", "already"),
        ("attention", "sdpa:cudnn", "No viable backend"),
        ("seed", 3, "cannot take turns"),
        ("colour", "red", "cannot take turns"),
    ],
)
def test_values_that_cannot_take_turns_are_refused_and_nothing_changes(
    llama: Path, key: str, value: str | int, words: str
) -> None:
    events = alternating(llama, Alternate(key, value), tokens=8)
    (failed,) = of(events, Failed)
    assert words in failed.sentence
    assert not of(events, AlternationStarted)
    assert {step.configuration for step in of(events, StepEnded)} == {0}


def test_without_a_generation_nothing_can_take_turns(llama: Path) -> None:
    events = play([Load(str(llama), "cpu"), Alternate("attention", "eager")], end_with_generation)
    (failed,) = of(events, Failed)
    assert "start a generation" in failed.sentence


# ---------------------------------------------------------------- how far the output moved


def compared(model: Path, reference: tuple, settings: tuple = (), tokens: int = 12) -> list[Event]:
    """A generation whose output is compared with that under `reference` before its seventh step."""

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 5:
            send(MeasureSameness(reference))
        end_with_generation(event, send)

    load = Load(str(model), "cpu", settings)
    return play([load, Generate(Prompt("compare"), tokens, stop_at_end_token=False)], answer)


@pytest.mark.parametrize(
    "reference",
    [
        (("attention", "eager"),),
        (("kv_cache", "static"),),
        (("kv_cache", "none"), ("attention", "sdpa:math")),
    ],
)
def test_a_lossless_setting_leaves_the_output_the_same(llama: Path, reference: tuple) -> None:
    events = compared(llama, reference)
    (measured,) = of(events, SamenessMeasured)
    assert (measured.step, measured.reference) == (6, reference)
    assert measured.sameness.greedy_is_same
    assert measured.sameness.top1 == 1.0
    assert measured.sameness.kl_mean < 1e-6
    assert measured.sameness.forced == measured.sameness.text + 32
    assert tokens_of(events) == tokens_of(compared(llama, (), tokens=12))  # what runs is not touched


def test_a_lossy_setting_moves_the_output_and_is_in_force_again(llama: Path) -> None:
    events = compared(llama, (("precision", "float32"),), (("precision", "bfloat16"),))
    (measured,) = of(events, SamenessMeasured)
    assert 1e-8 < measured.sameness.kl_mean < 0.1
    assert measured.took_ns > 0
    assert tokens_of(events) == tokens_of(compared(llama, (), (("precision", "bfloat16"),)))


def test_outputs_of_an_encoder_decoder_are_compared(tmp_path: Path) -> None:
    t5 = save_checkpoint(small_seq2seq.build("t5"), tmp_path)
    (measured,) = of(compared(t5, (("kv_cache", "static"),)), SamenessMeasured)
    assert measured.sameness.kl_mean < 1e-6


@pytest.mark.parametrize(
    ("reference", "words"),
    [((("attention", "sdpa:cudnn"),), "No viable"), ((("colour", "red"),), "There is no setting")],
)
def test_a_reference_that_cannot_be_is_refused(llama: Path, reference: tuple, words: str) -> None:
    events = compared(llama, reference)
    (failed,) = of(events, Failed)
    assert words in failed.sentence
    assert not of(events, SamenessMeasured)


def joined_trace(
    checkpoint: Path, joins: dict[int, list[Command]], tokens: int = 12
) -> tuple[list[Event], Trace]:
    """A generation with commands after given steps, and its trace."""

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, GenerationEnded):
            send(Shutdown())
        if isinstance(event, StepEnded):
            for command in joins.get(event.index, []):
                send(command)

    events = play([Load(str(checkpoint), "cpu"), Generate(Prompt("abc"), tokens, False)], answer)
    trace = Trace(of(events, ModelLoaded)[0])
    trace.extend(events)
    return events, trace


def test_a_sequence_joins_between_two_steps_and_is_told_with_what_it_reads(llama: Path) -> None:
    events, trace = joined_trace(llama, {3: [Join(Prompt("hello"), 5, False), Join(Prompt("x"), 4, False)]})
    first, second = of(events, SequenceJoined)
    assert (first.step, first.sequence, first.prompt, len(first.prompt_ids)) == (4, 1, "hello", 5)
    assert (second.step, second.sequence, second.max_new_tokens) == (5, 2, 4)
    assert [trace.kind(row).value for row in range(3, 7)] == ["decode", "prefill", "prefill", "decode"]
    assert trace.sequences_of(trace.generations[0]) == [0, 1, 2]
    _, alone = joined_trace(llama, {})
    assert trace.text_of(trace.generations[0]) == alone.text_of(alone.generations[0])
    at = of(events, StepEnded)[4]
    assert (
        at.held_ns < first.at_ns - trace.tokens.arrival_ns[3]
    )  # reading it is work, but for the trial before
    assert not of(events, Failed)


def test_a_sequence_joins_a_generation_on_hold_at_its_next_step(llama: Path) -> None:
    events, trace = joined_trace(
        llama, {3: [Pause(), Join(Prompt("hello"), 3, False), SingleStep(), Resume()]}
    )
    assert of(events, SequenceJoined)[0].step == 4
    assert trace.kind(4) is StepKind.PREFILL
    assert len(trace.tokens) == 12 + 3


@pytest.mark.parametrize(
    ("commands", "words"),
    [
        ([Join(Prompt(""))], "empty"),
        ([Join(Prompt("x"), 0)], "at least one"),
        ([Join(Prompt("x" * 300))], "context"),
        ([Change((("beams", 2),)), Join(Prompt("x"))], "beams"),
    ],
)
def test_what_cannot_join_is_one_sentence_and_nothing_else_changes(
    llama: Path, commands: list[Command], words: str
) -> None:
    events, trace = joined_trace(llama, {3: commands})
    (failed,) = of(events, Failed)
    assert failed.command == "join"
    assert words in failed.sentence
    assert failed.sentence.count(". ") == 0
    assert of(events, GenerationEnded)[0].reason == "length"
    assert trace.sequences_of(trace.generations[0]) == [0]


def test_nobody_joins_where_nothing_runs_nor_an_encoder_decoder(llama: Path, tmp_path: Path) -> None:
    events = play([Load(str(llama), "cpu"), Join(Prompt("x"))], end_with_generation)
    assert of(events, Failed)[0].command == "join"
    t5 = save_checkpoint(small_seq2seq.build("t5"), tmp_path)
    events, _ = joined_trace(t5, {3: [Join(Prompt("x"))]})
    assert "encoder" in of(events, Failed)[0].sentence


def test_settings_wait_until_a_sequence_has_joined(llama: Path) -> None:
    chunks = Change((("prefill_chunk", 4),))
    events, trace = joined_trace(
        llama, {2: [chunks], 4: [Join(Prompt("hello you"), 3, False), Change((("attention", "eager"),))]}
    )
    refused = of(events, SettingsChanged)[-1]
    assert refused.changes[0].effective != "eager"
    assert "join" in refused.changes[0].reason
    assert trace.sequences_of(trace.generations[0]) == [0, 1]


def test_a_join_that_the_end_of_the_generation_forestalls_is_told(llama: Path) -> None:
    chunks = (("prefill_chunk", 2),)

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, Failed):
            send(Shutdown())
        if isinstance(event, StepEnded) and event.index == 0:
            send(Join(Prompt("x"), 3, False))

    events = play([Load(str(llama), "cpu", chunks), Generate(Prompt("abcd"), 1, False)], answer)
    assert of(events, Failed)[0].command == "join"
    assert not of(events, SequenceJoined)


# ---------------------------------------------------------------- calibration


@pytest.fixture
def quick_measure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Machine]:
    """Measuring takes no time and nothing is remembered; the machines that were measured."""
    measured: list[Machine] = []

    def measure(machine: Machine, is_awaited: Callable[[], bool]) -> Calibration:
        measured.append(machine)
        if is_awaited():
            raise CalibrationInterrupted
        return calibration(processor=machine.processor, threads=machine.threads)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("engine.runtime.floors.measure", measure)
    monkeypatch.setattr("engine.runtime.floors.is_busy", lambda threads: "")
    monkeypatch.setattr("engine.runtime.session.CALIBRATE_IDLE_S", 0.05)
    monkeypatch.setattr("engine.runtime.session.IDLE_S", 0.01)
    return measured


def test_calibration_on_request_comes_before_the_steps_that_stand_on_it(
    llama: Path, quick_measure: list[Machine]
) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        end_with_generation(event, send)
        if isinstance(event, Calibrated):
            send(Generate(Prompt("abc"), 3))

    events = play([Load(str(llama), "cpu"), Calibrate()], answer)
    (told,) = of(events, Calibrated)
    assert (told.number, told.origin, told.reason) == (0, "measured", "")
    assert [step.calibration for step in of(events, StepEnded)] == [0, 0, 0]
    assert all(step.floor_ns > 0 for step in of(events, StepEnded))
    assert len(quick_measure) == 1


def test_an_idle_engine_calibrates_by_itself_after_a_generation_only(
    llama: Path, quick_measure: list[Machine]
) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, SettingsProbed):
            assert not quick_measure
            send(Generate(Prompt("abc"), 3))
        if isinstance(event, Calibrated):
            send(Shutdown())

    events = play([Load(str(llama), "cpu")], answer)
    (told,) = of(events, Calibrated)
    assert (told.origin, told.reason) == ("measured", "nothing was known of this machine")
    assert [step.floor_ns for step in of(events, StepEnded)] == [0, 0, 0]


def test_a_busy_machine_is_left_alone_until_later(
    llama: Path, quick_measure: list[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = iter(["busy", ""])
    monkeypatch.setattr("engine.runtime.floors.is_busy", lambda threads: next(busy))
    monkeypatch.setattr("engine.runtime.floors._RETRY_NS", 20_000_000)

    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, Calibrated):
            send(Shutdown())

    events = play([Load(str(llama), "cpu"), Generate(Prompt("abc"), 3)], answer)
    assert len(of(events, Calibrated)) == 1
    assert len(quick_measure) == 1
    assert next(busy, None) is None


def test_calibration_is_refused_in_a_sentence(llama: Path, quick_measure: list[Machine]) -> None:
    def answer(event: Event, send: Callable[[Command], None]) -> None:
        if isinstance(event, StepEnded) and event.index == 1:
            send(Calibrate())
        if isinstance(event, Failed) and event.sentence.startswith("A generation"):
            send(Stop())
            send(Calibrate())
            send(Shutdown())  # it waits while the machine is measured

    events = play([Calibrate(), Load(str(llama), "cpu"), Generate(Prompt("abc"), 50)], answer)
    assert [event.sentence for event in of(events, Failed)] == [
        "What is measured depends on the model's precision: load one first.",
        "A generation would disturb the calibration: stop it first.",
        "The calibration was given up for another command: ask for it again.",
    ]
    assert {event.command for event in of(events, Failed)} == {"calibrate"}
    assert not of(events, Calibrated)
