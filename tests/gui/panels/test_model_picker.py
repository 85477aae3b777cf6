"""The real dialog, used as one uses it: typing, arrows, Enter, Esc, a folder dropped on it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import time

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QFileDialog
from pytestqt.qtbot import QtBot

from engine.protocol import CatalogueEntry, CatalogueListed, DeviceFacts, Family, Fit, LookedUp, LookUp
from gui import theme as themes
from gui.panels.model_picker import SIZE, ModelPicker
from gui.panels.model_rows import COLUMNS, Group
from gui.panels.model_table import LEAST_NAME
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)

CPU = DeviceFacts("cpu", "a processor", 16 * 2**30, 13 * 2**30)
GPU = DeviceFacts("cuda:0", "an accelerator", 80 * 2**30, 78 * 2**30)
TOO_BIG = "It needs 17.7 GiB, and cpu has 13.1 GiB free: run it on cuda:0 or choose a smaller model."
BIG_FITS = (
    Fit("cpu", 32 * 10**9, TOO_BIG),
    Fit("cuda:0", 16 * 10**9, "", "a tight fit"),
    Fit("split", 16 * 10**9),
)
ENTRIES = (
    CatalogueEntry("demo", "demo", "LlamaForCausalLM", 5_000_000, 20_000_000, 1024, "writes little stories"),
    CatalogueEntry("llama-30m", "preset", "LlamaForCausalLM", 31_990_272, 127_961_088, 8192),
    CatalogueEntry(
        "llama-3.1-8b", "preset", "LlamaForCausalLM", 8 * 10**9, 32 * 10**9, 131_072, fits=BIG_FITS
    ),
    CatalogueEntry(
        "google-t5/t5-small",
        "cached",
        "T5ForConditionalGeneration",
        60_506_624,
        242_043_056,
        512,
        disk_bytes=245_000_000,
        used_s=time() - 3 * 86_400 - 60,
        family=Family.ENCODER_DECODER,
    ),
)
Chosen = list[tuple[str, str]]


def opened(
    qtbot: QtBot, recent: tuple[str, ...] = (), devices: tuple[DeviceFacts, ...] = (CPU,)
) -> ModelPicker:
    made = ModelPicker(devices, recent, themes.DARK)
    qtbot.addWidget(made)
    made.show_catalogue(CatalogueListed(0, ENTRIES))
    made.show()
    return made


@pytest.fixture
def picker(qtbot: QtBot, qapp: QApplication) -> Iterator[ModelPicker]:
    themes.apply(qapp, themes.DARK)
    made = opened(qtbot, ("llama-30m", "org/gone"), (CPU, GPU))
    yield made
    made.close()
    settle(qapp)


@pytest.fixture
def asked(picker: ModelPicker) -> list[LookUp]:
    """What the engine is asked; at once, so that no test waits for the silence of who types."""
    found: list[LookUp] = []
    picker._ask_later.setInterval(0)
    picker.look_up_requested.connect(found.append)
    return found


@pytest.fixture
def chosen(picker: ModelPicker) -> Chosen:
    found: Chosen = []
    picker.chosen.connect(lambda model, device: found.append((model, device)))
    return found


def names(picker: ModelPicker) -> list[str]:
    return [row.name for row in picker.table.shown_rows()]


def test_groups_come_in_order_and_enter_loads_the_latest_model_again(
    picker: ModelPicker, chosen: Chosen, qtbot: QtBot
) -> None:
    assert [row.group for row in picker.table.shown_rows()] == [
        *(Group.RECENT, Group.RECENT, Group.DEMO, Group.CACHED, Group.PRESET, Group.PRESET)
    ]
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert chosen == [("llama-30m", "auto")], "once"
    assert not picker.isVisible()


def test_every_column_is_filled(picker: ModelPicker) -> None:
    picker.table.choose("google-t5/t5-small")
    index = picker.table.currentIndex()
    texts = [index.siblingAtColumn(column).data() for column in range(len(COLUMNS))]
    assert texts == [
        *("google-t5/t5-small", "T5 · encoder–decoder", "60.5 M", "231 MiB", "512"),
        *("234 MiB", "3 days ago", "✓ fits"),
    ]


def test_typing_searches_every_word_and_finds_each_model_once(picker: ModelPicker, qtbot: QtBot) -> None:
    qtbot.keyClicks(picker.search, "llama 30")
    assert names(picker) == ["llama-30m", "llama 30"], "what was typed is the last row"
    picker.search.setText("stories")
    assert names(picker) == ["demo", "stories"]
    picker.search.setText("encoder–decoder")
    assert names(picker)[0] == "google-t5/t5-small"
    picker.search.clear()
    assert len(names(picker)) == 6


def test_arrows_walk_over_titles_while_the_search_keeps_the_focus(
    picker: ModelPicker, chosen: Chosen, qtbot: QtBot
) -> None:
    walked = []
    for _ in range(4):
        qtbot.keyClick(picker.search, Qt.Key.Key_Down)
        row = picker.table.current_row
        assert row is not None
        walked.append(row.model)
    assert walked == ["org/gone", "demo", "google-t5/t5-small", "llama-30m"]
    qtbot.keyClick(picker.search, Qt.Key.Key_Up)
    assert picker.focusWidget() is picker.search
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert chosen == [("google-t5/t5-small", "auto")]


def test_escape_closes_and_loads_nothing(picker: ModelPicker, chosen: Chosen, qtbot: QtBot) -> None:
    qtbot.keyClicks(picker.search, "demo")
    qtbot.keyClick(picker.search, Qt.Key.Key_Escape)
    assert not picker.isVisible()
    assert chosen == []


def test_what_does_not_fit_says_why_and_is_not_loaded(
    picker: ModelPicker, chosen: Chosen, qtbot: QtBot
) -> None:
    qtbot.keyClicks(picker.search, "8b")
    assert picker.table.current_row is not None
    assert picker.table.current_row.model == "llama-3.1-8b", "rather than a hub id of that name"
    assert picker.hint == TOO_BIG
    assert not picker.load.isEnabled()
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert chosen == []
    assert picker.isVisible()


def test_verdicts_follow_the_chosen_device(picker: ModelPicker, chosen: Chosen, qtbot: QtBot) -> None:
    qtbot.keyClicks(picker.search, "8b")
    picker.devices.setCurrentIndex(picker.devices.findData("cuda:0"))
    row = picker.table.current_row
    assert row is not None
    assert (row.model, row.reason, row.verdict, row.weights) == ("llama-3.1-8b", "", "fits", "14.9 GiB")
    assert "a tight fit" in row.remark
    picker.devices.setCurrentIndex(picker.devices.findData("cpu"))
    assert picker.hint == TOO_BIG
    assert picker.choice == ""
    picker.devices.setCurrentIndex(picker.devices.findData("split"))
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert chosen == [("llama-3.1-8b", "split")]


def test_what_is_free_now_replaces_what_was_and_keeps_the_device(picker: ModelPicker) -> None:
    picker.devices.setCurrentIndex(picker.devices.findData("cuda:0"))
    picker.show_catalogue(CatalogueListed(0, ENTRIES, (CPU, replace(GPU, available_bytes=2 * 2**30))))
    assert picker.device == "cuda:0"
    assert picker.devices.currentText() == "cuda:0 · 2.00 GiB free"
    picker.show_catalogue(CatalogueListed(0, ENTRIES, (CPU,)))
    assert picker.device == "auto", "that device is gone"


def test_devices_say_what_is_free_and_splitting_needs_two(picker: ModelPicker, qtbot: QtBot) -> None:
    texts = [picker.devices.itemText(place) for place in range(picker.devices.count())]
    assert texts == ["automatic", "cpu · 13.0 GiB free", "cuda:0 · 78.0 GiB free", "split over all devices"]
    alone = opened(qtbot)
    assert [alone.devices.itemData(place) for place in range(alone.devices.count())] == ["auto", "cpu"]
    alone.close()


def test_typed_text_is_a_hub_id_and_the_dialog_says_so(
    picker: ModelPicker, chosen: Chosen, qtbot: QtBot
) -> None:
    qtbot.keyClicks(picker.search, "Qwen/Qwen2.5-0.5B")
    row = picker.table.current_row
    assert row is not None
    assert (row.group, row.what) == (Group.TYPED, "hub id")
    assert "hub id" in picker._remark.text()
    qtbot.keyClick(picker.search, Qt.Key.Key_Return)
    assert chosen == [("Qwen/Qwen2.5-0.5B", "auto")]


def test_a_hub_id_is_looked_up_and_its_row_says_so_and_then_what_was_found(
    picker: ModelPicker, asked: list[LookUp], qtbot: QtBot
) -> None:
    picker.search.setText("https://huggingface.co/org/large/tree/main")
    qtbot.waitUntil(lambda: bool(asked))
    assert [question.model for question in asked] == ["org/large"]
    row = picker.table.current_row
    assert row is not None
    assert row.verdict == "asking the hub …"
    assert picker.choice == "org/large", "who is in a hurry need not wait"
    entry = replace(ENTRIES[2], name="org/large", kind="hub", remark="16 GiB to download")
    picker.show_answer(LookedUp(0, asked[0].request, entry))
    assert (picker.hint, picker.choice) == (TOO_BIG, "")
    row = picker.table.current_row
    assert row is not None
    assert (row.group, row.what, row.verdict) == (Group.TYPED, "Llama · decoder", TOO_BIG.partition(": ")[0])
    picker.devices.setCurrentIndex(picker.devices.findData("cuda:0"))
    assert picker.choice == "org/large"
    assert "16 GiB to download" in picker._remark.text()


def test_only_the_last_text_is_asked_about_and_an_older_answer_is_dropped(
    picker: ModelPicker, asked: list[LookUp], qtbot: QtBot
) -> None:
    qtbot.keyClicks(picker.search, "org/gpt")
    picker.search.setText("org/gpt-4")
    qtbot.waitUntil(lambda: bool(asked))
    assert [question.model for question in asked] == ["org/gpt-4"]
    refused = replace(ENTRIES[2], reason="It does not exist.")
    picker.show_answer(LookedUp(0, asked[0].request - 1, refused))
    assert picker.choice == "org/gpt-4"


def test_nothing_is_asked_about_what_is_no_whole_id_or_is_here(
    picker: ModelPicker, asked: list[LookUp], qtbot: QtBot
) -> None:
    for text in ("llama", "two words", "org/a b", "google-t5/t5-small", "/no/such/directory", ""):
        picker.search.setText(text)
        qtbot.wait(5)
    assert asked == []


def test_a_hub_that_does_not_answer_leaves_the_choice(
    picker: ModelPicker, asked: list[LookUp], qtbot: QtBot
) -> None:
    picker.search.setText("org/model")
    qtbot.waitUntil(lambda: bool(asked))
    problem = "The hub did not answer within 6 s when it was asked for model 'org/model': check the network."
    unknown = CatalogueEntry("org/model", "hub", "", 0, 0, 0)
    picker.show_answer(LookedUp(0, asked[0].request, unknown, problem))
    row = picker.table.current_row
    assert row is not None
    assert row.verdict == "the hub does not say"
    assert picker.hint == "Enter tries to load it."
    assert problem in picker._remark.text()
    assert picker.choice == "org/model"


def test_a_directory_is_looked_at(
    picker: ModelPicker, asked: list[LookUp], tmp_path: Path, qtbot: QtBot
) -> None:
    (tmp_path / "config.json").write_text("{}")
    picker.search.setText(str(tmp_path))
    qtbot.waitUntil(lambda: bool(asked))
    assert asked[0].model == str(tmp_path)
    torn = CatalogueEntry(str(tmp_path), "directory", "", 0, 0, 0, reason="It is torn: get it again.")
    picker.show_answer(LookedUp(0, asked[0].request, torn))
    assert (picker.choice, picker.hint) == ("", "It is torn: get it again.")


def test_a_row_that_is_chosen_stays_chosen_when_the_answer_comes(
    picker: ModelPicker, asked: list[LookUp], qtbot: QtBot
) -> None:
    picker.search.setText("google-t5/t5")
    qtbot.waitUntil(lambda: bool(asked))
    picker.table.choose("google-t5/t5-small")
    picker.show_answer(LookedUp(0, asked[0].request, replace(ENTRIES[2], reason="There is no such model.")))
    assert picker.choice == "google-t5/t5-small"


def test_an_address_of_the_hub_finds_the_model_that_is_here(picker: ModelPicker) -> None:
    picker.search.setText("https://huggingface.co/google-t5/t5-small")
    assert names(picker) == ["google-t5/t5-small"], "listed, so not once more as typed"
    assert picker.choice == "google-t5/t5-small"


@pytest.mark.parametrize("text", ["what is this?", "%s%n", "模型 模型", "x" * 5000])
def test_garbage_is_refused_in_words(picker: ModelPicker, text: str) -> None:
    picker.search.setText(text)
    assert picker.choice == ""
    assert "neither a directory nor a hub id" in picker.hint


def test_a_typed_directory_says_what_is_wrong_with_it(picker: ModelPicker, tmp_path: Path) -> None:
    picker.search.setText(str(tmp_path))
    assert picker.choice == ""
    assert "no config.json" in picker.hint
    picker.devices.setCurrentIndex(1)
    assert picker.choice == "", "nor on another device"
    (tmp_path / "config.json").write_text("{}")
    picker.search.setText(f"{tmp_path}/")
    assert picker.choice == str(tmp_path)


def test_a_folder_is_dropped(picker: ModelPicker, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for path, accepted in ((tmp_path / "config.json", False), (tmp_path, True)):
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path))])
        drag = QDragEnterEvent(
            QPoint(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier(0)
        )
        drag.ignore()
        picker.dragEnterEvent(drag)
        assert drag.isAccepted() == accepted
    drop = QDropEvent(
        QPointF(5, 5), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, Qt.KeyboardModifier(0)
    )
    picker.dropEvent(drop)
    assert picker.choice == str(tmp_path)


def test_a_directory_is_browsed_for(picker: ModelPicker, tmp_path: Path, qapp: QApplication) -> None:
    (tmp_path / "config.json").write_text("{}")
    picker._browse.click()
    browser = picker.findChild(QFileDialog)
    assert isinstance(browser, QFileDialog)
    browser.fileSelected.emit(str(tmp_path))
    browser.close()
    settle(qapp)
    assert picker.choice == str(tmp_path)


def test_a_double_click_loads(picker: ModelPicker, chosen: Chosen, qtbot: QtBot) -> None:
    picker.table.choose("demo")
    place = picker.table.visualRect(picker.table.currentIndex()).center()
    qtbot.mouseClick(picker.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    qtbot.mouseDClick(picker.table.viewport(), Qt.MouseButton.LeftButton, pos=place)
    assert chosen == [("demo", "auto")]


def test_before_the_engine_answers_ids_can_be_typed_and_recent_models_are_there(
    qtbot: QtBot, qapp: QApplication
) -> None:
    empty = ModelPicker((), (), themes.DARK)
    qtbot.addWidget(empty)
    assert "Asking the engine" in empty.table._note.text()
    assert not empty.load.isEnabled()
    empty.search.setText("org/model")
    assert empty.choice == "org/model"
    recent = ModelPicker((), ("llama-30m",), themes.DARK)
    qtbot.addWidget(recent)
    assert recent.choice == "llama-30m"
    settle(qapp)


def test_a_list_that_comes_late_keeps_what_was_typed_and_chosen(picker: ModelPicker) -> None:
    picker.search.setText("llama")
    picker.table.choose("llama-3.1-8b")
    picker.show_catalogue(CatalogueListed(0, ENTRIES[::-1]))
    assert picker.table.current_row is not None
    assert picker.table.current_row.model == "llama-3.1-8b"
    assert "demo" in names(picker), "a Llama as well"
    assert "google-t5/t5-small" not in names(picker)


def test_columns_are_wide_enough_for_rows_that_the_search_hides(
    picker: ModelPicker, qapp: QApplication
) -> None:
    picker.resize(SIZE)
    qapp.processEvents()
    widths = [picker.table.columnWidth(column) for column in range(len(COLUMNS) - 1)]
    picker.search.setText("demo")
    picker.set_theme(themes.LIGHT)
    assert [picker.table.columnWidth(column) for column in range(len(COLUMNS) - 1)] == widths
    picker.search.setText("an-organization/with-a-long-name")
    assert picker.table.columnWidth(0) > widths[0]
    picker.resize(700, 600)
    qapp.processEvents()
    assert picker.table.columnWidth(0) == LEAST_NAME, "names are cut before the verdict is"


def test_themes_change_under_it(picker: ModelPicker, qapp: QApplication) -> None:
    dark = picker.table.grab().toImage()
    picker.table.choose("demo")
    themes.apply(qapp, themes.LIGHT)
    picker.set_theme(themes.LIGHT)
    light = picker.table.grab().toImage()
    assert (
        light.pixelColor(5, light.height() - 5).lightness()
        > dark.pixelColor(5, dark.height() - 5).lightness()
    )
    assert picker.choice == "demo", "what was chosen stays chosen"
    themes.apply(qapp, themes.DARK)


def test_who_cannot_see_the_table_hears_the_row(picker: ModelPicker) -> None:
    picker.table.choose("llama-3.1-8b")
    assert "llama-3.1-8b" in picker.search.accessibleDescription()
    assert TOO_BIG in picker.search.accessibleDescription()
