import io
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.trace.export import FORMATS, TABLES, ExportCancelled, ExportRefused, excerpt_of, export, files_of
from engine.trace.export.plain_text import write_text
from tests.engine.trace.export import machine, sessions
from tests.gui import readers


@pytest.mark.parametrize("suffix", FORMATS)
def test_each_format_writes_its_files_and_tells_how_far_it_is(suffix: str, tmp_path: Path) -> None:
    if FORMATS[suffix].why_not():
        pytest.skip(FORMATS[suffix].why_not())
    told: list[float] = []
    files = export(excerpt_of(sessions.trace()), tmp_path / f"out{suffix}", tick=told.append)
    assert sorted(tmp_path.iterdir()) == sorted(files) == sorted(files_of(tmp_path / f"out{suffix}"))
    assert all(path.stat().st_size for path in files)
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_giving_up_leaves_nothing(suffix: str, tmp_path: Path) -> None:
    if FORMATS[suffix].why_not():
        pytest.skip(FORMATS[suffix].why_not())

    def give_up(_: float) -> None:
        raise ExportCancelled

    with pytest.raises(ExportCancelled):
        export(excerpt_of(sessions.trace()), tmp_path / f"out{suffix}", tick=give_up)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def tiny_files() -> Iterator[None]:
    """No file of this process may be larger than a few bytes: writing really fails."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_disk_that_fails_leaves_everything_as_it_was(suffix: str, tmp_path: Path, tiny_files: None) -> None:
    if FORMATS[suffix].why_not():
        pytest.skip(FORMATS[suffix].why_not())
    target = tmp_path / f"out{suffix}"
    before = {path.name: b"precious" for path in list(files_of(target))[:2]}
    for name, content in before.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportRefused, match="larger than a file may be"):
        export(excerpt_of(machine.trace()), target, replace=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_overwritten_unasked(suffix: str, tmp_path: Path) -> None:
    if FORMATS[suffix].why_not():
        pytest.skip(FORMATS[suffix].why_not())
    target = tmp_path / f"out{suffix}"
    last = list(files_of(target))[-1]
    last.write_bytes(b"precious")
    with pytest.raises(ExportRefused, match="is there already"):
        export(excerpt_of(machine.trace()), target)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {last.name: b"precious"}
    assert last in export(excerpt_of(machine.trace()), target, replace=True)
    assert last.read_bytes() != b"precious"


def test_one_table_has_just_the_name_that_was_given() -> None:
    assert list(files_of(Path("a.csv"), "layers")) == [Path("a.csv")]
    assert [path.name for path in files_of(Path("a.CSV"))] == [f"a-{name}.CSV" for name in TABLES]


@pytest.mark.parametrize(
    ("path", "what", "words"),
    [
        ("a.xlsx", None, "let the name end in .html"),
        ("a", None, "in which format"),
        ("a.json", "steps", "no tables"),
        ("a.csv", "pictures", "there are steps, tokens"),
    ],
)
def test_what_makes_no_sense_is_refused(path: str, what: str | None, words: str) -> None:
    with pytest.raises(ExportRefused, match=words):
        files_of(Path(path), what)


def text_of(trace, first: int = 0, last: int | None = None) -> str:
    file = io.BytesIO()
    write_text(excerpt_of(trace, first, last), file, lambda _: None)
    return file.getvalue().decode("utf-8")


def test_texts_stand_with_their_prompts() -> None:
    assert text_of(sessions.trace()) == (
        "=== generation 0 · 3 tokens of prompt · length\n--- prompt\nhello\n"
        "--- text of sequence 0 · 4 tokens\nHeabc\ufffd\n"
        "--- prompt of sequence 1, which joined\nother\n--- text of sequence 1 · 2 tokens\nxy\n\n"
        "=== generation 1 · 3 tokens of prompt · not over\n--- prompt\nhello\n--- text · 1 token\nQ\n\n"
    )
    assert "--- text of sequence 0 · 2 tokens\nbc\ufffd\n" in text_of(sessions.trace(), 3, 4)
    assert "Paris is in [MASK] [mask 1] → france 90.0%" in text_of(readers.trace())
