"""The switchboard: families that fold, what their headers say, and finding a setting."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QComboBox

from engine.protocol import (
    Choice,
    Configuration,
    Family,
    ModelLoaded,
    SettingChange,
    SettingFacts,
    SettingsChanged,
)
from engine.trace.store import Trace
from gui.main_window import MainWindow
from gui.panels.experiment import Findings
from gui.panels.setting_row import SettingRow
from gui.panels.switchboard import TRAINING, Switchboard
from gui.panels.widgets import Segments, label, shortened
from gui.settings_store import SettingsStore
from tests.gui import synthetic
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def choices(*labels: str, impossible: str = "") -> tuple[Choice, ...]:
    """Values named like their labels; one may be impossible."""
    return tuple(Choice(text, text, "not here" if text == impossible else "") for text in labels)


QUANTIZATION = SettingFacts(
    "quantization", "quantization", "Quantization", "choice", "None",
    choices("None", "int8", "float8", impossible="float8"), expected="Narrower weights.",
)  # fmt: skip
STRATEGY = SettingFacts(
    "decoding", "decoding", "Choice of token", "choice", "Greedy", choices("Greedy", "Sampling")
)
TEMPERATURE = SettingFacts("temperature", "decoding", "Temperature", "number", 1.0, maximum=2.0)
GRAPHS = SettingFacts("cuda_graphs", "execution", "CUDA graphs", "choice", "Off", choices("Off", "On"))
THREADS = SettingFacts("threads", "execution", "CPU threads", "integer", 1, minimum=1, maximum=64)
NOWHERE = SettingFacts(
    "batch", "batch", "Sequences together", "integer", 1, maximum=4, reason="it mixes rows up"
)
ONE_WAY = SettingFacts(
    "place", "placement", "Placement", "choice", "here", choices("here", "there", impossible="there")
)
SETTINGS = (QUANTIZATION, STRATEGY, GRAPHS, TEMPERATURE, THREADS, NOWHERE, ONE_WAY)


def loaded(**changed: object) -> ModelLoaded:
    """A model with these settings, of which some are not as at first."""
    values = {facts.key: facts.default for facts in SETTINGS} | changed
    effective: Configuration = tuple(sorted(values.items()))  # type: ignore[arg-type]
    return replace(synthetic.loaded(2), settings=SETTINGS, effective=effective)


def refused(key: str, requested: str, effective: str, whole: Configuration) -> SettingsChanged:
    return SettingsChanged(0, 0, (SettingChange(key, requested, effective, "not here"),), 1, 0, whole)


@pytest.fixture
def store(tmp_path: Path) -> SettingsStore:
    return SettingsStore.of_file(tmp_path / "a.ini")


@pytest.fixture
def made(qapp: QApplication, store: SettingsStore) -> Iterator[Callable[[], Switchboard]]:
    boards: list[Switchboard] = []

    def make() -> Switchboard:
        boards.append(Switchboard(store))
        boards[-1].resize(328, 400)
        boards[-1].show()
        return boards[-1]

    yield make
    for board in boards:
        board.close()
        board.deleteLater()
    settle(qapp)


@pytest.fixture
def board(made: Callable[[], Switchboard]) -> Switchboard:
    return made()


def said(board: Switchboard) -> dict[str, str]:
    """What the headers say beside the names."""
    return {name: family.header.summary.text().removeprefix("· ") for name, family in board.families.items()}


def opened(board: Switchboard) -> list[str]:
    return [name for name, family in board.families.items() if family.is_open]


def visible(board: Switchboard) -> list[str]:
    return [key for key, row in board.rows.items() if row.isVisible()]


def test_families_come_in_order_and_headers_say_what_is_not_as_at_first(board: Switchboard) -> None:
    board.show_settings(loaded(quantization="int8", decoding="Sampling", temperature=0.7, cuda_graphs="On"))
    assert list(board.families) == ["quantization", "decoding", "execution", "batch", "placement", TRAINING]
    assert said(board) == {
        "quantization": "int8",
        "decoding": "2: Sampling, Temperature 0.7",
        "execution": "CUDA graphs On",
        "batch": "unavailable",
        "placement": "unavailable",
        TRAINING: "",
    }
    assert board.families["decoding"].header.summary.property("role") == "changed"
    assert board.families["decoding"].header.toolTip() == "Sampling\nTemperature 0.7"


def test_nothing_is_a_window_of_its_own_meanwhile(qapp: QApplication, board: Switchboard) -> None:
    board.activateWindow()
    qapp.processEvents()
    shown: list[object] = []
    qapp.focusWindowChanged.connect(shown.append)
    board.show_settings(loaded(decoding="Sampling"))
    board.search.field.setText("graphs")
    qapp.processEvents()
    qapp.focusWindowChanged.disconnect(shown.append)
    assert shown == []


def test_headers_follow_what_is_in_force(board: Switchboard) -> None:
    board.show_settings(loaded())
    assert said(board) | {"batch": "", "placement": ""} == {
        "quantization": "None", "decoding": "", "execution": "", "batch": "", "placement": "", TRAINING: "",
    }  # fmt: skip
    change = SettingChange("threads", 8, 8)
    board.show_change(SettingsChanged(0, 0, (change,), 1, 0, loaded(threads=8).effective))
    assert said(board)["execution"] == "CPU threads 8"
    assert opened(board) == []


def test_what_is_changed_starts_open_and_what_is_impossible_folded(
    board: Switchboard, store: SettingsStore
) -> None:
    store.remember_fold("batch", True)
    board.show_settings(loaded(decoding="Sampling"))
    assert opened(board) == ["decoding"]
    assert visible(board) == ["decoding", "temperature"]


def test_clicks_fold_and_are_remembered(board: Switchboard, made: Callable[[], Switchboard]) -> None:
    board.show_settings(loaded(decoding="Sampling"))
    for name in ("execution", "decoding"):
        QTest.mouseClick(board.families[name].header, Qt.MouseButton.LeftButton)
    assert opened(board) == ["execution"]
    assert visible(board) == ["cuda_graphs", "threads"]
    again = made()
    again.show_settings(loaded(decoding="Sampling"))
    assert opened(again) == ["execution"]


def test_what_is_open_stays_open_when_it_is_known_better(board: Switchboard) -> None:
    first = loaded()
    board.show_settings(first)
    board.families["batch"].header.click()
    board.show_settings(replace(first, settings=(replace(QUANTIZATION, reason="no"), *SETTINGS[1:])))
    assert opened(board) == ["batch"]
    assert said(board)["quantization"] == "unavailable"


@pytest.mark.parametrize("key", [Qt.Key.Key_Space, Qt.Key.Key_Return, Qt.Key.Key_Enter])
def test_keys_fold_and_space_then_does_not_run(qapp: QApplication, key: Qt.Key, store: SettingsStore) -> None:
    window = MainWindow(store, "dark")
    window.show()
    window.activateWindow()
    qapp.processEvents()
    ran: list[bool] = []
    window.actions_["run"].triggered.connect(lambda: ran.append(True))
    window.switchboard.show_settings(loaded())
    header = window.switchboard.families["execution"].header
    header.setFocus()
    QTest.keyClick(header, key)
    assert opened(window.switchboard) == ["execution"]
    assert header.accessibleName() == "Execution, unfolded"
    QTest.keyClick(header, key)
    assert opened(window.switchboard) == []
    assert ran == []
    QTest.keyClick(window.strip, Qt.Key.Key_Space)
    assert len(ran) == 1, "elsewhere it does"
    window.close()
    window.deleteLater()
    settle(qapp)


def test_the_tab_key_goes_from_a_header_to_what_is_unfolded_below_it(board: Switchboard) -> None:
    board.show_settings(loaded())
    board.activateWindow()
    headers = {name: family.header for name, family in board.families.items()}
    headers["quantization"].setFocus()
    QTest.keyClick(headers["quantization"], Qt.Key.Key_Tab)
    assert headers["decoding"].hasFocus()
    headers["quantization"].click()
    headers["quantization"].setFocus()
    QTest.keyClick(headers["quantization"], Qt.Key.Key_Tab)
    control = board.rows["quantization"].control
    assert control.isAncestorOf(QApplication.focusWidget()) or control.hasFocus()


def test_a_refusal_is_seen_while_its_family_is_folded(board: Switchboard) -> None:
    model = loaded()
    trace = Trace(model)
    board.set_trace(trace)
    board.show_settings(model)
    event = refused("quantization", "float8", "None", model.effective)
    trace.append(event)
    board.show_change(event)
    header = board.families["quantization"].header
    assert not board.families["quantization"].is_open
    assert header.refused.isVisible()
    assert header.refused.text() == "⚠ 1"
    assert header.toolTip() == "Quantization: asked for float8: not here"
    assert header.accessibleName() == "Quantization, None, 1 refused, folded"
    board.show_settings(replace(model, settings=(replace(QUANTIZATION, expected="other"), *SETTINGS[1:])))
    assert board.families["quantization"].header.refused.text() == "⚠ 1", "known better, still refused"
    change = SettingChange("quantization", "int8", "int8")
    board.show_change(SettingsChanged(0, 0, (change,), 1, 0, loaded(quantization="int8").effective))
    assert not board.families["quantization"].header.refused.isVisible()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("TEMP", ["temperature"]),
        ("cuda_gr", ["cuda_graphs"]),
        ("execution", ["cuda_graphs", "threads"]),
        ("int8", ["quantization"]),
        ("graphs on", ["cuda_graphs"]),
        ("sequences", ["batch"]),
    ],
)
def test_what_is_typed_is_found_whatever_is_folded(board: Switchboard, text: str, found: list[str]) -> None:
    board.show_settings(loaded(decoding="Sampling"))
    QTest.keyClicks(board.search.field, text)
    assert visible(board) == found
    families = [name for name, family in board.families.items() if family.isVisible()]
    assert families == list(dict.fromkeys(board.rows[key].facts.family for key in found))
    QTest.keyClick(board.search.field, Qt.Key.Key_Escape)
    assert board.search.field.text() == ""
    assert visible(board) == ["decoding", "temperature"], "folded as before"


def test_what_is_not_found_is_said(board: Switchboard) -> None:
    board.show_settings(loaded())
    board.search.field.setText("warp drive")
    assert board._nothing.isVisible()
    assert board._nothing.text() == "No setting has “warp drive” in its name."
    board.search.field.setText("training")
    assert board.families[TRAINING].isVisible()
    assert not board._nothing.isVisible()


def test_only_what_is_changed_or_refused_is_shown(board: Switchboard) -> None:
    model = loaded(temperature=0.5)
    board.show_settings(model)
    board.show_change(refused("threads", "99", "1", model.effective))
    board.search.changed.click()
    assert visible(board) == ["temperature", "threads"]
    board.show_change(
        SettingsChanged(0, 0, (SettingChange("temperature", 1.0, 1.0),), 1, 0, loaded(threads=1).effective)
    )
    assert visible(board) == ["threads"]
    board.show_change(SettingsChanged(0, 0, (SettingChange("threads", 1, 1),), 1, 0, loaded().effective))
    assert board._nothing.isVisible()
    assert board._nothing.text() == "Everything is as at first."
    board.families["execution"].header.click()
    board.search.changed.click()
    assert opened(board) == ["decoding"], "a click on a header does nothing while something is looked for"


def test_enter_goes_to_the_first_that_was_found(board: Switchboard) -> None:
    board.show_settings(loaded())
    board.activateWindow()
    board.focus_search()
    assert board.search.field.hasFocus()
    board.search.field.setText("graphs")
    QTest.keyClick(board.search.field, Qt.Key.Key_Return)
    segments = board.rows["cuda_graphs"].control
    assert isinstance(segments, Segments)
    assert segments.buttons[0].hasFocus()


def test_a_key_finds_the_switchboard(qapp: QApplication, store: SettingsStore) -> None:
    window = MainWindow(store, "dark")
    window.show()
    window.docks["switchboard"].hide()
    window.switchboard.show_settings(loaded())
    window.activateWindow()
    qapp.processEvents()
    window.find_setting()
    assert window.docks["switchboard"].isVisible()
    assert window.focusWidget() is window.switchboard.search.field
    window.close()
    window.deleteLater()
    settle(qapp)


def test_all_families_are_seen_at_once_in_a_window_of_a_laptop(qapp: QApplication) -> None:
    window = MainWindow(SettingsStore.forgetful(), "dark")
    window.resize(1440, 900)
    window.show()
    window.arrangement.arrange()
    families = [
        replace(THREADS, key=f"k{place}{n}", family=f"family {place}")
        for place in range(11)
        for n in range(5)
    ]
    window.switchboard.show_settings(replace(synthetic.loaded(2), settings=tuple(families)))
    settle(qapp)
    assert len(window.switchboard.families) == 12
    assert window.switchboard._scroll.verticalScrollBar().maximum() == 0
    header = window.switchboard.families["family 0"].header
    header.click()
    settle(qapp)
    assert header.height() >= header.minimumSizeHint().height(), (
        "headers are not squeezed by what is unfolded"
    )
    window.close()
    window.deleteLater()
    settle(qapp)


def test_a_model_that_only_reads_has_no_training_step(board: Switchboard) -> None:
    model = loaded()
    board.show_settings(replace(model, model=replace(model.model, family=Family.ENCODER)))
    assert TRAINING not in board.families


def test_a_long_explanation_is_shortened_and_whole_on_hover(board: Switchboard) -> None:
    board.show_settings(loaded())
    text = "A sentence that is long. " * 40
    board._explain(text)
    shown = board._explanation.text()
    assert shown.endswith("…")
    assert text.startswith(shown[:-1])
    assert board.explanation == text
    assert shortened("short", label("short"), 300, 40) == "short"


@pytest.fixture
def rows(qapp: QApplication) -> Iterator[Callable[[SettingFacts], SettingRow]]:
    made: list[SettingRow] = []

    def make(facts: SettingFacts) -> SettingRow:
        made.append(SettingRow(facts))
        return made[-1]

    yield make
    for row in made:
        row.deleteLater()
    settle(qapp)


def test_few_short_choices_are_buttons_and_the_rest_is_a_menu(
    rows: Callable[[SettingFacts], SettingRow],
) -> None:
    assert isinstance(rows(STRATEGY).control, Segments)
    wide = choices("float32 throughout", "bfloat16 inside", "TF32 inside, rounded once")
    assert isinstance(rows(replace(STRATEGY, choices=wide)).control, QComboBox)
    many = choices(*"abcde")
    assert isinstance(rows(replace(STRATEGY, choices=many)).control, QComboBox)


def test_a_row_shows_its_effect_beside_what_can_be_tried(rows: Callable[[SettingFacts], SettingRow]) -> None:
    row = rows(STRATEGY)
    experiment = row.experiment
    assert experiment.isHidden()
    experiment.show_effect("0.72× faster", "good", "how")
    assert not experiment.isHidden()
    assert experiment.compare.isHidden()
    experiment.show_effect("", "muted", "")
    assert experiment.isHidden()
    experiment.show_findings(Findings(other="Greedy"))
    assert not experiment.isHidden()
    assert not experiment.compare.isHidden()
    assert experiment.alternate.isHidden(), "its values cannot take turns"
