"""The arrangement of docks, as it is remembered."""

from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from gui.settings_store import SettingsStore
from gui.visibility import is_seen
from tests.gui.building import Hosts, build
from tests.gui.conducting import conductor as conductor
from tests.gui.conducting import host as host
from tests.gui.conducting import hosts as hosts
from tests.gui.conftest import settle

pytestmark = pytest.mark.qt_log_ignore("This plugin does not support propagateSizeHints", extend=True)


def test_a_garbled_layout_is_no_obstacle(qapp: QApplication, hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "a.ini").write_text(
        "[General]\nlayout_version=1\nlayout=@ByteArray(garbage)\ngeometry=@ByteArray(garbage)\nsplitter=@ByteArray(x)\n"
    )
    window = build(hosts("process"), hosts, SettingsStore.of_file(tmp_path / "a.ini")).window
    assert window.width() > 600
    window.deleteLater()
    settle(qapp)


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
