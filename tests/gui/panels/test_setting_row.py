"""A setting's row: what was typed is wished for once it is finished, and what is shown is what is in force."""

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit

from engine.protocol import Choice, SettingFacts
from gui.panels.setting_row import SettingRow
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
