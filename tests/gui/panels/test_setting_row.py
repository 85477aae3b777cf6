"""A setting's row: what was typed is wished for once it is finished, and what is shown is what is in force."""

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from engine.protocol import Choice, SettingChange, SettingFacts, SettingsChanged
from engine.trace.effects import MeasuredEffect
from engine.trace.statistics import Effect, Verdict
from engine.trace.store import Mark
from gui.panels.setting_row import SettingRow, effect_tip
from tests.gui.conftest import settle

FACTS = SettingFacts(
    "draft_model", "speculation", "Draft model", "text", "demo-draft", (Choice("demo-draft", "demo-draft"),)
)


@pytest.fixture
def row(qapp: QApplication) -> Iterator[SettingRow]:
    made = SettingRow(FACTS)
    yield made
    made.deleteLater()
    settle(qapp)


def test_a_text_is_wished_for_when_it_is_finished(row: SettingRow) -> None:
    wishes: list[tuple[str, object]] = []
    row.wished.connect(lambda key, value: wishes.append((key, value)))
    row.show_value("demo-draft")
    edit = row.control
    assert isinstance(edit, QLineEdit)
    assert edit.text() == "demo-draft"
    edit.setText(" tiny ")
    assert wishes == []
    QTest.keyClick(edit, Qt.Key.Key_Return)
    assert wishes == [("draft_model", "tiny")]
    row.show_value("demo-draft")  # it was refused
    assert edit.text() == "demo-draft"
    QTest.keyClick(edit, Qt.Key.Key_Return)
    assert len(wishes) == 1


@pytest.mark.parametrize(("low", "high", "says"), [(0.85, 0.95, True), (0.95, 1.1, False)])
def test_an_effect_that_steps_themselves_deny_says_so(low: float, high: float, says: bool) -> None:
    change = SettingChange("compile", "on", "on")
    event = SettingsChanged(0, 8, (change,), 0, 1, (("compile", "on"),))
    effect = Effect(0.9, low, high, Verdict.UNCLEAR, 32)
    measured = MeasuredEffect(Mark(8, 0, "settings", "", event), change, "off", (), effect)
    assert ("moved the other way" in effect_tip(measured, str)) is says
