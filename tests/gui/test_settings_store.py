"""What is remembered comes back; garbage does not."""

from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray

from gui.settings_store import LONGEST_PROMPT, RECENT, SettingsStore


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    store.theme = "light"
    store.prompt = '第一行\nsecond, with = and ; and "quotes"'
    store.remember_model("one")
    store.remember_model("two")
    store.remember_model("one")
    store.keep_layout(QByteArray(b"g"), QByteArray(b"l"), QByteArray(b"s"))
    store.sync()
    again = SettingsStore.of_file(tmp_path / "a.ini")
    assert again.theme == "light"
    assert again.prompt == store.prompt
    assert again.recent_models == ["one", "two"]
    assert (again.geometry, again.layout, again.splitter) == (
        QByteArray(b"g"),
        QByteArray(b"l"),
        QByteArray(b"s"),
    )
    again.forget_layout()
    assert again.layout is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x01",
        b"[General]\ntheme=pink\nrecent_models=@Invalid()\ngeometry=text\nlayout=7\nlayout_version=99\n",
        b"theme=@ByteArray(abc)\nprompt=@ByteArray(abc)\nlayout=@ByteArray()\nlayout_version=1\n",
    ],
)
def test_garbage_is_ignored(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "a.ini").write_bytes(garbage)
    store = SettingsStore.of_file(tmp_path / "a.ini")
    assert store.theme == "system"
    assert store.recent_models == []
    assert store.geometry is None
    assert store.layout is None
    assert store.prompt == ""


def test_little_is_kept(tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    for number in range(20):
        store.remember_model(f"m{number}")
    store.prompt = "x" * (LONGEST_PROMPT + 1)
    assert len(store.recent_models) == RECENT
    assert store.prompt == ""


def test_a_forgetful_store_forgets() -> None:
    store = SettingsStore.forgetful()
    store.theme = "light"
    store.remember_model("one")
    assert store.theme == "system"
    assert store.recent_models == []
