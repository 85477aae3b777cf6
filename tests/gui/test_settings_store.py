"""What is remembered comes back; garbage does not."""

from pathlib import Path

import pytest
from PySide6.QtCore import QByteArray

from engine.protocol import Prompt, Turn
from gui.settings_store import LONGEST_PROMPT, OWN, RECENT, OwnPrompt, SettingsStore


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    store.theme = "light"
    store.prompt = Prompt('第一行\nsecond, with = and ; and "quotes"')
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
    store.remember_fold("execution", True)
    store.remember_fold("KV cache", False)
    store.sync()
    assert SettingsStore.of_file(tmp_path / "a.ini").folds == {"execution": True, "KV cache": False}
    again.forget_layout()
    assert again.layout is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\xff\x01",
        b"[General]\ntheme=pink\nrecent_models=@Invalid()\ngeometry=text\nlayout=7\nlayout_version=99\n",
        b"folds=[1]\n",
        b'folds={"a": 1, "b": "yes"}\n',
        b"theme=@ByteArray(abc)\nfolds=@ByteArray(abc)\nprompt=@ByteArray(abc)\nlayout=@ByteArray()\nlayout_version=1\n",
    ],
)
def test_garbage_is_ignored(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "a.ini").write_bytes(garbage)
    store = SettingsStore.of_file(tmp_path / "a.ini")
    assert store.theme == "system"
    assert store.recent_models == []
    assert store.geometry is None
    assert store.layout is None
    assert store.prompt == Prompt()
    assert store.folds == {}


def test_little_is_kept(tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    for number in range(20):
        store.remember_model(f"m{number}")
    store.prompt = Prompt("x" * (LONGEST_PROMPT + 1))
    assert len(store.recent_models) == RECENT
    assert store.prompt == Prompt()


def test_the_last_prompt_may_be_a_chat(tmp_path: Path) -> None:
    chat = Prompt(turns=(Turn("system", "s"), Turn("user", "a\nb")), thinking=False)
    store = SettingsStore.of_file(tmp_path / "a.ini")
    store.prompt = chat
    store.sync()
    assert SettingsStore.of_file(tmp_path / "a.ini").prompt == chat


def test_a_forgetful_store_forgets() -> None:
    store = SettingsStore.forgetful()
    store.theme = "light"
    store.remember_model("one")
    assert store.theme == "system"
    assert store.recent_models == []


@pytest.mark.parametrize(
    "garbage",
    [
        "[",
        "7",
        '[{"name": 1}]',
        '[{"name": "a", "text": "", "turns": [["evil", "x"]], "thinking": null}]',
        "[" * 99_999,
    ],
)
def test_own_prompts_that_are_garbage_are_ignored(tmp_path: Path, garbage: str) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    store._keep("own_prompts", garbage)
    assert store.own_prompts == []


def test_own_prompts_are_bounded_and_an_old_one_can_be_replaced(tmp_path: Path) -> None:
    store = SettingsStore.of_file(tmp_path / "a.ini")
    for number in range(OWN):
        store.keep_own_prompt(OwnPrompt(f"{number:02}", Prompt("text")))
    with pytest.raises(ValueError, match="delete one"):
        store.keep_own_prompt(OwnPrompt("one more", Prompt("text")))
    chat = Prompt(turns=(Turn("user", "@hi, \n;"),), thinking=False)
    store.keep_own_prompt(OwnPrompt("07", chat))
    assert len(store.own_prompts) == OWN
    assert store.own_prompts[7] == OwnPrompt("07", chat)
