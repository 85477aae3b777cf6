"""The wiring, with a scripted engine: who tells whom, and what the window shows of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QContextMenuEvent, QTextCursor
from PySide6.QtWidgets import QApplication, QMenu, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol import (
    Alternate,
    AlternationStarted,
    Calibrate,
    Calibrated,
    CancelLoad,
    CaptureStep,
    CatalogueEntry,
    CatalogueListed,
    Change,
    Choice,
    EngineEnded,
    EngineState,
    Failed,
    FloorBeaten,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Join,
    LayoutDefined,
    ListModels,
    Load,
    LoadCancelled,
    LookedUp,
    LookUp,
    MeasureSameness,
    ModelLoaded,
    ObserverReport,
    Pause,
    ProbeTraining,
    Progress,
    Prompt,
    Resume,
    SettingChange,
    SettingFacts,
    SettingsChanged,
    SettingsProbed,
    SingleStep,
    StateChanged,
    StepEnded,
    Stop,
    StopAlternating,
    TokensCounted,
    Turn,
)
from engine.trace.alternation import is_second
from engine.trace.phases import StepKind
from gui.actions import ACTIONS
from gui.conductor import Conductor
from gui.panels.model_picker import ModelPicker
from gui.panels.roofline import MEASURING
from gui.panels.training_probe import TrainingProbe
from gui.settings_store import SettingsStore
from gui.shortcuts import ShortcutSheet
from gui.view_texts import mark_sentences
from gui.visibility import is_seen
from tests.engine.trace.building import APART, MS, T0, joined, started, step
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

ATTENTION = SettingFacts(
    "attention",
    "attention",
    "Attention kernel",
    "choice",
    "eager",
    (
        Choice("eager", "eager", "", "the reference"),
        Choice("sdpa", "SDPA"),
        Choice("flash", "Flash", "needs a GPU"),
    ),
    expected="the same text at another speed",
    turn_steps=1,
)
DECODING = SettingFacts(
    "decoding",
    "decoding",
    "Choice of token",
    "choice",
    "greedy",
    (Choice("greedy", "Greedy"), Choice("sample", "Sampling")),
)
TEMPERATURE = SettingFacts(
    "temperature", "decoding", "Temperature", "number", 1.0, minimum=0.1, maximum=2.0, increment=0.05
)
THREADS = SettingFacts("threads", "execution", "CPU threads", "integer", 1, minimum=1, maximum=4)


def loaded() -> ModelLoaded:
    made = synthetic.loaded(4)
    effective = (("attention", "eager"), ("decoding", "greedy"), ("temperature", 1.0), ("threads", 1))
    return ModelLoaded(0, made.model, (ATTENTION, DECODING, TEMPERATURE, THREADS), 0, effective)


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


@pytest.fixture
def conductor(qapp: QApplication, hosts: Hosts) -> Iterator[Conductor]:
    made = build(hosts("process"), hosts, load=Load("preset"))
    made.window.show()
    yield made
    made.stop()
    made.window.close()
    made.window.deleteLater()
    settle(qapp)


@pytest.fixture
def host(conductor: Conductor, hosts: Hosts) -> ScriptedHost:
    return hosts.opened[0]


def say(conductor: Conductor, host: ScriptedHost, *events: object) -> None:
    host.events = list(events)  # type: ignore[arg-type]
    conductor.frame()
    conductor.show_numbers()


def ready(conductor: Conductor, host: ScriptedHost, steps: int = 60) -> None:
    events = synthetic.events(steps, synthetic.Shape(layers=4)) if steps else ()
    say(conductor, host, loaded(), *events, StateChanged(0, EngineState.READY))


def test_space_runs_pauses_and_goes_on(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    conductor.window.prompt.set_text("Hello")
    for state, expected in (
        (EngineState.READY, Generate),
        (EngineState.RUNNING, Pause),
        (EngineState.PAUSED, Resume),
    ):
        say(conductor, host, StateChanged(0, state))
        qtbot.keyClick(conductor.window, Qt.Key.Key_Space)
        assert isinstance(host.sent[-1], expected)
    assert conductor.window.actions_["run"].text() == "Run"
    assert [c.prompt.text for c in host.sent if isinstance(c, Generate)] == ["Hello"]


def test_space_in_the_prompt_is_a_space(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    editor = conductor.window.prompt._plain
    conductor.window.activateWindow()
    editor.setFocus()
    editor.moveCursor(QTextCursor.MoveOperation.End)
    before = conductor.window.prompt.text
    for key in (Qt.Key.Key_Space, Qt.Key.Key_N, Qt.Key.Key_L):
        qtbot.keyClick(editor, key)
    assert conductor.window.prompt.text == before + " nl"
    assert host.sent == []


def test_step_begins_a_generation_on_hold_and_steps(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.window.actions_["step"].trigger()
    first, second = host.sent[-2:]
    assert isinstance(first, Generate)
    assert first.paused
    assert second == SingleStep()


def test_actions_that_make_no_sense_are_off(conductor: Conductor, host: ScriptedHost) -> None:
    actions = conductor.window.actions_
    assert not actions["run"].isEnabled()
    ready(conductor, host)
    assert actions["run"].isEnabled()
    assert not actions["stop"].isEnabled()
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    actions["stop"].trigger()
    assert host.sent[-1] == Stop()


def test_the_prompt_joins_what_runs_with_one_key(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    join = conductor.window.actions_["join"]
    assert not join.isEnabled()
    ready(conductor, host)
    assert not join.isEnabled()
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    conductor.window.prompt.set_text("another")
    conductor.window.prompt.set_limit(7, False)
    qtbot.keyClick(conductor.window, Qt.Key.Key_J)
    assert host.sent[-1] == Join(Prompt("another"), 7, False)
    say(conductor, host, StateChanged(0, EngineState.PAUSED))
    assert join.isEnabled()
    say(conductor, host, Failed(0, "The context is full.", command="join"))
    assert [message.sentence for message in conductor.window.messages.messages()] == ["The context is full."]
    say(conductor, host, StateChanged(0, EngineState.READY))
    assert not join.isEnabled()


def test_a_join_is_a_mark_and_its_sequence_has_its_own_prompt(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host, 0)
    one = step([T0 + 100 * MS], kind=StepKind.PREFILL)
    other = step([T0 + 200 * MS], kind=StepKind.PREFILL, sequences=(1,))
    both = step([T0 + 300 * MS], sequences=(0, 1), batch=2)
    say(conductor, host, APART, started(), one, joined(1, T0), other, both)
    window = conductor.window
    ((place, (mark,)),) = window.strip._marks.items()
    assert (place, mark.text) == (1, "joined: 23 tokens")
    assert any("the others wait" in line for line in mark_sentences(mark))
    window.text.sequence.setCurrentIndex(window.text.sequence.findData(1))
    conductor.frame()
    assert window.text.view.toPlainText().startswith("other")
    assert "hello" not in window.text.view.toPlainText()


def test_clearing_a_run_ends_it_first(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    conductor.window.actions_["clear"].trigger()
    assert host.sent[-1] == Stop()
    assert len(conductor.engine.trace.steps) == 60
    say(conductor, host, GenerationEnded(0, 0, "stopped"), StateChanged(0, EngineState.READY))
    assert len(conductor.engine.trace.steps) == 0
    assert conductor.window.navigation.count == 0


def test_a_click_on_a_word_a_bar_and_a_key_select_the_same_step(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    window.text._clicked(window.text._written.span_of(range(10, 11))[0])  # type: ignore[index]
    step = int(conductor.engine.trace.tokens.step[10])
    assert window.navigation.selected == step
    qtbot.keyClick(window, Qt.Key.Key_Period)
    assert window.navigation.selected == step + 1
    assert len(window.text.view.extraSelections()) == 1
    conductor.frame()
    assert window.timeline.step == step + 1
    qtbot.keyClick(window, Qt.Key.Key_Escape)
    assert window.navigation.selected is None
    assert window.text.view.extraSelections() == []


def test_the_slowest_step_on_screen_is_found(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host, 200)
    conductor.window.actions_["slowest"].trigger()
    selected = conductor.window.navigation.selected
    steps = conductor.engine.trace.steps
    assert selected is not None
    assert steps.wall_ns[selected] == steps.wall_ns[4:].max()


def test_nothing_is_drawn_when_nothing_changed(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    conductor.frame()
    window = conductor.window
    assert not any(chart.refresh() for chart in window.charts)
    assert not window.text.refresh()
    assert not window.measurements.refresh()


def test_a_killed_engine_leaves_the_window_and_the_trace(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts
) -> None:
    ready(conductor, host)
    say(conductor, host, EngineEnded(0, "The engine was killed.", -9, "the end"))
    (message,) = conductor.window.messages.messages()
    assert message.sentence == "The engine was killed."
    assert conductor.window.heading.text == "NO ENGINE"
    assert len(conductor.engine.trace.steps) == 60
    message.action_button.click()
    assert hosts.opened[1].sent == [Load("preset")]
    say(conductor, hosts.opened[1], loaded(), StateChanged(0, EngineState.READY))
    assert conductor.window.messages.messages() == []
    assert conductor.window.heading.text == "READY"


def test_failures_are_shown_not_asked(conductor: Conductor, host: ScriptedHost) -> None:
    for number in range(5):
        say(conductor, host, Failed(0, f"Problem {number}.", "details", "generate" if number < 2 else ""))
    sentences = [m.sentence for m in conductor.window.messages.messages()]
    assert sentences[0] == "Problem 4."
    assert len(sentences) <= 3
    assert conductor.window.messages.dismiss_latest()


def downloading(fraction: float) -> Progress:
    total = 2 * 2**30
    done = round(fraction * total)
    return Progress(0, "downloading model.safetensors", fraction, "download", done, total, 1, 5, 2.0**20)


def test_loading_shows_progress_and_can_be_cancelled(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts
) -> None:
    progress = conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.LOADING))
    assert progress.text == "loading preset"
    say(conductor, host, Progress(0, "reading weights", 0.5, "read weights"))
    assert progress.isVisible()
    assert progress.text == "reading weights"
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    assert progress.text == "giving up preset"
    assert not progress._cancel.isVisible()
    say(conductor, host, Progress(0, "reading weights", 0.6, "read weights"))
    assert progress.text == "giving up preset", "whatever else comes meanwhile"
    say(conductor, host, LoadCancelled(0, "preset"), StateChanged(0, EngineState.EMPTY))
    assert not progress.isVisible()
    assert host.ended == ""
    (message,) = conductor.window.messages.messages()
    assert "preset was given up" in message.sentence
    message.action_button.click()
    assert host.sent[-1] == Load("preset")
    assert conductor.window.messages.messages() == []


def test_a_load_that_a_switch_waits_for_is_shown_and_can_be_given_up_while_a_generation_waits(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    window, progress = conductor.window, conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    say(conductor, host, Progress(0, "compiling the decode step", None))
    assert progress.isVisible()
    assert progress.text == "compiling the decode step"
    assert not progress._cancel.isVisible(), "nothing can end the compiler early"
    said = Progress(0, "reading weights", 0.5, "read weights")
    say(conductor, host, said, LookedUp(0, 1, CatalogueEntry("org/model", "hub", "Llama", 7, 28, 8192)))
    assert progress.text == "reading weights"
    assert window.heading.text == "RUNNING"
    assert window.actions_["stop"].isEnabled()
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    refused = SettingChange("speculation", "draft", "off", "Loading was given up.")
    say(conductor, host, SettingsChanged(0, 60, (refused,), 5, 1, loaded().effective))
    assert not progress.isVisible()
    assert window.heading.text == "RUNNING"
    assert "Loading was given up." in window.messages.messages()[0].sentence

    say(conductor, host, Progress(perf_counter_ns(), "reading weights", 0.1, "read weights"))
    assert not progress.isVisible(), "what is over soon does not flash"


def test_a_download_says_how_far_it_is_and_goes_on_after_a_cancel(
    conductor: Conductor, host: ScriptedHost
) -> None:
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.25))
    assert conductor.window.progress.details == "512 MiB of 2.00 GiB · file 2 of 5 · 1.00 MiB/s · 26 min left"
    conductor.window.progress._cancel.click()
    say(conductor, host, LoadCancelled(0, "preset"), StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert "what has come is kept" in message.sentence
    assert message.action_button.text() == "Resume"
    message.action_button.click()
    assert host.sent == [CancelLoad(), Load("preset")]


def test_a_download_that_is_ended_by_force_can_be_resumed(
    conductor: Conductor, host: ScriptedHost, hosts: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gui.load_watch.PATIENCE_NS", 0)
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.25))
    conductor.window.progress._cancel.click()
    conductor.frame()
    assert host.ended == "killed"
    assert conductor.window.progress.text == "starting the engine"
    assert not conductor.window.progress._cancel.isVisible()
    (message,) = conductor.window.messages.messages()
    message.action_button.click()
    assert hosts.opened[1].sent == [Load("preset")]


def test_a_download_that_fails_can_be_resumed_and_a_bad_model_cannot(
    conductor: Conductor, host: ScriptedHost
) -> None:
    failed = Failed(0, "The download failed: try again.", "Timeout", "load")
    say(conductor, host, StateChanged(0, EngineState.LOADING), downloading(0.5), failed)
    say(conductor, host, StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert message.action_button.text() == "Resume"
    message.action_button.click()
    assert host.sent == [Load("preset")]
    bad = Failed(0, "There is no such model.", "", "load")
    say(conductor, host, StateChanged(0, EngineState.LOADING), bad, StateChanged(0, EngineState.EMPTY))
    (message,) = conductor.window.messages.messages()
    assert not hasattr(message, "action_button")


def test_a_load_is_cancelled_while_the_engine_starts(conductor: Conductor, host: ScriptedHost) -> None:
    progress = conductor.window.progress
    say(conductor, host, StateChanged(0, EngineState.STARTING), Progress(0, "importing torch", 0.0))
    assert progress._cancel.isVisible()
    progress._cancel.click()
    assert host.sent == [CancelLoad()]
    say(conductor, host, StateChanged(0, EngineState.EMPTY), StateChanged(0, EngineState.LOADING))
    assert progress.text == "giving up preset"


def test_an_engine_that_starts_without_a_model_has_nothing_to_cancel(
    qapp: QApplication, hosts: Hosts
) -> None:
    conductor = build(hosts("process"), hosts)
    conductor.window.show()
    say(conductor, hosts.opened[0], Progress(0, "importing torch", 0.0))
    assert conductor.window.progress.isVisible()
    assert not conductor.window.progress._cancel.isVisible()
    conductor.window.close()
    conductor.window.deleteLater()
    settle(qapp)


def test_another_model_is_picked_while_one_loads(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot, qapp: QApplication
) -> None:
    say(conductor, host, StateChanged(0, EngineState.LOADING))
    conductor.window.actions_["pick"].trigger()
    conductor.window.actions_["pick"].trigger()
    (picker,) = conductor.window.findChildren(ModelPicker)
    picker.search.setText("org/other")
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    settle(qapp)
    assert [command for command in host.sent if isinstance(command, Load)] == [Load("org/other", "auto")]
    loading, empty = StateChanged(0, EngineState.LOADING), StateChanged(0, EngineState.EMPTY)
    say(conductor, host, LoadCancelled(0, "preset"), empty, loading)
    assert conductor.window.progress.text == "loading org/other"
    assert conductor.window.messages.messages() == [], "the first one is over, and nobody misses it"
    say(conductor, host, loaded(), StateChanged(0, EngineState.READY))
    assert not conductor.window.progress.isVisible()


def test_a_directory_is_remembered_by_its_whole_path(
    qapp: QApplication, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SettingsStore.of_file(tmp_path / "a.ini")
    conductor = build(hosts("process"), hosts, store, load=Load("./mine"))
    ready(conductor, hosts.opened[0], 0)
    assert store.recent_models == [str(tmp_path / "mine")]
    conductor.window.deleteLater()
    settle(qapp)


def test_a_switch_is_wished_for_and_shown_when_it_is_in_force(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    segments = board.rows["attention"].control
    segments.buttons[1].click()  # type: ignore[attr-defined]
    assert host.sent[-1] == Change((("attention", "sdpa"),))
    assert segments.buttons[0].isChecked(), "the engine has not said so yet"  # type: ignore[attr-defined]
    effective = tuple(sorted({**dict(loaded().effective), "attention": "sdpa"}.items()))
    change = SettingChange("attention", "sdpa", "sdpa")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))
    assert segments.buttons[1].isChecked()  # type: ignore[attr-defined]


def switched(conductor: Conductor, host: ScriptedHost) -> None:
    """The model is loaded and its attention kernel was switched."""
    ready(conductor, host)
    effective = tuple(sorted({**dict(loaded().effective), "attention": "sdpa"}.items()))
    change = SettingChange("attention", "sdpa", "sdpa")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))


def test_the_last_change_can_be_tried_with_one_key(conductor: Conductor, host: ScriptedHost) -> None:
    conductor.window.actions_["alternate"].trigger()
    assert "change a setting first" in conductor.window.messages.messages()[0].sentence
    switched(conductor, host)
    conductor.window.actions_["alternate"].trigger()
    assert host.sent[-1] == Alternate("attention", "eager")
    conductor.window.actions_["compare"].trigger()
    assert host.sent[-1] == MeasureSameness((("attention", "eager"),))


def test_turns_are_shown_beside_the_setting_and_end_when_they_are_decided(
    conductor: Conductor, host: ScriptedHost
) -> None:
    switched(conductor, host)
    now, other = reversed(conductor.engine.trace.configurations[:2])
    events = list(synthetic.events(200, synthetic.Shape(layers=4)))
    layouts = [event for event in events if isinstance(event, LayoutDefined)]
    steps = [event for event in events if isinstance(event, StepEnded) and event.kind is StepKind.DECODE]
    turns = [
        replace(
            step,
            configuration=2 if is_second(turn) else 1,
            stamps=twice(step) if is_second(turn) else step.stamps,
        )
        for turn, step in enumerate(steps[:150])
    ]
    begin = AlternationStarted(0, 60, "attention", "sdpa", "eager", 1, (1, 2), (now, other))
    say(conductor, host, *layouts, begin, *turns[:20])
    experiment = conductor.window.switchboard.rows["attention"].experiment
    assert experiment.turns.text() == "A/B: 9 of 64 pairs"
    assert experiment.alternate.isChecked()
    assert StopAlternating() not in host.sent
    say(conductor, host, *turns[20:])
    while conductor.engine.drain():  # a frame takes as many as it has time for
        pass
    conductor.show_numbers()
    assert host.sent[-1] == StopAlternating()
    assert "of eager, faster" in experiment.turns.text()


def test_a_training_step_is_asked_for_with_its_options(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    probe = conductor.window.switchboard.findChild(TrainingProbe)
    probe.mixed.setChecked(True)
    probe.accumulate.setValue(3)
    probe.run.click()
    assert host.sent[-1] == ProbeTraining(mixed=True, accumulate=3)


def twice(step: StepEnded) -> bytes:
    """The stamps of a step that takes twice as long."""
    stamps = np.frombuffer(step.stamps, np.int64)
    return (2 * stamps - stamps[0]).tobytes()


def test_a_refused_switch_says_why(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    change = SettingChange("attention", "sdpa", "eager", "it is broken today")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, loaded().effective))
    row = conductor.window.switchboard.rows["attention"]
    assert "it is broken today" in row._refusal.text()
    assert row._refusal.isVisibleTo(row)
    assert "it is broken today" in conductor.window.messages.messages()[0].sentence


def test_what_is_impossible_is_off_with_its_reason(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    row = board.rows["attention"]
    flash = row.control.buttons[2]  # type: ignore[attr-defined]
    assert not flash.isEnabled()
    assert flash.toolTip() == "needs a GPU"
    row.control.pointed.emit(2)  # type: ignore[attr-defined]
    assert "needs a GPU" in board.explanation
    assert "needs a GPU" in row.explanation


def test_sampling_numbers_are_off_while_greedy(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    board = conductor.window.switchboard
    assert not board.rows["temperature"].control.isEnabled()
    effective = tuple(sorted({**dict(loaded().effective), "decoding": "sample"}.items()))
    change = SettingChange("decoding", "sample", "sample")
    say(conductor, host, SettingsChanged(0, 60, (change,), 1000, 1, effective))
    assert board.rows["temperature"].control.isEnabled()
    board.rows["temperature"].control.setValue(0.7)  # type: ignore[attr-defined]
    assert host.sent[-1] == Change((("temperature", 0.7),))


def test_every_number_explains_itself(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    for measured in ("ttft", "itl_p50", "stalls"):
        shown = conductor.window.measurements.measured[measured]
        assert shown.metric.formula in gui_explanation(conductor, measured)
    conductor.window.measurements._scope.buttons[1].click()
    assert conductor.window.measurements.measured["steps"].value == 60


def gui_explanation(conductor: Conductor, key: str) -> str:
    panel = conductor.window.measurements
    name = panel.measured[key].metric.name + "\n"
    return next(part.toolTip() for part in panel.findChildren(QWidget) if part.toolTip().startswith(name))


def test_the_status_bar_shows_what_measuring_costs(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, ObserverReport(0, 100, 60.0, 4000.0))
    meter = conductor.window.meter
    middle = sorted(conductor.engine.trace.steps.wall_ns[4:].tolist())[28]
    assert f"{100 * 10_000 / middle:.2g}"[:3] in meter._instrument.text()
    assert "100 marks" in meter._instrument.toolTip()
    assert "own process · 1 thread" in meter._engine.text()


def test_the_picker_lists_searches_and_says_what_does_not_fit(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot, qapp: QApplication
) -> None:
    ready(conductor, host)
    conductor.window.actions_["pick"].trigger()
    assert host.sent[-1] == ListModels()
    picker = conductor.window.findChild(ModelPicker)
    assert picker is not None
    entries = (
        CatalogueEntry("llama-30m", "preset", "Llama", 32_000_000, 128_000_000, 8192),
        CatalogueEntry(
            "llama-8b", "preset", "Llama", 8_000_000_000, 16_000_000_000, 8192, "", "needs 16 GiB"
        ),
    )
    say(conductor, host, CatalogueListed(0, entries))
    picker.search.setText("8b")
    assert picker.choice == "", "what does not fit is not loaded"
    assert "needs 16 GiB" in picker.hint
    picker.search.setText("30m")
    assert picker.choice == "llama-30m"
    picker.search.setText("some/hub-id")
    picker._ask()
    question = host.sent[-1]
    assert isinstance(question, LookUp)
    found = CatalogueEntry("some/hub-id", "hub", "Llama", 7, 28, 8192)
    say(conductor, host, LookedUp(0, question.request, found))
    assert picker.table.current_row is not None
    assert picker.table.current_row.verdict == "fits"
    assert picker.choice == "some/hub-id"
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert host.sent[-1] == Load("some/hub-id", "auto")
    settle(qapp)


def test_all_keys_are_on_the_sheet_and_no_key_means_two_things(
    conductor: Conductor, qapp: QApplication
) -> None:
    keys = [key for facts in ACTIONS for key in facts.keys]
    assert len(keys) == len(set(keys))
    conductor.window.actions_["shortcuts"].trigger()
    sheet = conductor.window.findChild(ShortcutSheet)
    assert sheet is not None
    assert sheet.sizeHint().width() <= 1280, "wider than a small screen"
    sheet.close()
    settle(qapp)


def test_themes_switch_and_are_remembered(qapp: QApplication, hosts: Hosts, tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    conductor = build(hosts("process"), hosts, store)
    window = conductor.window
    ready(conductor, hosts.opened[0])
    window.show()
    assert window.theme.name == "dark"
    window.actions_["theme"].trigger()
    conductor.frame()
    assert window.theme.name == "light"
    assert store.theme == "light"
    window.docks["text"].hide()
    window.close()
    window.deleteLater()
    settle(qapp)
    again = build(hosts("process"), hosts, store).window
    assert again.docks["text"].isHidden()
    again.reset_layout()
    assert not again.docks["text"].isHidden()
    again.deleteLater()
    settle(qapp)


def test_a_garbled_layout_is_no_obstacle(qapp: QApplication, hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(
        "[General]\nlayout_version=1\nlayout=@ByteArray(garbage)\ngeometry=@ByteArray(garbage)\nsplitter=@ByteArray(x)\n"
    )
    window = build(hosts("process"), hosts, SettingsStore.of_file(tmp_path / "a.ini")).window
    assert window.width() > 600
    window.deleteLater()
    settle(qapp)


def test_the_first_model_runs_by_itself_once(qapp: QApplication, hosts: Hosts) -> None:
    conductor = build(hosts("process"), hosts, autorun=Generate(Prompt("go")))
    host = hosts.opened[0]
    for _ in range(2):
        say(conductor, host, loaded(), StateChanged(0, EngineState.READY))
    assert host.sent == [Generate(Prompt("go"))]
    conductor.window.deleteLater()
    settle(qapp)


def test_a_picture_is_saved_beside_others(
    conductor: Conductor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        conductor.window.actions_["picture"].trigger()
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["cyclograph-2.png", "cyclograph.png"]


def test_what_was_tried_later_is_shown_on_the_switchboard(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host, 0)
    board = conductor.window.switchboard
    row = board.rows["attention"]
    facts = conductor.engine.loaded.settings if conductor.engine.loaded else ()
    say(conductor, host, SettingsProbed(0, facts))
    assert board.rows["attention"] is row  # nothing new, nothing made anew
    refused = replace(
        ATTENTION, choices=(ATTENTION.choices[0], replace(ATTENTION.choices[1], reason="it cannot"))
    )
    say(conductor, host, SettingsProbed(0, (refused, *facts[1:])))
    assert "it cannot" in board.rows["attention"].explanation
    assert board.rows["attention"]._value == "eager"


def chatting(conductor: Conductor, host: ScriptedHost) -> None:
    """A model that knows turns is loaded."""
    made = loaded()
    model = replace(made.model, has_chat_template=True, special_tokens=((3, "<|end|>"),))
    say(conductor, host, replace(made, model=model), StateChanged(0, EngineState.READY))


def test_an_answer_to_a_chat_can_become_a_turn_and_a_continued_text_cannot(
    conductor: Conductor, host: ScriptedHost
) -> None:
    chatting(conductor, host)
    prompt = conductor.window.prompt
    events = list(synthetic.events(8, synthetic.Shape(layers=4)))
    prompt.set_text("plain")
    conductor.running.generate()
    say(conductor, host, *events, GenerationEnded(0, 0, "length"))
    assert not prompt._chat._answered
    prompt.set_prompt(Prompt(turns=(Turn("user", "Hello"),)))
    conductor.running.generate()
    say(conductor, host, GenerationEnded(0, 0, "end token"))
    tokens = conductor.engine.trace.tokens
    assert 3 in tokens.id.tolist()
    expected = "".join(text for text, id in zip(tokens.text, tokens.id.tolist(), strict=True) if id != 3)
    assert prompt._chat._answered == expected.strip()
    conductor.running.generate()
    assert not prompt._chat._answered, "another one is being written"


def test_what_is_generated_first_is_the_sample_that_suits_the_model(qapp: QApplication, hosts: Hosts) -> None:
    conductor = build(hosts("process"), hosts, load=Load("preset"), autorun=Generate(Prompt(), 6))
    chatting(conductor, hosts.opened[0])
    (command,) = [c for c in hosts.opened[0].sent if isinstance(c, Generate)]
    assert command.prompt.turns == conductor.window.prompt.prompt.turns != ()
    assert command.max_new_tokens == 6
    conductor.stop()
    conductor.window.deleteLater()
    settle(qapp)


def test_the_length_of_the_prompt_is_asked_for_and_shown(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, TokensCounted(0, host.asked[-1].request, 41, 131_071))
    assert conductor.window.prompt.length.text == "41 of 131,071 tokens"


def test_tokens_that_were_dropped_and_files_that_are_no_prompt_are_said(
    conductor: Conductor, host: ScriptedHost, tmp_path: Path, qtbot: QtBot
) -> None:
    ready(conductor, host)
    say(conductor, host, GenerationStarted(1, 0, 0, "x", (1,), 10, 1_234))
    assert "1,234 of its tokens were dropped" in conductor.window.messages.messages()[0].sentence
    conductor.window.prompt.take_files([tmp_path])
    qtbot.waitUntil(lambda: not conductor.window.prompt.aside.is_busy)
    assert "directory" in conductor.window.messages.messages()[0].sentence


# ---------------------------------------------------------------- capturing a step in depth


def test_k_captures_the_chosen_step_again_or_else_the_next(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    window.navigation.select(7)
    qtbot.keyClick(window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep(7)
    window.navigation.select(None)
    qtbot.keyClick(window, Qt.Key.Key_K)  # all is over: the newest
    assert host.sent[-1] == CaptureStep(59)
    say(conductor, host, StateChanged(0, EngineState.RUNNING))
    qtbot.keyClick(window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep()


def test_k_begins_a_generation_where_there_is_none(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host, 0)
    conductor.window.prompt.set_text("Hello")
    qtbot.keyClick(conductor.window, Qt.Key.Key_K)
    generate, capture = host.sent[-2:]
    assert isinstance(generate, Generate)
    assert generate.paused
    assert capture == CaptureStep()


def test_in_a_trace_that_was_cleared_the_engine_is_told_its_own_number_of_a_step(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host, 0)
    conductor.engine.clear()
    say(conductor, host, *list(synthetic.events(60, synthetic.Shape(layers=4)))[0:1])
    later = [e for e in synthetic.events(60, synthetic.Shape(layers=4)) if isinstance(e, StepEnded)][40:]
    say(conductor, host, *later)
    conductor.window.navigation.select(3)
    qtbot.keyClick(conductor.window, Qt.Key.Key_K)
    assert host.sent[-1] == CaptureStep(43)


def test_a_capture_is_shown_and_saved_where_the_user_says(
    conductor: Conductor, host: ScriptedHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready(conductor, host)
    window, target = conductor.window, tmp_path / "step.json"
    assert not window.docks["kernels"].isVisible()
    window.actions_["save_capture"].trigger()
    assert "was not captured" in window.messages.messages()[0].sentence
    say(conductor, host, synthetic.capture(conductor.engine.trace, 30))
    assert window.navigation.selected == 30
    assert window.docks["kernels"].isVisible()
    assert window.kernels.table.isVisible()
    conductor.frame()
    assert window.timeline._lanes is not None
    asked: list[str] = []

    def choose(parent: QWidget, title: str, suggested: str, kinds: str) -> tuple[str, str]:
        asked.append(Path(suggested).name)
        return str(target), kinds

    monkeypatch.setattr("gui.capturing.QFileDialog.getSaveFileName", choose)
    window.kernels.export_button.click()
    assert asked == ["step-30.trace.json"]
    assert '"traceEvents"' in target.read_text()
    assert "perfetto" in window.messages.messages()[0].sentence
    target = tmp_path / "nowhere" / "step.json"
    window.actions_["save_capture"].trigger()
    assert window.messages.messages()[0].sentence.startswith(f"There is no directory '{target.parent}'")


def test_a_refused_capture_offers_the_next_step(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    refused = Failed(0, "Step 3 ran under other settings: capture the next step instead.", command="capture")
    say(conductor, host, StateChanged(0, EngineState.PAUSED), refused)
    message = conductor.window.messages.messages()[0]
    message.action_button.click()
    assert host.sent[-1] == CaptureStep()
    assert not conductor.window.messages.messages()
    say(conductor, host, StateChanged(0, EngineState.READY), refused)  # then there is no next one
    assert not hasattr(conductor.window.messages.messages()[0], "action_button")


@pytest.mark.qt_log_ignore("This plugin does not support", extend=True)
def test_a_menu_over_a_step_is_about_it(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    strip = conductor.window.strip
    at = strip.column_rect(20).center()
    event = QContextMenuEvent(QContextMenuEvent.Reason.Mouse, at, strip.mapToGlobal(at))
    QApplication.sendEvent(strip, event)
    menu = strip.findChild(QMenu)
    assert menu is not None
    chosen = conductor.window.navigation.selected
    assert chosen in range(19, 22)
    next(action for action in menu.actions() if "Capture" in action.text()).trigger()
    assert host.sent[-1] == CaptureStep(chosen)
    menu.close()


# ---------------------------------------------------------------- floors and calibrations


def told(number: int, origin: str = "measured", reason: str = "", spread: float = 0.01) -> Calibrated:
    return Calibrated(0, number, replace(synthetic.CALIBRATION, spread=spread), origin, reason)


def sentences(conductor: Conductor) -> list[str]:
    return [message.sentence for message in conductor.window.messages.messages()]


def test_this_machine_is_measured_on_request(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    qtbot.keyClick(conductor.window, Qt.Key.Key_M, Qt.KeyboardModifier.ControlModifier)
    assert host.sent[-1] == Calibrate()
    conductor.window.arrangement.show("roofline")
    panel = conductor.window.roofline
    assert panel.measure.text() == MEASURING
    assert not panel.measure.isEnabled()
    begun = Progress(perf_counter_ns() - 10**9, "calibrating this machine", None)
    say(conductor, host, begun)
    conductor.show_numbers()
    assert conductor.window.progress.isVisible()
    say(conductor, host, told(0))
    conductor.show_numbers()
    assert not conductor.window.progress.isVisible()
    assert panel.measure.text() == "Measure again"
    assert "memory 10.0 GB/s" in sentences(conductor)[0]
    panel.measure.click()
    assert host.sent[-1] == Calibrate()
    assert conductor.engine.is_calibrating


def test_a_refused_measurement_says_why_and_can_be_asked_for_again(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    conductor.measuring.calibrate()
    say(
        conductor,
        host,
        Failed(0, "A generation would disturb the calibration: stop it first.", "", "calibrate"),
    )
    assert sentences(conductor) == ["A generation would disturb the calibration: stop it first."]
    assert not conductor.engine.is_calibrating
    conductor.measuring.calibrate()
    assert sentences(conductor) == []
    say(conductor, host, told(0, spread=0.2))
    assert "20.0 % apart" in sentences(conductor)[0]


def test_what_is_remembered_or_measured_while_idle_is_not_announced(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    say(conductor, host, told(0, "remembered"), told(1, reason="nothing was known of this machine"))
    assert sentences(conductor) == []


def test_a_measurement_that_was_asked_for_is_not_answered_by_a_remembered_one(
    conductor: Conductor, host: ScriptedHost
) -> None:
    ready(conductor, host)
    conductor.measuring.calibrate()
    say(conductor, host, told(0, "remembered"))
    assert conductor.engine.is_calibrating
    host.events.append(EngineEnded(0, "The engine ended unexpectedly."))
    conductor.frame()
    assert not conductor.engine.is_calibrating


def test_a_beaten_floor_is_never_hidden(conductor: Conductor, host: ScriptedHost) -> None:
    ready(conductor, host)
    say(conductor, host, told(0, "remembered"), FloorBeaten(0, 30, 300_000, 420_000))
    (message,) = conductor.window.messages.messages()
    assert message.sentence.startswith("Step 30 took 300 µs, less than its floor of 420 µs")
    message.action_button.click()
    assert host.sent[-1] == Calibrate()
    say(conductor, host, FloorBeaten(0, 31, 300_000, 420_000))
    say(conductor, host, told(1, reason="a step had beaten its floor"))
    assert len(sentences(conductor)) == 1
    assert "measured again, since a step had beaten its floor" in sentences(conductor)[0]


def test_plots_come_to_the_front_with_a_key_and_room(
    conductor: Conductor, host: ScriptedHost, qtbot: QtBot
) -> None:
    ready(conductor, host)
    window = conductor.window
    assert is_seen(window.timeline)
    assert not is_seen(window.roofline)
    for key, chart in ((Qt.Key.Key_G, window.roofline.chart), (Qt.Key.Key_Y, window.cycle_model.chart)):
        qtbot.keyClick(window, key)
        qtbot.waitUntil(lambda shown=chart: shown.height() > 200)  # type: ignore[misc]
        assert is_seen(chart)
        assert not is_seen(window.timeline)
    window.actions_["reset_layout"].trigger()
    qtbot.waitUntil(lambda: is_seen(window.timeline))
    assert not is_seen(window.cycle_model)
    assert [bar.isVisible() for bar in window.arrangement.tab_bars()].count(True) == 1, (
        "no tabs of another arrangement"
    )


def test_what_lies_behind_a_tab_is_not_drawn(conductor: Conductor, host: ScriptedHost, qtbot: QtBot) -> None:
    ready(conductor, host)
    chart = conductor.window.cycle_model.chart
    qtbot.waitUntil(lambda: not is_seen(chart))
    assert not chart.refresh()
    assert chart.view.series == ()
    conductor.window.arrangement.show("cycle_model")
    qtbot.waitUntil(lambda: len(chart.view.series) == 1)


def test_a_restored_layout_has_one_row_of_tabs(qapp: QApplication, hosts: Hosts, tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    for _ in range(2):
        made = build(hosts("process"), hosts, store)
        made.window.show()
        qapp.processEvents()
        assert [bar.isVisible() for bar in made.window.arrangement.tab_bars()].count(True) == 1
        assert is_seen(made.window.timeline)
        made.window.close()
        made.window.deleteLater()
        settle(qapp)


def test_the_numbers_of_the_floor_say_which_calibration_they_stand_on(
    conductor: Conductor, host: ScriptedHost
) -> None:
    shape = synthetic.Shape(layers=4, floors=True)
    say(conductor, host, ModelLoaded(0, synthetic.loaded(4, floors=True).model, (), 0, synthetic.BASE))
    say(conductor, host, *synthetic.events(60, shape))
    conductor.show_numbers()
    panel = conductor.window.measurements
    cells = {name.text(): value for name, value in panel._cells if not name.isHidden()}
    assert cells["of the floor"].text().endswith(" %")
    assert "calibration 0: cpu, 1 thread, measured 2025-11-2" in cells["MBU"].toolTip()
    assert "floor_s / wall_s" in cells["of the floor"].toolTip()
    assert cells["intensity"].text().endswith(" FLOP/B")
    assert "calibration 0" not in cells["intensity"].toolTip()
