"""Generations, as keys and the prompt panel begin, pause, join and end them."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QTextCursor
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from engine.protocol import (
    EngineState,
    Failed,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Join,
    Load,
    Pause,
    Prompt,
    Resume,
    SingleStep,
    StateChanged,
    Stop,
    TokensCounted,
    Turn,
)
from engine.trace.phases import StepKind
from gui.conductor import Conductor
from gui.view_texts import mark_sentences
from tests.engine.trace.building import APART, MS, T0, joined, started, step
from tests.gui import synthetic
from tests.gui.building import Hosts, ScriptedHost, build
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conducting import loaded, ready, say
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


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


def test_the_first_model_runs_by_itself_once(qapp: QApplication, hosts: Hosts) -> None:
    conductor = build(hosts("process"), hosts, autorun=Generate(Prompt("go")))
    host = hosts.opened[0]
    for _ in range(2):
        say(conductor, host, loaded(), StateChanged(0, EngineState.READY))
    assert host.sent == [Generate(Prompt("go"))]
    conductor.window.deleteLater()
    settle(qapp)


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
