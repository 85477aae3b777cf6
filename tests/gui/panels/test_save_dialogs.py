"""Dialogs that ask where to write: they write nothing themselves, and replace nothing unasked."""

from pathlib import Path

import pytest
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QDialog

from engine.trace.export import FORMATS, TABLES
from engine.trace.export import formats as format_module
from gui import theme as themes
from gui.panels.export_dialog import SOME, WHOLE, ExportDialog
from gui.panels.picture_dialog import PictureDialog

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support", extend=True)


@pytest.fixture
def export(qtbot, tmp_path: Path) -> ExportDialog:
    dialog = ExportDialog(300, tmp_path / "cyclograph-demo.html", (100, 199))
    qtbot.addWidget(dialog)
    dialog.show()
    return dialog


def test_the_ending_follows_the_format(export: ExportDialog, tmp_path: Path) -> None:
    for suffix in FORMATS:
        export.choose_format(suffix)
        assert export.path == tmp_path / f"cyclograph-demo{suffix}"
        assert export.table.isVisible() == (suffix in (".csv", ".parquet"))
    export.choose_format(".csv")
    export.place.setText(str(tmp_path / "v1.2"))
    export.choose_format(".txt")
    assert export.path.name == "v1.2.txt"
    export.place.setText(str(tmp_path / "other.csv"))
    export.accept()
    assert "ends in .txt" in export.note.text()
    assert export.result() == QDialog.DialogCode.Rejected


def test_whole_or_some(export: ExportDialog) -> None:
    assert export.steps == (0, None)
    export.choose_scope(SOME)
    assert export.steps == (100, 199)
    export._first.setValue(250)
    export.accept()
    assert "before the first" in export.note.text()
    export._first.setValue(9_999)
    assert export.steps == (299, 199)
    export.choose_scope(WHOLE)
    assert export.steps == (0, None)
    assert export.note.text() == ""


def test_tables_one_or_all(export: ExportDialog, tmp_path: Path) -> None:
    export.choose_format(".csv")
    assert [path.name for path in export.files()] == [f"cyclograph-demo-{name}.csv" for name in TABLES]
    export.table.setCurrentIndex(export.table.findData("layers"))
    assert (export.what, export.files()) == ("layers", [tmp_path / "cyclograph-demo.csv"])
    export.choose_format(".json")
    assert export.what is None


def test_nothing_is_replaced_by_one_press(export: ExportDialog, tmp_path: Path) -> None:
    there = tmp_path / "cyclograph-demo.html"
    there.write_text("precious")
    export.accept()
    assert export.isVisible()
    assert (export.save.text(), export.may_replace) == ("Replace", True)
    assert "“cyclograph-demo.html” is there already" in export.note.text()
    export.place.setText(str(tmp_path / "other.html"))
    assert (export.save.text(), export.may_replace, export.note.text()) == ("Save", False, "")
    export.place.setText(str(there))
    export.accept()
    export.accept()
    assert export.result() == QDialog.DialogCode.Accepted
    assert there.read_text() == "precious"  # the dialog only asks


@pytest.mark.parametrize(
    ("text", "words"), [("", "a name"), ("/no/such/place/a.html", "no directory"), ("  ", "a name")]
)
def test_places_that_are_none(export: ExportDialog, text: str, words: str) -> None:
    export.place.setText(text)
    export.accept()
    assert words in export.note.text()
    assert export.isVisible()


def test_a_format_that_is_impossible_here_says_why(
    qtbot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = FORMATS[".parquet"]
    lacking = format_module.Format(
        parquet.suffix, parquet.label, parquet.about, None, parquet.write_table, lambda: "Install pyarrow."
    )
    monkeypatch.setitem(FORMATS, ".parquet", lacking)
    dialog = ExportDialog(10, tmp_path / "a.html")
    qtbot.addWidget(dialog)
    place = dialog.format.findData(".parquet")
    assert not dialog.format.model().item(place).isEnabled()
    assert dialog.format.model().item(place).toolTip() == "Install pyarrow."


def test_a_picture_has_a_size_a_scale_and_a_theme(qtbot, tmp_path: Path) -> None:
    dialog = PictureDialog(QSize(735, 253), themes.LIGHT, tmp_path / "a.png")
    qtbot.addWidget(dialog)
    dialog.show()
    assert (dialog.picture_size, dialog.scale, dialog.theme) == (QSize(735, 253), 2.0, themes.LIGHT)
    dialog.theme_box.setCurrentIndex(dialog.theme_box.findData("dark"))
    dialog.width_box.setValue(99_999)
    assert (dialog.picture_size.width(), dialog.theme) == (8000, themes.DARK)
    dialog.kind.setCurrentIndex(dialog.kind.findData(".svg"))
    assert dialog.path == tmp_path / "a.svg"
    assert not dialog.scale_box.isVisible()
    dialog.place.setText(str(tmp_path / "a.png"))
    dialog.accept()
    assert "ends in .svg" in dialog.note.text()
