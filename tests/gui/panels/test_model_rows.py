"""What the picker lists, in words."""

from pathlib import Path

import pytest

from engine.protocol import CatalogueEntry, Family
from gui.panels.model_rows import (
    RECENT_SHOWN,
    Group,
    ago,
    as_remembered,
    row_of,
    rows_of,
    short_architecture,
    typed_row,
)

NOW_S = 1_800_000_000.0
DEMO = CatalogueEntry("demo", "demo", "LlamaForCausalLM", 5_000_000, 20_000_000, 1024)
PRESET = CatalogueEntry("gpt2-124m", "preset", "GPT2LMHeadModel", 124_439_808, 497_759_232, 1024)
CACHED = CatalogueEntry(
    "google-t5/t5-small",
    "cached",
    "T5ForConditionalGeneration",
    60_506_624,
    242_043_056,
    512,
    disk_bytes=2**28,
    used_s=NOW_S - 3 * 86_400 - 5,
    family=Family.ENCODER_DECODER,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (3 * 3600 + 1, "3 hours ago"),
        (86_400, "1 day ago"),
        (13 * 86_400, "1 week ago"),
        (45 * 86_400, "1 month ago"),
        (800 * 86_400, "2 years ago"),
    ],
)
def test_ages_are_words(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_a_model_says_everything_that_is_known_of_it() -> None:
    row = row_of(CACHED, NOW_S)
    assert row.cells == (
        "google-t5/t5-small",
        "T5 · encoder–decoder",
        "60.5 M",
        "231 MiB",
        "512",
        "256 MiB",
        "3 days ago",
        "✓ fits",
    )


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    row = row_of(CatalogueEntry("a/b", "cached", "", 0, 0, 0), NOW_S)
    assert row.cells == ("a/b", *["–"] * 6, "✓ can be loaded")


def test_a_refusal_is_short_in_the_table_and_whole_beside_it() -> None:
    reason = "It needs 17.7 GiB, and cpu has 13.1 GiB free: choose a smaller model."
    row = row_of(CatalogueEntry("big", "preset", "LlamaForCausalLM", 1, 1, 1, reason=reason), NOW_S)
    assert row.cells[-1] == "✗ It needs 17.7 GiB, and cpu has 13.1 GiB free"
    assert row.reason == reason


def test_rows_are_grouped_and_recent_ones_lead() -> None:
    rows = rows_of((PRESET, DEMO, CACHED), ["gpt2-124m", "org/gone"], NOW_S)
    assert [(row.group, row.model) for row in rows] == [
        (Group.RECENT, "gpt2-124m"),
        (Group.RECENT, "org/gone"),
        (Group.DEMO, "demo"),
        (Group.CACHED, "google-t5/t5-small"),
        (Group.PRESET, "gpt2-124m"),
    ]
    assert [row.again for row in rows] == [True, False, False, False, False]
    assert rows[0].parameters == "124 M", "a recent one that is listed says all that is known"


def test_few_recent_models_are_shown() -> None:
    assert len(rows_of((), [f"org/m{n}" for n in range(9)], NOW_S)) == RECENT_SHOWN


def test_a_recent_directory_that_is_gone_says_so(tmp_path: Path) -> None:
    (row,) = rows_of((), [str(tmp_path / "models" / "mine")], NOW_S)
    assert row.name == "mine"
    assert "no directory" in row.reason


@pytest.mark.parametrize("kind", ["demo", "preset", "cached", "something new"])
def test_every_kind_has_a_group(kind: str) -> None:
    assert row_of(CatalogueEntry("a", kind, "", 0, 0, 0), NOW_S).group in Group


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("Qwen/Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B"),
        (" gpt2 ", "gpt2"),
        ("https://huggingface.co/Qwen/Qwen2.5-0.5B/tree/main", "Qwen/Qwen2.5-0.5B"),
        ("hf.co/openai-community/gpt2", "openai-community/gpt2"),
    ],
)
def test_hub_ids_and_addresses(text: str, model: str) -> None:
    row = typed_row(text)
    assert row is not None
    assert (row.model, row.what, row.reason) == (model, "hub id", "")


@pytest.mark.parametrize("text", ["two words", "模型", "a?b", "-dash", "x" * 300, "\0"])
def test_what_is_neither_a_directory_nor_an_id_is_refused(text: str) -> None:
    row = typed_row(text)
    assert row is not None
    assert row.model == ""
    assert "neither a directory nor a hub id" in row.reason
    assert len(row.name) <= 60


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_nothing_typed_is_no_row(text: str) -> None:
    assert typed_row(text) is None


def test_a_directory_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing, bare, good = (tmp_path / name for name in ("missing", "bare", "good"))
    bare.mkdir()
    good.mkdir()
    (good / "config.json").write_text("{}")
    reasons = [row.reason for row in map(typed_row, map(str, (missing, bare, good))) if row is not None]
    assert "There is no directory" in reasons[0]
    assert "no config.json" in reasons[1]
    assert reasons[2] == ""
    monkeypatch.chdir(tmp_path)
    row = typed_row("./good")
    assert row is not None
    assert row.model == str(good)
    dropped = typed_row(good.as_uri())
    assert dropped is not None
    assert dropped.model == str(good)


@pytest.mark.parametrize(
    "text", ["~nobody-here/x", "/\0", "/" + "x" * 5000, "C:\\models\\x", "a/b/c", "./", ".."]
)
def test_odd_paths_are_directories_and_break_nothing(text: str) -> None:
    row = typed_row(text)
    assert row is not None
    assert row.what == "directory"
    assert row.reason


def test_a_directory_is_remembered_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert as_remembered("./mine") == str(tmp_path / "mine")
    assert as_remembered("org/model") == str(tmp_path / "org" / "model")
    assert as_remembered("Qwen/Qwen2.5-0.5B") == "Qwen/Qwen2.5-0.5B"
    assert as_remembered("llama-30m") == "llama-30m"


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("LlamaForCausalLM", "Llama"),
        ("GPT2LMHeadModel", "GPT2"),
        ("T5ForConditionalGeneration", "T5"),
        ("BertForMaskedLM", "Bert"),
        ("BertModel", "Bert"),
        ("MarianMTModel", "Marian"),
        ("Model", "Model"),
        ("", ""),
    ],
)
def test_architectures_lose_what_their_head_adds(name: str, short: str) -> None:
    assert short_architecture(name) == short
