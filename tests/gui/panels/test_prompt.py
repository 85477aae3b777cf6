"""The prompt panel: plain and chat, samples and own prompts, files, and the length as one types."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from engine.protocol import CountTokens, Family, ModelFacts, Prompt, TokensCounted, Turn
from gui.aside import LOOK_EVERY_MS
from gui.panels.prompt import CHAT, PLAIN, PromptPanel
from gui.panels.prompt_edit import LONGEST_EDITED, SHOWN_OF_LONG
from gui.panels.prompt_length import STALE
from gui.settings_store import SettingsStore
from tests.gui import readers, synthetic
from tests.gui.conftest import on_screen

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

BASE = synthetic.loaded(2).model
CHATS = replace(BASE, name="chat", has_chat_template=True, knows_thinking=True, random_weights=False)


@pytest.fixture
def panel(qapp: QApplication, tmp_path: Path) -> Iterator[PromptPanel]:
    made = PromptPanel(SettingsStore.of_file(tmp_path / "window.ini"))
    made.resize(320, 420)
    yield from on_screen(made, qapp)


@pytest.fixture
def asked(panel: PromptPanel) -> list[CountTokens]:
    questions: list[CountTokens] = []
    panel.count_requested.connect(questions.append)
    return questions


@pytest.fixture
def said(panel: PromptPanel) -> list[str]:
    sentences: list[str] = []
    panel.failed.connect(sentences.append)
    return sentences


def answer(panel: PromptPanel, question: CountTokens, tokens: int, limit: int = 100, **more: str) -> None:
    panel.show_count(TokensCounted(0, question.request, tokens, limit, **more))


def drop(target: QWidget, *paths: Path) -> None:
    """Drop files as Qt delivers them."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    button, none = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    entered = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, button, none)
    QApplication.sendEvent(target, entered)
    assert entered.isAccepted()
    QApplication.sendEvent(target, QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, button, none))


def read(panel: PromptPanel, qtbot: QtBot) -> None:
    """Wait until what was dropped has been read."""
    qtbot.waitUntil(lambda: not panel.aside.is_busy)


# ---------------------------------------------------------------- what suits the model


def test_chat_is_refused_with_the_reason_where_there_is_no_template(panel: PromptPanel, qtbot: QtBot) -> None:
    chat = panel._modes.buttons[CHAT]
    assert not chat.isEnabled()
    panel.suit_model(BASE)
    assert not chat.isEnabled()
    assert "no chat template" in chat.toolTip()
    qtbot.mouseClick(chat, Qt.MouseButton.LeftButton)
    assert panel.mode == PLAIN


def test_an_untouched_sample_follows_the_model_and_a_prompt_of_ones_own_stays(panel: PromptPanel) -> None:
    panel.suit_model(CHATS)
    assert panel.mode == CHAT
    assert [turn.role for turn in panel.prompt.turns] == ["user"]
    panel.suit_model(BASE)
    assert panel.mode == PLAIN
    assert panel.own_prompt == Prompt(), "nobody chose it"
    panel.suit_model(readers.facts())
    assert "[MASK]" in panel.text
    panel.suit_model(readers.facts("classification"))
    assert "[MASK]" not in panel.text
    panel.set_text("mine")
    panel.suit_model(CHATS)
    assert panel.own_prompt == panel.prompt == Prompt("mine")


def test_a_model_that_only_reads_has_inputs_a_step_and_no_modes(panel: PromptPanel) -> None:
    panel.suit_model(readers.facts())
    assert panel._batch.isVisible()
    assert not panel._count.isVisible()
    assert not panel._stop.isVisible()
    assert not panel._modes.isVisible()
    panel._batch.setValue(3)
    assert panel.command().batch == 3
    panel.suit_model(BASE)
    assert panel._count.isVisible()
    assert not panel._batch.isVisible()


@pytest.mark.parametrize(
    "model",
    [
        BASE,
        CHATS,
        replace(BASE, family=Family.ENCODER_DECODER),
        readers.facts(),
        replace(readers.facts(), special_tokens=((4, "<mask>"),)),
        readers.facts("classification"),
    ],
    ids=["base", "chat", "encoder-decoder", "fill-mask", "roberta", "classifier"],
)
def test_samples_are_what_the_model_can_use(panel: PromptPanel, model: ModelFacts) -> None:
    panel.suit_model(model)
    panel._menu.fill()
    tasks = [action for action in panel._menu.actions() if action.menu()]
    assert tasks
    for task in tasks:
        for entry in task.menu().actions():  # type: ignore[attr-defined]
            entry.trigger()
            prompt = panel.prompt
            assert prompt.turns or prompt.text
            assert bool(prompt.turns) == (panel.mode == CHAT) == (model is CHATS)
            assert ("mask" in prompt.text.lower()) == (model.task == "fill-mask")
            if model.task == "fill-mask":
                (mask,) = [text for _, text in model.special_tokens if "mask" in text.lower()]
                assert mask in prompt.text


# ---------------------------------------------------------------- chat


def test_a_dialogue_goes_on_with_the_answer(panel: PromptPanel, qtbot: QtBot) -> None:
    panel.suit_model(CHATS)
    panel.set_prompt(Prompt(turns=(Turn("system", "Be brief."), Turn("user", "Hello"))))
    assert not panel._chat._answer.isVisible()
    panel.offer_answer("Good day.")
    qtbot.mouseClick(panel._chat._answer, Qt.MouseButton.LeftButton)
    assert panel.prompt.turns[1:] == (Turn("user", "Hello"), Turn("assistant", "Good day."))
    assert not panel._chat._answer.isVisible()
    qtbot.keyClicks(panel._chat._turns[-1].edit, "And now?")
    assert panel.prompt.turns[-1] == Turn("user", "And now?")


def test_turns_alternate_and_can_be_removed(panel: PromptPanel) -> None:
    panel.suit_model(CHATS)
    panel.set_prompt(Prompt(turns=(Turn("user", "a"),)))
    panel._chat._add_next()
    panel._chat._add_next()
    assert [turn.role for turn in panel._chat._turns] == ["user", "assistant", "user"]
    assert panel.prompt.turns == (Turn("user", "a"),), "empty turns say nothing"
    for turn in list(panel._chat._turns):
        turn.remove.click()
    assert [turn.edit.text for turn in panel._chat._turns] == [""]


def test_nothing_lies_on_another_thing_when_the_length_takes_several_lines(
    panel: PromptPanel, asked: list[CountTokens], qapp: QApplication
) -> None:
    panel.suit_model(CHATS)
    answer(panel, asked[-1], 0, reason="The template refuses this: " + "many words about it " * 8)
    qapp.processEvents()
    panel.resize(320, panel.minimumSizeHint().height())
    qapp.processEvents()
    assert panel.length._label.height() >= panel.length._label.heightForWidth(panel.length._label.width())
    editor = panel._chat
    assert editor._area.geometry().bottom() < editor.layout().itemAt(2).geometry().top()
    assert editor.geometry().height() >= editor.minimumSizeHint().height()


def test_thinking_is_asked_for_only_where_the_template_knows_it(panel: PromptPanel) -> None:
    panel.suit_model(CHATS)
    assert panel.prompt.thinking is None
    panel._thinking.setCurrentIndex(2)
    assert panel.prompt.thinking is False
    panel._choose_mode(PLAIN)
    assert not panel._thinking.isVisible()
    assert panel.prompt.thinking is None
    panel._choose_mode(CHAT)
    panel.suit_model(replace(CHATS, knows_thinking=False))
    assert panel.prompt.thinking is None


# ---------------------------------------------------------------- length


def test_the_length_is_asked_for_once_after_typing(
    panel: PromptPanel, asked: list[CountTokens], qtbot: QtBot
) -> None:
    panel.suit_model(BASE)
    answer(panel, asked[-1], 12)
    assert panel.length.text == "12 of 100 tokens"
    del asked[:]
    panel.set_text("")
    qtbot.keyClicks(panel._plain, "one two three")
    assert panel.length.text == "12 of 100 tokens" + STALE
    qtbot.waitUntil(lambda: bool(asked))
    assert [question.prompt.text for question in asked] == ["one two three"]
    answer(panel, CountTokens(asked[0].request - 1, Prompt()), 99)
    assert panel.length.text.endswith(STALE), "the answer to an older question"
    answer(panel, asked[0], 3)
    assert panel.length.text == "3 of 100 tokens"


def test_a_prompt_that_is_too_long_is_truncated_only_when_told_to(
    panel: PromptPanel, asked: list[CountTokens]
) -> None:
    panel.suit_model(BASE)
    answer(panel, asked[-1], 5_000)
    assert panel.length._label.property("role") == "danger"
    assert not panel.command().prompt.truncate
    panel.length._truncate.click()
    assert panel.length._label.property("role") == "muted"
    assert panel.command().prompt.truncate
    panel.length.ask()
    answer(panel, asked[-1], 5)
    assert not panel.command().prompt.truncate, "what is short enough needs no leave"


def test_what_the_template_makes_of_a_chat_is_shown_and_why_it_refuses(
    panel: PromptPanel, asked: list[CountTokens]
) -> None:
    panel.suit_model(CHATS)
    answer(panel, asked[-1], 7, rendered="<|user|>\nHello")
    assert "&lt;|user|&gt;\nHello" in panel.length._label.toolTip()
    panel.length.ask()
    answer(panel, asked[-1], 0, reason="The template refuses two turns of the user.")
    assert panel.length.text == "The template refuses two turns of the user."
    assert panel.length._label.property("role") == "warning"


def test_of_several_inputs_the_longest_counts(panel: PromptPanel, asked: list[CountTokens]) -> None:
    panel.suit_model(readers.facts())
    panel.set_text("a [MASK]\n\nb\nc")
    panel.length.ask()
    answer(panel, asked[-1], 4, 512)
    assert panel.length.text == "3 inputs, the longest 4 of 512 tokens"


# ---------------------------------------------------------------- long texts and files


def test_a_million_characters_are_kept_whole_and_shown_in_part(
    panel: PromptPanel, tmp_path: Path, qtbot: QtBot
) -> None:
    text = "字 words 👩\n" * 100_000
    path = tmp_path / "long.txt"
    path.write_text(text, encoding="utf-8", newline="")
    drop(panel, path)
    read(panel, qtbot)
    assert panel.command().prompt.text == text
    shown = panel._plain.toPlainText()
    assert len(shown) < SHOWN_OF_LONG + 200
    assert f"{len(text) - SHOWN_OF_LONG:,} more characters" in shown
    drop(panel._plain.viewport().parentWidget(), path)
    read(panel, qtbot)
    panel._clear.click()
    assert panel.text == ""
    assert not panel._plain.isReadOnly()


def test_pasting_too_much_at_the_cursor_loses_nothing(panel: PromptPanel) -> None:
    panel.set_text("👩ab")
    cursor = panel._plain.textCursor()
    cursor.setPosition(3)  # behind the a: Qt counts in UTF-16
    panel._plain.setTextCursor(cursor)
    data = QMimeData()
    data.setText("x" * LONGEST_EDITED)
    panel._plain.insertFromMimeData(data)
    assert panel.text == "👩a" + "x" * LONGEST_EDITED + "b"


def test_a_dropped_file_becomes_the_prompt_or_a_turn(
    panel: PromptPanel, tmp_path: Path, qtbot: QtBot
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfHello")
    drop(panel._plain.viewport(), path)
    read(panel, qtbot)
    assert panel.text == "Hello"
    panel.suit_model(CHATS)
    panel.set_prompt(Prompt(turns=(Turn("user", "Read this:"),)))
    drop(panel, path)
    read(panel, qtbot)
    assert panel.prompt.turns == (Turn("user", "Read this:"), Turn("user", "Hello"))


def test_what_cannot_be_a_prompt_is_one_sentence(
    panel: PromptPanel, said: list[str], tmp_path: Path, qtbot: QtBot
) -> None:
    binary = tmp_path / "a.bin"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    panel.set_text("before")
    for paths, word in (([binary], "UTF-8"), ([tmp_path], "directory"), ([binary, binary], "2 files")):
        drop(panel, *paths)
        read(panel, qtbot)
        assert word in said[-1]
    assert panel.text == "before"
    assert panel.cursor().shape() == Qt.CursorShape.ArrowCursor


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_reading_keeps_nobody_waiting_and_the_last_file_counts(
    panel: PromptPanel, tmp_path: Path, qtbot: QtBot
) -> None:
    slow, quick = tmp_path / "pipe", tmp_path / "a.txt"
    os.mkfifo(slow)
    quick.write_text("quick")
    drop(panel, slow)
    assert panel.aside.is_busy, "nobody has written to it yet"
    assert panel.cursor().shape() == Qt.CursorShape.BusyCursor
    drop(panel, quick)
    read(panel, qtbot)
    assert panel.text == "quick"
    slow.write_text("slow")  # lets its thread go
    qtbot.wait(2 * LOOK_EVERY_MS)
    assert panel.text == "quick"


# ---------------------------------------------------------------- own prompts


def test_own_prompts_are_saved_used_renamed_and_deleted(panel: PromptPanel, tmp_path: Path) -> None:
    panel.suit_model(CHATS)
    chat = Prompt(turns=(Turn("system", "s"), Turn("user", "u & v")), thinking=True)
    panel.set_prompt(chat)
    panel.save_own("Talk & more")
    panel.set_text("plain one")
    panel.save_own("Again")
    panel._store.sync()
    again, talk = SettingsStore.of_file(tmp_path / "window.ini").own_prompts
    assert (again.name, talk.name, talk.prompt) == ("Again", "Talk & more", chat)
    panel._menu.fill()
    entry(panel, "Talk && more").trigger()
    assert panel.prompt == chat
    panel.rename_own("Again", "Afresh")
    panel._menu.removed.emit("Talk & more")
    assert [own.name for own in panel._store.own_prompts] == ["Afresh"]


def test_an_own_chat_is_off_for_a_model_that_knows_no_turns(panel: PromptPanel) -> None:
    panel.suit_model(CHATS)
    panel.set_prompt(Prompt(turns=(Turn("user", "u"),)))
    panel.save_own("talk")
    panel.suit_model(BASE)
    panel._menu.fill()
    assert not entry(panel, "talk").isEnabled()
    assert "no chat template" in entry(panel, "talk").toolTip()


def test_a_name_is_not_taken_twice_and_a_long_prompt_is_not_saved(
    panel: PromptPanel, said: list[str]
) -> None:
    panel.save_own("a")
    panel.save_own("b")
    panel.rename_own("a", "b")
    assert "'b'" in said[-1]
    panel.set_text("x" * (LONGEST_EDITED + 1))
    panel.save_own("long")
    assert "keep it in a file" in said[-1]
    assert [own.name for own in panel._store.own_prompts] == ["a", "b"]


def entry(panel: PromptPanel, text: str) -> QAction:
    """The entry of the menu itself, not of a submenu."""
    return next(action for action in panel._menu.actions() if action.text() == text)
